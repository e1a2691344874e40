"""Text in UTF-8."""

from .decoder import Decoder


def read_text(payload: bytes) -> str:
    """One payload. Raises ValueError."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8") from None


TEXT = Decoder(read_text)
