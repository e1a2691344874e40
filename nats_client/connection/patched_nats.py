"""nats-py with the corrections that Lookback needs, and every private name of it and aiohttp that is used.

nats-py 2.16 reads the socket in one task. An invalid header block, a subject that is not UTF-8, or a PONG
for a flush that timed out raises there. Then the task ends, `is_connected` stays true and `flush` returns at
once. With a tls:// URL it sends the login in plain text to a server without TLS. Here, a bad message costs
at most itself; the end of the reader, flusher or pinger counts as a lost connection; and no login is sent in
plain text if TLS was requested.

If nats-py renamed a method that we replace, our guard would silently be lost. So METHODS and ATTRIBUTES list
every private name, and `check` compares them with what is installed before a client is created.
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
from .header_block import repeated_headers
from .settings import login_in

METHODS: dict[type, dict[str, str]] = {
    NatsPy: {
        "async _attempt_reconnect(self)": "retries after an error; does not wait for a frozen server",
        "_build_message(self, sid, subject, reply, data, headers)": "accepts subjects that are not UTF-8",
        "async _close(self, status, do_cbs=True)": "ends pending flushes; closes a reset socket too",
        "_connect_command(self)": "SECURITY: sends no login in plain text if TLS was requested",
        "async _flusher(self)": "if it ends, the connection counts as lost",
        "async _ping_interval(self)": "if it ends, the connection counts as lost",
        "async _process_connect_init(self)": "distinguishes a silent server from a slow one",
        "async _process_err(self, err_msg)": "keeps the case of a subject that is not permitted",
        "async _process_headers(self, headers)": "delivers a message whose headers are unreadable",
        "async _process_info(self, info, initial_connection=False)": "survives an invalid INFO",
        "async _process_msg(self, sid, subject, reply, data, headers)": "taps; isolates a bad message",
        "async _process_op_err(self, e)": "ends pending flushes; reports the end first",
        "async _process_pong(self)": "ignores the PONG of a flush that timed out",
        "async _read_loop(self)": "if it ends, the connection counts as lost; reads larger blocks",
    },
    Parser: {"async parse(self, data=b'')": "parses blocks of messages at once"},
    Endpoint: {"async _handle_request(self, msg)": "called concurrently for requests to one endpoint"},
}
"""Methods of nats-py that are replaced or called here: signature in nats-py and reason."""

ATTRIBUTES: dict[type, dict[str, str]] = {
    NatsPy: {
        "_current_server": "SECURITY: whether TLS was requested; the login in the URL",
        "_error_cb": "receives permission violations",
        "_flusher_task": "whether it has ended",
        "_inbox_prefix": "prefix of the inboxes that the login does not permit",
        "_pending": "is sent before a PING",
        "_pending_data_size": "as _pending",
        "_ping_interval_task": "whether it has ended",
        "_pings_outstanding": "is reset by the PONG of a flush that timed out",
        "_pongs": "pending flushes",
        "_pongs_received": "counts the PONG of a flush that timed out",
        "_ps": "the parser, replaced by one with taps",
        "_reading_task": "whether it has ended",
        "_resp_map": "whether requests are pending",
        "_resp_sub_prefix": "the inbox of requests",
        "_server_info": "the server's name and id; whether it checks logins",
        "_signature_cb": "SECURITY: which login is sent",
        "_status": "closes a half-closed connection; reconnects after an error",
        "_subs": "whether there are subscriptions",
        "_transport": "SECURITY: whether the connection has TLS; closes the socket",
    },
    TcpTransport: {"_io_writer": "SECURITY: whether the connection has TLS; closes the socket"},
    WebSocketTransport: {"_ws": "closes the socket"},
    Parser: {"buf": "received bytes not parsed yet", "state": "whether a message is incomplete"},
    Subscription: {"_id": "its sid on the wire", "_cb": "handles requests to an endpoint concurrently"},
    Service: {"_endpoints": "the endpoint that was just added"},
    Endpoint: {"_subscription": "its subscription"},
    Request: {"_msg": "its reply subject"},
}
"""Attributes of nats-py objects that are read or written here, and the reason."""

CALLBACKS = (
    "error_cb",
    "disconnected_cb",
    "closed_cb",
    "reconnected_cb",
    "discovered_server_cb",
    "lame_duck_mode_cb",
)
RETRY_AFTER = 1.0  # seconds, after an error while reconnecting
READ = 1 << 18
"""Bytes requested per read. This is asyncio's own maximum for a socket."""

_ERROR = re.compile(rb"-ERR\s+'?(.*?)'?\r\n")
_log = logging.getLogger(__name__)


class TaskEnded(nats.errors.Error):
    """The reader, flusher or pinger of a connection has ended."""


class Violation(nats.errors.Error):
    """The server reported that the login does not permit a subject. The connection stays open."""


@cache
def check() -> None:
    """Raises LookbackError if the installed nats-py lacks a name of METHODS or ATTRIBUTES, has it with other
    parameters, or never calls that method."""
    wrong = [*_wrong_methods(), *_wrong_attributes()]
    if wrong:
        raise LookbackError(
            f"The installed nats-py is not supported: {', '.join(wrong)}. No connection is made. Install the "
            "version in requirements.txt."
        )


@cache
def check_websockets() -> None:
    """Raises LookbackError if the installed aiohttp lacks the private name that closes a websocket. Loads
    aiohttp, which takes longer than everything else, so it is for ws:// and wss:// only."""
    from aiohttp import ClientWebSocketResponse

    if "_conn" not in names_in(ClientWebSocketResponse):
        raise LookbackError(
            "The installed aiohttp is not supported: it has no ClientWebSocketResponse._conn. No connection "
            "is made. Install the version in requirements.txt."
        )


def _wrong_methods() -> Iterator[str]:
    """Differences from METHODS, in words."""
    for owner, methods in METHODS.items():
        for wanted in methods:
            name = wanted.removeprefix("async ").partition("(")[0]
            shown, found = f"{owner.__name__}.{name}", vars(owner).get(name)
            if not inspect.isfunction(found):
                yield f"it has no {shown}"
            elif (head := written(found)) != wanted:
                yield f"{shown} is '{head}', expected '{wanted}'"
            elif not any(name in names_in(other, besides=name) for other in METHODS | ATTRIBUTES):
                yield f"it does not call {shown}"


def _wrong_attributes() -> Iterator[str]:
    """Differences from ATTRIBUTES, in words."""
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
        """Parse blocks of tapped messages here, and leave the rest to nats-py."""
        taps = self.taps
        if not taps.inboxes or self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        buffer = bytes(self.buf) + data if self.buf else data
        at = taps.take(buffer, 0)
        # Flow control messages have headers and come between others. Only they go to nats-py.
        while (stop := headed_end(buffer, at)) is not None:
            self.buf.clear()
            await super().parse(buffer[at:stop])
            at = taps.take(buffer, stop)
        self.buf[:] = buffer[at:]
        if self.buf and not taps.leaves(self.buf):
            await super().parse()


class SafeNatsPy(NatsPy):
    """A nats-py client with taps, whose tasks never end unnoticed, which never sends a login in plain text if
    TLS was requested, and which always closes. Raises LookbackError if check() does.

    If the server has reset the connection, nats-py fails to send pending data and stays half closed without
    an error.
    """

    def __init__(self) -> None:
        check()
        super().__init__()
        self.unreadable_headers = 0
        """Header blocks that could not be read; their messages were delivered without headers."""
        self.unreadable_messages = 0
        """Messages that could not be delivered."""
        self.ended = asyncio.Event()
        """Set when the connection has ended, or has to end."""
        self.failure: Exception | None = None
        """The newest reported error."""
        self.superseded = False
        """True if a connection with a newer token has taken over."""
        self.denied_inbox: tuple[str, float] | None = None
        """Inboxes that the login does not permit, and since when, on the monotonic clock."""
        self.taps = Taps()
        self._ps = TappedParser(self, self.taps)

    async def connect(self, *args: Any, **options: Any) -> None:
        """Like nats-py, but a callback that raises is only logged. Raises LookbackError if check_websockets()
        does."""
        for name in CALLBACKS:
            if inspect.iscoroutinefunction(options.get(name)):
                options[name] = _harmless(name, options[name])
        servers = args[0] if args else options.get("servers", "")
        if any(
            each.startswith(("ws://", "wss://"))
            for each in ([servers] if isinstance(servers, str) else servers)
        ):
            check_websockets()
        await super().connect(*args, **options)

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - nats-py's own signature
        """Like nats-py, but raises if the flusher or the reader has ended, so that no PONG can arrive.

        nats-py sends the PING before its pending data. Here it is sent after it, so that the server's errors
        about that data arrive before the PONG.
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
        """Deliver messages of `subscription` directly to `inbox` instead of its callback."""
        self.taps.inboxes[b"%d" % subscription._id] = inbox

    def untap(self, subscription: Subscription) -> None:
        """Undo `tap`."""
        self.taps.inboxes.pop(b"%d" % subscription._id, None)

    @property
    def server_info(self) -> dict[str, Any]:
        """The server's INFO, unchecked; empty before it arrives."""
        return self._server_info

    @property
    def is_idle(self) -> bool:
        """True if there is no subscription except the request inbox, and no pending request."""
        requests = 1 if self._resp_sub_prefix else 0
        return len(self._subs) <= requests and not self._resp_map

    @property
    def request_inbox(self) -> str:
        """Prefix of the reply subjects of requests; empty before the first request."""
        return bytes(self._resp_sub_prefix or b"").decode()

    @property
    def inbox_prefix(self) -> str:
        """Prefix of all inbox subjects."""
        return bytes(self._inbox_prefix).decode()

    @property
    def websocket(self) -> asyncio.Transport | None:
        """The socket of a websocket; None if there is none. aiohttp does not wait for the end of TLS, so the
        caller has to abort it."""
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
        # nats-py would send the URL's login percent-encoded, without decoding it.
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
        # nats-py passes it in lower case. The parser's buffer still has the original.
        if "permissions violation" in err_msg:
            found = _ERROR.match(self._ps.buf)
            text = found[1].decode("utf-8", "replace") if found else err_msg.strip("'")
            # Go quotes the subject and escapes quotes in it with a backslash.
            await self._error_cb(Violation(text.replace('\\"', '"').replace("\\\\", "\\")))
        else:
            await super()._process_err(err_msg)
            if not self.options["allow_reconnect"]:
                self.ended.set()  # nats-py is about to close it

    async def _process_op_err(self, e: Exception) -> None:
        if not self.options["allow_reconnect"]:
            self.ended.set()  # set first, because the rest waits for the socket
        self._fail_flushes()
        await super()._process_op_err(e)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._fail_flushes()
        try:
            await super()._close(status, do_cbs)
        except OSError:
            self._pending, self._pending_data_size = [], 0
            self._status = NatsPy.DISCONNECTED
            await super()._close(status, do_cbs)

    def _fail_flushes(self) -> None:
        """Fail all pending flushes: no PONG will arrive."""
        waiting, self._pongs = self._pongs, []
        for pong in waiting:
            if not pong.done():
                pong.set_exception(nats.errors.ConnectionClosedError())
                pong.exception()  # mark it as retrieved: no task awaits the pinger's

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
            # nats-py keeps one value of a repeated header. The block has two line ends besides its headers'.
            if found and (block := bytes(headers)).count(b"\r\n") > len(found) + 2:
                found |= {name: text for name, text in repeated_headers(block).items() if name in found}
            return found
        except Exception:
            self.unreadable_headers += 1
            if self.unreadable_headers == 1:
                _log.warning("A message has headers that cannot be parsed; it is delivered without them.")
            return None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        # Tapped messages with headers or between other frames; they stay in order with the blocks.
        inbox = self.taps.inboxes.get(b"%d" % sid)
        if inbox is not None:
            inbox.put(bytes(subject), bytes(reply), data, await self._process_headers(headers))
            return
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:
            self.unreadable_messages += 1
            if self.unreadable_messages == 1:
                _log.exception("Cannot deliver a message.")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        # The server accepts subjects that are not UTF-8.
        message: Msg = super()._build_message(sid, _readable(subject), _readable(reply), data, headers)
        return message

    async def _process_pong(self) -> None:
        # The PONG of a flush that timed out still arrives. It must not complete a later flush.
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if not isinstance(info, dict):
            raise nats.errors.ProtocolError("nats: INFO is not a JSON object")
        if "max_payload" in info and type(info["max_payload"]) is not int:
            raise nats.errors.ProtocolError("nats: max_payload in INFO is not an integer")
        try:
            await super()._process_info(info, initial_connection)
        except Exception:
            _log.warning("Cannot parse the server list in INFO; the servers of the setting 'url' are used.")

    async def _read_loop(self) -> None:
        # Larger reads make longer blocks, which cost less per message; nats-py reads 32 KB at a time.
        transport: Any = self._transport
        read = transport.read
        transport.read = lambda size: read(max(size, READ))
        await self._watched("reader", "_reading_task", super()._read_loop)

    async def _flusher(self) -> None:
        await self._watched("flusher", "_flusher_task", super()._flusher)

    async def _ping_interval(self) -> None:
        await self._watched("pinger", "_ping_interval_task", super()._ping_interval)

    async def _attempt_reconnect(self) -> None:
        self.abort()  # nats-py would wait until a frozen server accepts the pending data
        while True:
            try:
                return await super()._attempt_reconnect()
            except Exception as error:
                _log.warning("Reconnecting to NATS failed: %s.", type(error).__name__)
                self._status = NatsPy.RECONNECTING
                await asyncio.sleep(RETRY_AFTER)

    async def _watched(self, name: str, held: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`. If it ends on its own, the connection counts as lost."""
        try:
            await work()
        except Exception:
            _log.exception("The %s task of a NATS connection failed.", name)
        finally:
            if getattr(self, held) is asyncio.current_task():
                await self._lost(name)

    async def _lost(self, name: str) -> None:
        if self.is_connected or self.is_connecting or self.is_draining:
            await self._process_op_err(TaskEnded(f"nats: the {name} task of the connection ended"))


def reply_subject(request: Request) -> str:
    """The reply subject of a request; empty if no reply is wanted."""
    return request._msg.reply


async def add_endpoint(
    service: Service,
    name: str,
    subject: str,
    handler: Callable[[Request], Awaitable[None]],
    start: Callable[[Coroutine[Any, Any, None]], object],
) -> None:
    """Add an endpoint that handles requests concurrently: each is passed to `start` as a coroutine. nats-py
    alone handles them one after another. Messages without a reply subject are ignored."""
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
            _log.exception("The callback %r raised an error.", name)

    return called
