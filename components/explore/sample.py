"""Converts a stored message into the shortened form that tables show."""

from nats_client.feeds.health import LONGEST_PAYLOAD, Message, kept_headers
from nats_client.messages.stored import StoredMessage, joined


def sample_of(message: StoredMessage) -> Message:
    """The message with its payload and headers cut."""
    payload = message.payload
    return Message(
        message.seq,
        message.stored,
        message.subject,
        payload[:LONGEST_PAYLOAD],
        len(payload),
        kept_headers(joined(message.headers)),
    )
