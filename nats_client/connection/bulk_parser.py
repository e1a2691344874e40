"""Runs of messages taken off the wire at once, for inboxes that ask for it.

nats-py makes an object, a queue entry and a task switch of each message, which is most of what a replay
costs. Whole plain messages to a tapped inbox are appended to a list instead. Everything else, and whatever is
not recognised, is left to nats-py. `patched_nats.py` has the parser of nats-py that calls this.
"""

import asyncio
import re

import numpy as np

from .arrivals import BEFORE, Arrived, Run

_MESSAGE = re.compile(rb"MSG (\S+) (\d+) (\S+) (\d+)\r\n")
_SUBJECT = re.compile(BEFORE + rb"\S+")
_HEADED = re.compile(rb"HMSG \S+ \d+ (?:\S+ )?\d+ (\d+)\r\n")
_LARGE = 65536
"""Bytes from which on a message is left to nats-py, which does not copy what it waits for."""
_LONGEST_LINE = 4096
"""Bytes of a control line; without its end by then it is not one."""
_PIECE = 1 << 15
"""Bytes that are looked at for a run where all there are were none."""
_SHORTEST_RUN = 4096
"""Bytes of a buffer from which on a run is looked for in it."""


class Inbox:
    """Messages that have arrived, in order, and the event that says so."""

    def __init__(self) -> None:
        self.messages: list[Arrived] = []
        self.arrived = asyncio.Event()

    def put(self, subject: bytes, reply: bytes, payload: bytes, headers: dict[str, str] | None) -> None:
        """Take in one message."""
        self.messages.append((subject, reply, payload, headers))
        self.arrived.set()


class RunInbox(Inbox):
    """The same for a JetStream consumer; runs of messages stay together."""

    messages: list[Arrived | Run]  # type: ignore[assignment]


class Taps:
    """Inboxes by subscription, and what takes their messages out of what was read off the wire."""

    def __init__(self) -> None:
        self.inboxes: dict[bytes, Inbox] = {}
        """By the id that the subscription has on the wire."""
        self._mixed = False

    def leaves(self, buffer: bytes | bytearray) -> bool:
        """Whether what `buffer` begins with is left where it is until more bytes have come."""
        found = _MESSAGE.match(buffer)
        if found is not None and found[2] in self.inboxes and int(found[4]) < _LARGE:
            return True
        return b"\r\n" not in buffer[:_LONGEST_LINE] and len(buffer) < _LONGEST_LINE

    def take(self, buffer: bytes, at: int) -> int:
        """Put the messages for taps that stand at `at` into their inboxes; where what is something else, or
        not whole, begins."""
        step = len(buffer)
        while (found := _MESSAGE.match(buffer, at)) and (inbox := self.inboxes.get(found[2])):
            stop = min(len(buffer), at + step)
            if isinstance(inbox, RunInbox) and stop - at >= _SHORTEST_RUN:
                if taken := self._take_run(buffer[at:stop], found[2], found[3]):
                    run, length = taken
                    inbox.messages.append(run)
                    inbox.arrived.set()
                    at += length
                    continue
                if (headed := buffer.find(b"\r\nHMSG ", at, stop)) >= 0:
                    step = headed + 2 - at
                    continue
                if step > _PIECE:  # perhaps one message of another subscription is among them
                    step = _PIECE
                    continue
            before, at = at, self._take_each(buffer, at, stop)
            if at == before:
                break
        return at

    def _take_run(self, part: bytes, sid: bytes, reply: bytes) -> tuple[Run, int] | None:
        # Where the last was mixed with others, a look comes first: it costs an eighth of a try in vain.
        if self._mixed and part.count(common_to(sid, reply)) < part.count(b"\r\nMSG "):
            return None
        taken = take_run(part, sid, reply)
        self._mixed = taken is None
        return taken

    def _take_each(self, buffer: bytes, at: int, stop: int) -> int:
        """The same, one by one, for those that begin before `stop`."""
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
    """Where the message with headers at `at` ends; None where there is none, or it is not whole."""
    found = _HEADED.match(buffer, at)
    end = found.end() + int(found[1]) + 2 if found else len(buffer) + 1
    return end if end <= len(buffer) else None


def take_run(buffer: bytes, sid: bytes, reply: bytes) -> tuple[Run, int] | None:
    """The messages of a consumer with which `buffer` begins, and where they end; None where it holds anything
    else as well, or a payload of several lines: then each is looked at by itself. `sid` and `reply` are the
    first one's.

    The lines are taken apart first, and then must prove to be messages: all have the reply subject of this
    consumer but for its last four tokens, which are numbers, and each payload has as many bytes as were told.
    """
    tokens = reply.split(b".")
    # As in sequence.py. Of the second version, those with a last token of another kind are left out.
    if tokens[:2] != [b"$JS", b"ACK"] or len(tokens) not in (9, 11):
        return None
    common = common_to(sid, reply)
    lines = buffer.split(b"\r\n")
    lines.pop()  # what follows the last line's end
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
    told = np.fromstring(numbers.replace(b".", b" "), dtype=np.int64, sep=" ")
    lengths = np.fromiter(map(len, payloads), dtype=np.int64, count=count)
    if len(told) != 5 * count or not (told[4::5] == lengths).all():
        return None
    end = len(text) - count + 1 + int(lengths.sum()) + 4 * count
    return Run(subjects, told.reshape(count, 5)[:, :4], payloads), end


def common_to(sid: bytes, reply: bytes) -> bytes:
    """What stands between the subject and the numbers in all messages of the consumer that sent `reply`."""
    return b" %s %s." % (sid, b".".join(reply.split(b".")[:-4]))
