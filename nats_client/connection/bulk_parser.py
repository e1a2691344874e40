"""Parses blocks of messages at once, for tapped inboxes.

nats-py creates an object, a queue entry and a task switch per message, which is most of the cost of a replay.
Here, complete messages without headers are appended to the list of a tapped inbox. Everything else, and
anything not recognised, is left to nats-py. The parser in `patched_nats.py` calls this module.
"""

import asyncio
import re

import numpy as np

from .arrivals import BEFORE, Arrived, MessageBlock

_MESSAGE = re.compile(rb"MSG (\S+) (\d+) (\S+) (\d+)\r\n")
_SUBJECT = re.compile(BEFORE + rb"\S+")
_HEADED = re.compile(rb"HMSG \S+ \d+ (?:\S+ )?\d+ (\d+)\r\n")
_LARGE = 65536
"""Messages of at least this many bytes are left to nats-py, which does not copy a partial payload."""
_LONGEST_LINE = 4096
"""Maximum bytes of a control line in the NATS protocol."""
_PIECE = 1 << 15
"""Bytes to try for a block if the whole buffer is not one."""
_SHORTEST_BLOCK = 4096
"""Minimum bytes of a buffer in which to try for a block."""


class Inbox:
    """Arrived messages, in order, and an event that is set on arrival."""

    def __init__(self) -> None:
        self.messages: list[Arrived] = []
        self.arrived = asyncio.Event()

    def put(self, subject: bytes, reply: bytes, payload: bytes, headers: dict[str, str] | None) -> None:
        """Add one message."""
        self.messages.append((subject, reply, payload, headers))
        self.arrived.set()


class BlockInbox(Inbox):
    """An inbox for a JetStream consumer; it keeps blocks of messages together."""

    messages: list[Arrived | MessageBlock]  # type: ignore[assignment]


class Taps:
    """Tapped inboxes by subscription, and the parser that fills them."""

    def __init__(self) -> None:
        self.inboxes: dict[bytes, Inbox] = {}
        """Keyed by the subscription's id (sid)."""
        self._mixed = False

    def leaves(self, buffer: bytes | bytearray) -> bool:
        """True if `buffer` starts with an incomplete tapped message or control line, to be parsed here once
        more bytes have arrived."""
        found = _MESSAGE.match(buffer)
        if found is not None and found[2] in self.inboxes and int(found[4]) < _LARGE:
            return True
        return b"\r\n" not in buffer[:_LONGEST_LINE] and len(buffer) < _LONGEST_LINE

    def take(self, buffer: bytes, at: int) -> int:
        """Move consecutive tapped messages, starting at position `at`, into their inboxes. Returns the
        position of the first byte that is not part of a complete tapped message."""
        step = len(buffer)
        while (found := _MESSAGE.match(buffer, at)) and (inbox := self.inboxes.get(found[2])):
            stop = min(len(buffer), at + step)
            if isinstance(inbox, BlockInbox) and stop - at >= _SHORTEST_BLOCK:
                if taken := self._take_block(buffer[at:stop], found[2], found[3]):
                    block, length = taken
                    inbox.messages.append(block)
                    inbox.arrived.set()
                    at += length
                    continue
                if (headed := buffer.find(b"\r\nHMSG ", at, stop)) >= 0:
                    step = headed + 2 - at
                    continue
                if step > _PIECE:  # one message of another subscription may be in between
                    step = _PIECE
                    continue
            before, at = at, self._take_each(buffer, at, stop)
            if at == before:
                break
        return at

    def _take_block(self, part: bytes, sid: bytes, reply: bytes) -> tuple[MessageBlock, int] | None:
        # If the last try failed, check first: that costs an eighth of another failed try.
        if self._mixed and part.count(common_to(sid, reply)) < part.count(b"\r\nMSG "):
            return None
        taken = take_block(part, sid, reply)
        self._mixed = taken is None
        return taken

    def _take_each(self, buffer: bytes, at: int, stop: int) -> int:
        """Like take, one message at a time, for messages that begin before `stop`."""
        while at < stop and (found := _MESSAGE.match(buffer, at)):
            subject, sid, reply, size = found.groups()
            inbox = self.inboxes.get(sid)
            start = found.end()
            end = start + int(size)
            if inbox is None or end + 2 > len(buffer):
                break
            inbox.put(subject, reply, buffer[start:end], None)
            at = end + 2
        return at


def headed_end(buffer: bytes, at: int) -> int | None:
    """The end of the message with headers at `at`; None if there is none, or it is incomplete."""
    found = _HEADED.match(buffer, at)
    end = found.end() + int(found[1]) + 2 if found else len(buffer) + 1
    return end if end <= len(buffer) else None


def take_block(buffer: bytes, sid: bytes, reply: bytes) -> tuple[MessageBlock, int] | None:
    """Parse the consumer's messages at the start of `buffer`. Returns them and the position after them. None
    if the buffer holds anything else, or a payload of several lines; then the caller parses one by one. `sid`
    and `reply` are those of the first message.

    The buffer is split into lines first. Then every line pair is verified: all reply subjects belong to this
    consumer, their last four tokens are numbers, and each payload has the announced size.
    """
    tokens = reply.split(b".")
    # See sequence.py. Version 2 with an extra last token is not handled here.
    if tokens[:2] != [b"$JS", b"ACK"] or len(tokens) not in (9, 11):
        return None
    common = common_to(sid, reply)
    lines = buffer.split(b"\r\n")
    lines.pop()  # the incomplete last line
    count = len(lines) // 2
    payloads = lines[1 : 2 * count : 2]
    text = b"\n".join(lines[0 : 2 * count : 2])
    parts = text.replace(common, b"\n").split(b"\n")
    if len(parts) != 2 * count:
        return None
    subjects = parts[0::2]
    if not all(map(_SUBJECT.fullmatch, set(subjects))):
        return None
    numbers = b" ".join(parts[1::2])
    if numbers.translate(None, b"0123456789") != (b"...  " * count)[:-1]:
        return None
    values = np.fromstring(numbers.replace(b".", b" "), dtype=np.int64, sep=" ")
    lengths = np.fromiter(map(len, payloads), dtype=np.int64, count=count)
    if len(values) != 5 * count or not (values[4::5] == lengths).all():
        return None
    end = len(text) - count + 1 + int(lengths.sum()) + 4 * count
    return MessageBlock(subjects, values.reshape(count, 5)[:, :4], payloads), end


def common_to(sid: bytes, reply: bytes) -> bytes:
    """The bytes between subject and numbers in every message of the consumer that sent `reply`."""
    return b" %s %s." % (sid, b".".join(reply.split(b".")[:-4]))
