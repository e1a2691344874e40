"""nats-py as Lookback needs it, and every private name of nats-py that Lookback uses.

nats-py 2.16 reads the socket in one task. A header block that it cannot read, a subject that is not UTF-8,
or a PONG for a flush that was given up raises there; the task ends, `is_connected` stays true and `flush`
returns at once. With a tls:// URL it sends the login in plain text to a server that offers no TLS. Here one
message costs at most itself, the end of the reader, the flusher or the pinger is a lost connection, and no
login is sent in plain text where TLS was asked for.

A method that is replaced under a name that nats-py no longer calls would be a guard that is gone without a
word. So METHODS and ATTRIBUTES name all of it, and `check` compares them with the nats-py that is installed
before a client is made.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import cache
from typing import Any

import nats.errors
from nats.aio.client import Client as NatsPy
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport, WebSocketTransport
from nats.micro.request import Request
from nats.micro.service import Endpoint, Service
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from ..errors import LookbackError
from ..signatures import names_in, written
from .bulk_parser import Inbox, Taps, headed_end
from .connect_errors import Silent, TlsNotOffered
from .settings import login_in

METHODS: dict[type, dict[str, str]] = {
    NatsPy: {
        "async _attempt_reconnect(self)": "goes on after a mistake; a frozen server does not hold it up",
        "_build_message(self, sid, subject, reply, data, headers)": "subjects that are not UTF-8",
        "async _close(self, status, do_cbs=True)": "ends flushes; a socket that was reset is closed as well",
        "_connect_command(self)": "SECURITY: no login in plain text where TLS was asked for",
        "async _flusher(self)": "its end is a lost connection",
        "async _ping_interval(self)": "its end is a lost connection",
        "async _process_connect_init(self)": "tells a server that says nothing from one that is slow",
        "async _process_err(self, err_msg)": "subjects that are not permitted, as they were written",
        "async _process_headers(self, headers)": "headers that cannot be read cost no message",
        "async _process_info(self, info, initial_connection=False)": "an INFO that cannot be read",
        "async _process_msg(self, sid, subject, reply, data, headers)": "taps; one message costs itself only",
        "async _process_op_err(self, e)": "ends flushes; tells the end before the socket is closed",
        "async _process_pong(self)": "a PONG for a flush that was given up",
        "async _read_loop(self)": "its end is a lost connection; reads more at once",
    },
    Parser: {"async parse(self, data=b'')": "takes runs of messages off the wire at once"},
    Endpoint: {"async _handle_request(self, msg)": "requests to one endpoint are answered side by side"},
}
"""Methods that are replaced or called here, as they are written in nats-py, and what for."""

ATTRIBUTES: dict[type, dict[str, str]] = {
    NatsPy: {
        "_current_server": "SECURITY: whether TLS was asked for; the login in the URL",
        "_error_cb": "is told of subjects that are not permitted",
        "_flusher_task": "whether it has ended",
        "_inbox_prefix": "which inboxes the login does not permit",
        "_pending": "what waits to be sent goes before a PING",
        "_pending_data_size": "as _pending",
        "_ping_interval_task": "whether it has ended",
        "_pings_outstanding": "a PONG for a flush that was given up",
        "_pongs": "flushes that wait",
        "_pongs_received": "as _pings_outstanding",
        "_ps": "the parser, replaced by one with taps",
        "_reading_task": "whether it has ended",
        "_resp_map": "whether requests are under way",
        "_resp_sub_prefix": "the inbox of requests",
        "_server_info": "the server's name and id; whether it checks logins",
        "_signature_cb": "SECURITY: which login is sent",
        "_status": "closes what is half closed; tries anew after a mistake",
        "_subs": "whether anything is subscribed",
        "_transport": "SECURITY: whether the connection has TLS; ends the socket",
    },
    TcpTransport: {"_io_writer": "SECURITY: whether the connection has TLS; ends the socket"},
    WebSocketTransport: {"_ws": "ends the socket"},
    Parser: {"buf": "what came and is not taken yet", "state": "whether a message is half read"},
    Subscription: {"_id": "its id on the wire", "_cb": "requests to one endpoint side by side"},
    Service: {"_endpoints": "the endpoint that was just added"},
    Endpoint: {"_subscription": "its subscription"},
    Request: {"_msg": "where the answer goes to"},
}
"""What objects of nats-py hold that is read or written here, and what for."""

CALLBACKS = (
    "error_cb",
    "disconnected_cb",
    "closed_cb",
    "reconnected_cb",
    "discovered_server_cb",
    "lame_duck_mode_cb",
)
RETRY_AFTER = 1.0  # seconds, after a mistake while reconnecting
READ = 1 << 18
"""Bytes that are read at once, if there are so many; asyncio takes no more off a socket."""

_ERROR = re.compile(rb"-ERR\s+'?(.*?)'?\r\n")
_log = logging.getLogger(__name__)


class TaskEnded(nats.errors.Error):
    """A task without which a connection is deaf or mute has ended."""


class Violation(nats.errors.Error):
    """What the server says when the login does not permit a subject; the connection goes on."""


@cache
def check() -> None:
    """Raises LookbackError where the nats-py that is installed lacks a name of METHODS or ATTRIBUTES, has it
    with other parameters, or has a method under that name which it does not call."""
    wrong = [*_wrong_methods(), *_wrong_attributes()]
    if wrong:
        raise LookbackError(
            f"This nats-py is not the one that Lookback is made for: {', '.join(wrong)}. No connection is "
            "made. Install the version that requirements.txt names."
        )


def _wrong_methods() -> Iterator[str]:
    """What is not as METHODS says, in words."""
    for owner, methods in METHODS.items():
        for wanted in methods:
            name = wanted.removeprefix("async ").partition("(")[0]
            shown, found = f"{owner.__name__}.{name}", vars(owner).get(name)
            if not inspect.isfunction(found):
                yield f"it has no {shown}"
            elif (head := written(found)) != wanted:
                yield f"{shown} is '{head}' there and not '{wanted}'"
            elif not any(name in names_in(other, besides=name) for other in METHODS | ATTRIBUTES):
                yield f"it does not call {shown}"


def _wrong_attributes() -> Iterator[str]:
    """What is not as ATTRIBUTES says, in words."""
    for owner, attributes in ATTRIBUTES.items():
        used = names_in(owner)
        held = vars(NatsPy()) if owner is NatsPy else used
        yield from (
            f"it has no {owner.__name__}.{name}"
            for name in attributes
            if name not in used or name not in held
        )


class TappedParser(Parser):
    """nats-py's parser, with taps."""

    def __init__(self, client: NatsPy, taps: Taps) -> None:
        super().__init__(client)
        self.taps = taps

    async def parse(self, data: bytes = b"") -> None:
        """Take what can be taken at once, and leave the rest to nats-py."""
        taps = self.taps
        if not taps.inboxes or self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        buffer = bytes(self.buf) + data if self.buf else data
        at = taps.take(buffer, 0)
        # Flow control comes between messages, with headers; nats-py gets it without what is behind it.
        while (stop := headed_end(buffer, at)) is not None:
            self.buf.clear()
            await super().parse(buffer[at:stop])
            at = taps.take(buffer, stop)
        self.buf[:] = buffer[at:]
        if self.buf and not taps.leaves(self.buf):
            await super().parse()


class SafeNatsPy(NatsPy):
    """nats-py whose tasks do not end unnoticed, which never sends a login in plain text where TLS was asked
    for, which always gets closed, and which has taps. Raises LookbackError where nats-py is another one than
    this is made for.

    Where the server has reset the connection, what is still to be sent fails, and nats-py stops half closed
    without telling anybody.
    """

    def __init__(self) -> None:
        check()
        super().__init__()
        self.unreadable_headers = 0
        """Header blocks that could not be read; their messages were delivered without headers."""
        self.unreadable_messages = 0
        """Messages that could not be delivered."""
        self.ended = asyncio.Event()
        """Set when the connection has ended, or must."""
        self.failure: Exception | None = None
        """The newest error that was told."""
        self.superseded = False
        """Whether a connection with a newer token has taken over."""
        self.deaf: tuple[str, float] | None = None
        """Inboxes that the login does not permit, and since when by the monotonic clock."""
        self.taps = Taps()
        self._ps = TappedParser(self, self.taps)

    async def connect(self, *args: Any, **options: Any) -> None:
        """As nats-py does it; a callback that raises is logged, and ends nothing."""
        for name in CALLBACKS:
            if inspect.iscoroutinefunction(options.get(name)):
                options[name] = _harmless(name, options[name])
        await super().connect(*args, **options)

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - nats-py's own signature
        """As nats-py does it, but raises where nobody is left to send the PING or to hear the PONG.

        The PING of nats-py goes past what waits to be sent: here it is behind that, so that what the server
        has to say to it comes before the answer.
        """
        if self.is_connected and self._transport is not None and self._pending:
            waiting, self._pending, self._pending_data_size = self._pending, [], 0
            self._transport.writelines(waiting)
        if not self.is_closed and not self.is_reconnecting:
            for name, task in (("reader", self._reading_task), ("flusher", self._flusher_task)):
                if task is None or task.done():
                    await self._lost(name)
                    raise nats.errors.ConnectionClosedError
        await super().flush(timeout)

    def tap(self, subscription: Subscription, inbox: Inbox) -> None:
        """Have messages of `subscription` put into `inbox` at once, in place of its callback."""
        self.taps.inboxes[b"%d" % subscription._id] = inbox

    def untap(self, subscription: Subscription) -> None:
        """Undo `tap`."""
        self.taps.inboxes.pop(b"%d" % subscription._id, None)

    @property
    def server_info(self) -> dict[str, Any]:
        """What the server has said of itself, as it came; empty before that."""
        return self._server_info

    @property
    def is_idle(self) -> bool:
        """Whether nothing is subscribed but the inbox of requests, and none of those is under way."""
        requests = 1 if self._resp_sub_prefix else 0
        return len(self._subs) <= requests and not self._resp_map

    @property
    def request_inbox(self) -> str:
        """What the subjects of answers to requests begin with; empty before the first request."""
        return bytes(self._resp_sub_prefix or b"").decode()

    @property
    def inbox_prefix(self) -> str:
        """What the subjects of all inboxes begin with."""
        return bytes(self._inbox_prefix).decode()

    @property
    def websocket(self) -> asyncio.Transport | None:
        """The socket below a websocket, None where there is none. aiohttp does not wait for the end of
        TLS, so that somebody has to end it."""
        connection = getattr(getattr(self._transport, "_ws", None), "_conn", None)
        found: asyncio.Transport | None = getattr(connection, "transport", None)
        return found

    def abort(self) -> None:
        """End the TCP connection, whether or not the other side still reads."""
        if writer := getattr(self._transport, "_io_writer", None):
            writer.transport.abort()

    def _connect_command(self) -> bytes:
        server = self._current_server
        assert server is not None
        wanted = server.uri.scheme == "tls" or "tls" in self.options
        writer = getattr(self._transport, "_io_writer", None)
        plain = writer is None or writer.get_extra_info("ssl_object") is None
        if wanted and plain and server.uri.scheme not in ("ws", "wss"):
            raise TlsNotOffered
        if server.uri.username is None or self._signature_cb or self.options["user"] or self.options["token"]:
            return super()._connect_command()
        # nats-py would send what stands in the URL as it stands there, percent-encoded
        login = login_in(server.uri)
        options, self.options = self.options, {**self.options, **login}
        try:
            return super()._connect_command()
        finally:
            self.options = options

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except TimeoutError:
            raise (TimeoutError if self._server_info else Silent) from None

    async def _process_err(self, err_msg: str) -> None:
        # nats-py has put it in lower case; as it came, it still stands in the parser's buffer.
        if "permissions violation" in err_msg:
            found = _ERROR.match(self._ps.buf)
            told = found[1].decode("utf-8", "replace") if found else err_msg.strip("'")
            # Go writes a subject in quotes, and what is a quote in it with a backslash.
            await self._error_cb(Violation(told.replace('\\"', '"').replace("\\\\", "\\")))
        else:
            await super()._process_err(err_msg)
            if not self.options["allow_reconnect"]:
                self.ended.set()  # it is about to be closed

    async def _process_op_err(self, e: Exception) -> None:
        if not self.options["allow_reconnect"]:
            self.ended.set()  # before the rest, which waits for the socket
        self._tell_flushes()
        await super()._process_op_err(e)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._tell_flushes()
        try:
            await super()._close(status, do_cbs)
        except OSError:
            self._pending, self._pending_data_size = [], 0
            self._status = NatsPy.DISCONNECTED
            await super()._close(status, do_cbs)

    def _tell_flushes(self) -> None:
        """End each flush that waits for a PONG: there will be none."""
        waiting, self._pongs = self._pongs, []
        for pong in waiting:
            if not pong.done():
                pong.set_exception(nats.errors.ConnectionClosedError())
                pong.exception()  # nobody waits for that of the pinger

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except Exception:
            self.unreadable_headers += 1
            if self.unreadable_headers == 1:
                _log.warning("A message came with headers that cannot be read; it is taken without them.")
            return None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        # Those with headers, and those between other frames; in order with the ones taken at once.
        inbox = self.taps.inboxes.get(b"%d" % sid)
        if inbox is not None:
            inbox.put(bytes(subject), bytes(reply), data, await self._process_headers(headers))
            return
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:
            self.unreadable_messages += 1
            if self.unreadable_messages == 1:
                _log.exception("A message could not be delivered.")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        # The server lets subjects pass that are not UTF-8
        message: Msg = super()._build_message(sid, _readable(subject), _readable(reply), data, headers)
        return message

    async def _process_pong(self) -> None:
        # Whose flush was given up still has its PONG to come: it is taken for that flush, and for no other
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if not isinstance(info, dict):
            raise nats.errors.ProtocolError("nats: INFO is no object")
        if "max_payload" in info and type(info["max_payload"]) is not int:
            raise nats.errors.ProtocolError("nats: max_payload in INFO is no number")
        try:
            await super()._process_info(info, initial_connection)
        except Exception:
            _log.warning("The servers that NATS tells of cannot be read; those in the settings remain.")

    async def _read_loop(self) -> None:
        # What a run costs in itself is shared by all of its messages: nats-py reads 32 KB at a time.
        transport: Any = self._transport
        read = transport.read
        transport.read = lambda size: read(max(size, READ))
        await self._watched("reader", "_reading_task", super()._read_loop)

    async def _flusher(self) -> None:
        await self._watched("flusher", "_flusher_task", super()._flusher)

    async def _ping_interval(self) -> None:
        await self._watched("pinger", "_ping_interval_task", super()._ping_interval)

    async def _attempt_reconnect(self) -> None:
        self.abort()  # nats-py would wait until a frozen server has taken what is still to be sent
        while True:
            try:
                return await super()._attempt_reconnect()
            except Exception as error:
                _log.warning("Reconnecting to NATS failed: %s.", type(error).__name__)
                self._status = NatsPy.RECONNECTING
                await asyncio.sleep(RETRY_AFTER)

    async def _watched(self, name: str, held: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work`, whose end is the end of the connection unless somebody has ended that before."""
        try:
            await work()
        except Exception:
            _log.exception("The %s of a connection to NATS has failed.", name)
        finally:
            if getattr(self, held) is asyncio.current_task():
                await self._lost(name)

    async def _lost(self, name: str) -> None:
        if self.is_connected or self.is_connecting or self.is_draining:
            await self._process_op_err(TaskEnded(f"nats: the {name} of the connection has ended"))


def reply_subject(request: Request) -> str:
    """Where the answer to a request goes to; empty where none is wanted."""
    return request._msg.reply


async def add_endpoint(
    service: Service,
    name: str,
    subject: str,
    handler: Callable[[Request], Awaitable[None]],
    start: Callable[[Coroutine[Any, Any, None]], object],
) -> None:
    """Add an endpoint whose requests are handled side by side: each is given to `start` as a coroutine. With
    nats-py alone, one waits until the answer to the one before has ended. Messages that want no answer are
    left alone."""
    await service.add_endpoint(name=name, subject=subject, handler=handler)
    endpoint = service._endpoints[-1]
    assert endpoint._subscription is not None

    async def at_once(message: Msg) -> None:
        if message.reply:
            start(endpoint._handle_request(message))

    endpoint._subscription._cb = at_once


def _readable(subject: bytes) -> bytes:
    return bytes(subject).decode("utf-8", "replace").encode()


def _harmless(
    name: str, callback: Callable[..., Coroutine[Any, Any, None]]
) -> Callable[..., Coroutine[Any, Any, None]]:
    async def called(*args: Any) -> None:
        try:
            await callback(*args)
        except Exception:
            _log.exception("The callback %r failed.", name)

    return called
