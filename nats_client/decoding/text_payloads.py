"""Decodes UTF-8 text."""

from .decoder import Decoder


def read_text(payload: bytes) -> str:
    """Decode one payload. Raises ValueError if it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


TEXT = Decoder(read_text)
