"""Reads the headers of a message (ADR-4 of https://github.com/nats-io/nats-architecture-and-design)."""

OWN = ("nats-", "kv-")
"""Prefixes of the headers that servers and clients act on. If one is repeated, they read its first value."""


def read_headers(block: bytes) -> dict[str, str]:
    """Parse a block of headers: a version line, then one line per header. The values of a repeated header are
    joined by a comma and a space, as in HTTP. If its name begins with one of OWN, its first value is kept."""
    return {name: _joined(name, values) for name, values in _values(block).items()}


def repeated_headers(block: bytes) -> dict[str, str]:
    """The headers that a block contains more than once, as read_headers() returns them."""
    return {name: _joined(name, values) for name, values in _values(block).items() if len(values) > 1}


def header_lines(block: bytes) -> list[tuple[str, str]]:
    """Name and value of each header of a block, in order; a name may occur more than once."""
    lines = (line.partition(":") for line in block.decode("utf-8", "replace").split("\r\n")[1:])
    return [(name, value.strip()) for name, colon, value in lines if colon]


def _values(block: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in header_lines(block):
        found.setdefault(name, []).append(value)
    return found


def _joined(name: str, values: list[str]) -> str:
    return values[0] if name.lower().startswith(OWN) else ", ".join(values)
