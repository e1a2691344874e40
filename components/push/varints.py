"""Numbers in as few bytes as they need."""


def varints(*numbers: int) -> bytes:
    """Encode non-negative numbers as unsigned LEB128: seven bits per byte, lowest first, the top bit set on
    all but the last byte."""
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)
