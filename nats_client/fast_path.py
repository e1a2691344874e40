"""Runs of messages taken off the wire at once, for inboxes that ask for it.

nats-py makes an object, a queue entry and a task switch of each message, which is most of what a replay
costs. This parser is nats-py's own, but for whole plain messages to a tapped inbox, which it appends to
a list. Everything else, and whatever it does not recognise, is left to nats-py. It leans on names that
nats-py does not promise (`_ps`, `_process_msg`); where they are gone, `tap` says so and messages come the
ordinary way, through the subscription's callback. The file can be deleted together with its two calls.
"""

import asyncio
import re
from typing import Any

from nats.aio.client import Client as NatsPy
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_MESSAGE = re.compile(rb"MSG (\S+) (\d+) (\S+) (\d+)\r\n")
_LARGE = 65536
"""Bytes from which on a message is left to nats-py, which does not copy what it waits for."""
_LONGEST_LINE = 4096
"""Bytes of a control line; without its end by then it is not one."""

Arrived = tuple[bytes, bytes, bytes, dict[str, str] | None]
"""Subject, reply subject, payload, headers."""


class Inbox:
    """Messages that have arrived, in order, and the event that says so."""

    def __init__(self) -> None:
        self.messages: list[Arrived] = []
        self.arrived = asyncio.Event()

    def put(self, subject: bytes, reply: bytes, payload: bytes, headers: dict[str, str] | None) -> None:
        """Take in one message."""
        self.messages.append((subject, reply, payload, headers))
        self.arrived.set()


class BulkParser(Parser):
    """nats-py's parser, with taps."""

    def __init__(self, client: "TappedNatsPy") -> None:
        super().__init__(client)
        self.taps: dict[bytes, Inbox] = {}

    async def parse(self, data: bytes = b"") -> None:
        """Take what can be taken at once, and leave the rest to nats-py."""
        if not self.taps or self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        buffer = bytes(self.buf) + data if self.buf else data
        at, end = 0, len(buffer)
        taps, match = self.taps, _MESSAGE.match
        inbox: Inbox | None = None
        waiting = False
        while found := match(buffer, at):
            subject, sid, reply, size = found.groups()
            tapped = taps.get(sid)
            if tapped is None:
                break
            start = found.end()
            stop = start + int(size)
            if stop + 2 > end:
                waiting = stop - start < _LARGE
                break
            inbox = tapped
            inbox.messages.append((subject, reply, buffer[start:stop], None))
            at = stop + 2
        if inbox is not None:
            for tapped in taps.values():
                if tapped.messages:
                    tapped.arrived.set()
        self.buf[:] = buffer[at:]
        unfinished = b"\r\n" not in self.buf[:_LONGEST_LINE] and len(self.buf) < _LONGEST_LINE
        if self.buf and not waiting and not unfinished:
            await super().parse()


class TappedNatsPy(NatsPy):
    """nats-py with a parser that has taps."""

    def __init__(self) -> None:
        super().__init__()
        self._bulk = BulkParser(self) if type(getattr(self, "_ps", None)) is Parser else None
        if self._bulk is not None:
            self._ps = self._bulk

    def tap(self, subscription: Subscription, inbox: Inbox) -> bool:
        """Have messages of `subscription` put into `inbox` at once, in place of its callback; whether
        this nats-py allows it."""
        if self._bulk is None or not hasattr(NatsPy, "_process_msg"):
            return False
        self._bulk.taps[b"%d" % subscription._id] = inbox
        return True

    def untap(self, subscription: Subscription) -> None:
        """Undo `tap`."""
        if self._bulk is not None:
            self._bulk.taps.pop(b"%d" % subscription._id, None)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        # Those with headers, and those between other frames; in order with the ones taken at once.
        inbox = self._bulk.taps.get(b"%d" % sid) if self._bulk is not None else None
        if inbox is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            inbox.put(bytes(subject), bytes(reply), data, await self._process_headers(headers))
