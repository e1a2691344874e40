"""A NATS connection that reconnects by itself, on the client's event loop.

Each time a connection ends, a new nats-py client is created. nats-py's own reconnecting gives up for good on
an expired login, and hides why a first connect fails. A token is renewed by a second connection, which takes
over before the first one ends: readers move to it, and pending requests finish on the first.
"""

import asyncio
import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import nats.errors
from nats.aio.msg import Msg

from ..errors import (
    LoginRefused,
    LookbackError,
    MessageNotFound,
    NoResponders,
    NotPermitted,
    RequestFailed,
    RequestRefused,
    ServerUnreachable,
    SettingsError,
    StreamNotFound,
    TlsFailed,
    TokenRefused,
    TokenUnavailable,
)
from ..events import Events
from .connect_errors import connect_error, limit_reached, plain_reason, reset_reason, root_cause, where_is
from .patched_nats import SafeNatsPy, Violation
from .replays import Replays
from .role_jwt import SUBJECT as TOKENS
from .role_jwt import Rights, Token, TokenRequest, role_not_enforced, token_ended, token_rejected
from .settings import Settings, without_credentials
from .stream_infos import StreamInfos

CONNECT_TIMEOUT = 2  # seconds; nats-py takes whole ones
REQUEST_TIMEOUT = 3.0  # seconds
LIST_TIMEOUT = 8.0  # seconds; nats-server waits 4 s for nodes that do not answer, and then lists the others
LISTS = ("STREAM.LIST", "CONSUMER.LIST.")
RETRY_AFTER = (0.1, 0.5, 1.0, 2.0)  # seconds; the last one repeats
TOKEN_RETRY = 5.0  # seconds between requests for a token while there is none
RETRY_REFUSED = 5.0  # seconds, instead of the last one, if a setting or login must be corrected first
STEADY = 5.0  # seconds after which a connection counts as stable and resets the back-off
PING_INTERVAL = 5  # seconds; two unanswered pings end the connection
INBOX_RETRY = 2.0  # seconds between retries if the login does not permit the inbox
IDLE_CHECK = 0.2  # seconds between checks of whether a superseded connection is still used
MOST_LOGGED = 100  # kinds of permission violations to log, of those that no reader waits for
PONG_TIMEOUT = 3  # seconds that a server in doubt has to answer a PING

REFUSED = (LoginRefused, SettingsError, TlsFailed)
NOT_FOUND = {10059: StreamNotFound, 10037: MessageNotFound}
# https://github.com/nats-io/nats-server/blob/main/server/errors.json
NO_JETSTREAM = (10039, 10076)
UNAVAILABLE = 503  # the code of temporary errors, such as a cluster without a leader

_log = logging.getLogger(__name__)
_NUID = re.compile(r"(?<=\.)[0-9A-Za-z]{22}(?=\.|$)")


@dataclass(frozen=True)
class ConnectionState:
    """The state of the connection, as shown to viewers."""

    status: Literal["connecting", "connected", "reconnecting", "closed"]
    """"connecting" until the first connection, "reconnecting" after one was lost."""
    since: float
    """When this status began, seconds since the epoch."""
    server: str | None = None
    """URL of the server we are, or were last, connected to; without credentials."""
    server_name: str | None = None
    """The name that the server gives itself."""
    error: LookbackError | None = None
    """Why there is no connection."""


class Connection:
    """Keeps one nats-py client connected. Everything here runs on one event loop."""

    def __init__(self, settings: Settings, *, of_replays: bool = False) -> None:
        """`of_replays`: its name in the log and in the server's monitoring says that replays use it."""
        self.settings = settings
        self.state = ConnectionState("connecting", time.time())
        self.events = Events("replay connection" if of_replays else "connection")
        """The events of this connection."""
        self._name = f"{settings.name} replays" if of_replays else settings.name
        self.why_closed = ""
        """The reason in the last event. Set it before run() is cancelled."""
        self.reconnects = 0
        self.tried = threading.Event()
        """Set once the first attempt to connect has succeeded or failed."""
        self.rights = Rights.of(settings)
        """What the login may see, as far as it is known."""
        self.replays = Replays(self, lambda: Connection(settings, of_replays=True))
        """The connection for replays, so that nothing here waits behind one."""
        self.infos = StreamInfos(self.api)
        self._nats: SafeNatsPy | None = None
        self._token: Token | None = None
        self._renewal_failed: LookbackError | None = None
        self._early = 0.0  # seconds by which the server ends tokens early, because its clock is ahead
        self._open: set[SafeNatsPy] = set()
        self._renewing: asyncio.Task[tuple[SafeNatsPy, Token | None]] | None = None
        self._before: set[asyncio.Task[None]] = set()  # superseded connections that are still in use
        self._connected = asyncio.Event()
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._logged: set[str] = set()  # kinds of permission violations
        domain = f"$JS.{settings.domain}.API" if settings.domain else "$JS.API"
        self.api_prefix = settings.api_prefix or domain
        """Prefix of the JetStream API's subjects, usually `$JS.API`."""

    async def run(self) -> None:
        """Connect, and reconnect whenever the connection ends, until cancelled."""
        attempt = 0
        try:
            while True:
                for server in self.settings.servers:
                    try:
                        self._nats, self._token = await self._connect(server)
                    except Exception as error:
                        self._failed(server, error)
                        continue
                    began = time.monotonic()
                    await self._while_connected(server)
                    attempt = 0 if time.monotonic() - began > STEADY else attempt
                pause = RETRY_AFTER[min(attempt, len(RETRY_AFTER) - 1)]
                if attempt >= len(RETRY_AFTER) and isinstance(self.state.error, REFUSED):
                    pause = RETRY_REFUSED
                if attempt and isinstance(self.state.error, TokenRefused | TokenUnavailable):
                    pause = TOKEN_RETRY
                await asyncio.sleep(pause)
                attempt += 1
        finally:
            self._set("closed", why=self.why_closed)

    async def close(self) -> None:
        """Close all connections. Call it after run() was cancelled."""
        await self.replays.close()
        await end_tasks([*self._before, *([self._renewing] if self._renewing else [])])
        await asyncio.gather(*map(self._close, list(self._open)))

    async def ready(self) -> SafeNatsPy:
        """Wait for the connected nats-py client."""
        while True:
            await self._connected.wait()
            if self._nats is not None and self._nats.is_connected:
                return self._nats
            await asyncio.sleep(0.01)  # the connection has just ended, and run() is about to notice

    @property
    def inboxes(self) -> str:
        """The inbox subjects that the login must permit to subscribe to."""
        prefix = self._token.inbox_prefix if self._token else self.settings.inbox_prefix
        return f"{prefix}.>"

    def has_moved(self, client: SafeNatsPy) -> bool:
        """True if another connection has taken over from `client`, which will be closed soon. A reconnect
        after a loss is not a takeover."""
        return client.superseded and self._nats is not None and self._nats.is_connected

    async def api(self, subject: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to the JetStream API at `$JS.API.{subject}` and return the reply.

        Raises StreamNotFound; MessageNotFound; RequestRefused if the server refuses or does not permit it;
        RequestFailed if it does not answer within 3 s (a list: 8 s), or cannot at the moment.
        https://docs.nats.io/reference/reference-protocols/nats_api_reference
        """
        full = f"{self.api_prefix}.{subject}"
        async with asyncio.timeout(REQUEST_TIMEOUT):
            client = await self.ready()
        try:
            patience = LIST_TIMEOUT if subject.startswith(LISTS) else REQUEST_TIMEOUT
            reply = await self.request(client, full, json.dumps(payload or {}).encode(), patience)
        except nats.errors.NoRespondersError:
            raise NoResponders(f"No responders at {full!r}: {self._why_no_responders()}") from None
        except (TimeoutError, nats.errors.Error, ConnectionError) as error:
            raise RequestFailed(f"The request to {full!r} failed: {plain_reason(error)}.") from error
        answer: dict[str, Any] = json.loads(reply.data)
        if failure := answer.get("error"):
            code = failure.get("err_code")
            if code in NO_JETSTREAM:
                raise RequestRefused(
                    f"JetStream is not enabled for this account (error code {code}). Ask the server's "
                    "administrator to enable it. For streams behind a leaf node, set 'domain'; for another "
                    "account's streams, set 'api_prefix'."
                )
            if limit := limit_reached(code):
                raise RequestRefused(limit)
            passing = failure.get("code") == UNAVAILABLE
            kind = NOT_FOUND.get(code, RequestFailed if passing else RequestRefused)
            raise kind(f"{failure.get('description', 'unknown error')} (error code {code})")
        return answer

    def _why_no_responders(self) -> str:
        if domain := self.settings.domain:
            return (
                f"the JetStream domain {domain!r} cannot be reached. Check 'domain', and that the leaf node "
                "is connected to its hub."
            )
        if prefix := self.settings.api_prefix:
            return f"this account does not import a JetStream API at {prefix!r}. Check 'api_prefix'."
        return (
            "JetStream is not enabled on the server or for this account. Behind a leaf node, set 'domain'; "
            "for another account's streams, set 'api_prefix'."
        )

    async def request(
        self,
        client: SafeNatsPy,
        subject: str,
        payload: bytes,
        timeout: float,  # noqa: ASYNC109 - nats-py's own, which ends the request and nothing else
        headers: dict[str, str] | None = None,
    ) -> Msg:
        """Send a request and return the reply. `timeout` is in seconds. Raises RequestRefused at once if the
        login does not permit it, and nats-py's errors, such as NoRespondersError and TimeoutError."""
        self.check_inbox(client)
        request = asyncio.ensure_future(client.request(subject, payload, timeout=timeout, headers=headers))
        lost = asyncio.ensure_future(client.ended.wait())
        try:
            with self.denial(subject) as denied:
                first: set[asyncio.Future[Any]] = {request, denied, lost}
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            self.check_inbox(client)
            if denied.done():
                raise not_permitted("to send requests to", subject)
            if lost.done() and not request.done():
                raise ConnectionResetError("the connection was lost")
            return await request
        finally:
            request.cancel()
            lost.cancel()

    def check_inbox(self, client: SafeNatsPy) -> None:
        """Raises RequestRefused if the login does not permit an inbox, which every reply needs."""
        if client.denied_inbox is not None:
            inbox, since = client.denied_inbox
            if time.monotonic() - since > INBOX_RETRY:
                client.ended.set()  # nats-py subscribes to its inbox only once per connection
            raise not_permitted("to subscribe to", inbox)

    @contextlib.contextmanager
    def denial(self, subject: str) -> "Iterator[asyncio.Future[None]]":
        """A future that is done as soon as the server reports that the login does not permit `subject`. With
        ".token.", it matches any subject with that token in the middle."""
        denied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(subject.lower(), set())
        waiting.add(denied)
        try:
            yield denied
        finally:
            waiting.discard(denied)
            if not waiting:
                self._waiting.pop(subject.lower(), None)

    async def check(self) -> bool:
        """Send a PING; True if the server answers. Otherwise the connection is ended and the next server
        tried.

        Without this, a frozen server, or a cut without a FIN, leaves the connection open until its pings time
        out.
        """
        client = self._nats
        if client is None or not client.is_connected:
            return False
        try:
            await client.flush(PONG_TIMEOUT)
        except (TimeoutError, nats.errors.Error, OSError):
            client.failure = TimeoutError()
            client.ended.set()
        return client.is_connected and not client.ended.is_set()

    async def _connect(self, server: str) -> tuple[SafeNatsPy, Token | None]:
        """A connection, and its token if the settings name a role."""
        if not self.settings.role:
            return await self._log_in(server, self.settings.login(), self.settings.inbox_prefix), None
        token = await self._new_token(server, self.settings.role)
        try:
            client = await self._log_in(server, token.login(), token.inbox_prefix)
        except nats.errors.Error as error:
            if "authorization" in str(error).lower() or "authentication" in str(error).lower():
                raise token_rejected(self.settings.role, where_is(server)) from None
            raise
        if "nonce" not in client.server_info:
            await self._close(client)
            raise role_not_enforced(self.settings.role, where_is(server))
        self.rights = token.rights
        return client, token

    async def _new_token(self, server: str, role: str) -> Token:
        """Request a token, on a connection opened for this one request."""
        client = await self._log_in(server, self.settings.login(), self.settings.inbox_prefix)
        token_request = TokenRequest(role)
        try:
            reply = await self.request(client, TOKENS, token_request.payload, REQUEST_TIMEOUT)
            return token_request.token(reply, self._early)
        except TokenRefused:
            self.rights = Rights.of(self.settings)
            raise
        except (RequestRefused, nats.errors.Error, TimeoutError, OSError) as error:
            raise token_request.failed(error) from None
        finally:
            await self._close(client)

    async def _log_in(self, server: str, login: dict[str, Any], inbox_prefix: str) -> SafeNatsPy:
        options = dict(login)
        if context := self.settings.ssl_context():
            options["tls"] = context
        if self.settings.tls_hostname:
            options["tls_hostname"] = self.settings.tls_hostname
        if self.settings.tls_handshake_first:
            options["tls_handshake_first"] = True
        client = SafeNatsPy()
        self._open.add(client)

        async def on_error(error: Exception) -> None:
            if isinstance(error, Violation):
                self._note_denial(client, str(error))
            else:
                client.failure = error

        async def on_closed() -> None:
            client.ended.set()

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT * 3):
                await client.connect(
                    [server],
                    name=self._name,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # 0 would mean: for ever
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_TIMEOUT,
                    ping_interval=PING_INTERVAL,
                    inbox_prefix=inbox_prefix,
                    error_cb=on_error,
                    closed_cb=on_closed,
                    **options,
                )
        except (OSError, nats.errors.NoServersError) as error:
            await self._close(client)
            # NoServersError hides the reason
            reason = client.failure or error if isinstance(error, nats.errors.NoServersError) else error
            if isinstance(root_cause(reason), ConnectionResetError | BrokenPipeError):
                raise await reset_reason(self.settings, server) or reason from None
            raise reason from reason.__cause__
        except BaseException:
            await self._close(client)
            raise
        return client

    async def _while_connected(self, server: str) -> None:
        assert self._nats is not None
        info = self._nats.server_info
        self.state = ConnectionState(
            "connected", time.time(), without_credentials(server), info.get("server_name")
        )
        self.events.note("connected", self.state.server)
        self._connected.set()
        self.tried.set()
        while await self._has_renewed(server):
            pass
        client, token = self._nats, self._token
        self._connected.clear()
        self.reconnects += 1
        error = client.failure or client.last_error or ConnectionResetError("the connection ended")
        if token is not None and token.rights.role:
            left = token.ends_at - time.monotonic()
            if "expired" in str(error).lower() and left > 0:
                self._early += left
            error = token_ended(token.rights.role, where_is(server), error, self._renewal_failed) or error
        self._failed(server, error)
        await self._drop()

    async def _has_renewed(self, server: str) -> bool:
        """Wait until another connection, with a new token, has taken over (True), or this one has ended."""
        client, token = self._nats, self._token
        assert client is not None
        lost = asyncio.create_task(client.ended.wait())
        if token is None:
            await lost
            return False
        self._renewing = renewing = asyncio.create_task(self._renew(server, token))
        try:
            await asyncio.wait({lost, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if not renewing.done():
            await end_tasks([renewing])
            if not renewing.cancelled():
                await self._close(renewing.result()[0])  # too late: the old connection has ended
            return False
        self._nats, self._token = renewing.result()
        client.superseded = True
        self.events.note("taken over", "by a connection with a new user JWT")
        keeping = asyncio.create_task(self._end_before(client, token), name="superseded connection")
        self._before.add(keeping)
        keeping.add_done_callback(self._before.discard)
        return True

    async def _renew(self, server: str, token: Token) -> tuple[SafeNatsPy, Token | None]:
        """Wait until a new token is due, and connect with it."""
        await asyncio.sleep(token.renew_at - time.monotonic())
        while True:
            try:
                renewed = await self._connect(server)
                self._renewal_failed = None
                return renewed
            except Exception as error:
                failure = connect_error(self.settings, server, error)
                if str(failure) != str(self._renewal_failed):
                    _log.warning("Cannot renew the token of the role %r: %s", token.rights.role, failure)
                self._renewal_failed = failure
            left = token.ends_at - time.monotonic()
            await asyncio.sleep(min(TOKEN_RETRY, max(0.2, left / 5)))

    async def _end_before(self, client: SafeNatsPy, token: Token) -> None:
        """Close a superseded connection as soon as nothing uses it, at the latest before its token ends."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, token.close_at - time.monotonic())):
                    # Polled, because nats-py does not report the end of the last subscription or request.
                    await asyncio.sleep(IDLE_CHECK)  # a caller of ready() may not have used it yet
                    while not (client.is_idle or client.ended.is_set()):  # noqa: ASYNC110
                        await asyncio.sleep(IDLE_CHECK)
        finally:
            await self._close(client)

    async def _drop(self) -> None:
        client, self._nats = self._nats, None
        if client is not None:
            await self._close(client)

    async def _close(self, client: SafeNatsPy) -> None:
        """Close, but wait half a second at most: after a failed TLS handshake nats-py would wait for ever."""

        async def close() -> None:
            with contextlib.suppress(Exception):
                await client.close()

        # aiohttp does not wait for the end of TLS, and the loop may be about to stop.
        socket = client.websocket
        if not client.is_closed:
            closing = asyncio.create_task(close())
            await asyncio.wait({closing}, timeout=0.5)
            closing.cancel()
        if socket is not None:
            socket.abort()
        client.abort()
        await asyncio.sleep(0)
        self._open.discard(client)

    def _note_denial(self, client: SafeNatsPy, violation: str) -> None:
        text = violation.lower()
        prefix = client.request_inbox.lower()
        is_inbox = bool(prefix) and prefix in text
        if is_inbox:
            client.denied_inbox = (f"{client.inbox_prefix}.>", time.monotonic())
        claimed = is_inbox
        for subject, waiting in list(self._waiting.items()):
            if is_inbox or (subject if subject.startswith(".") else f'"{subject}"') in text:
                claimed = True
                for denied in waiting:
                    if not denied.done():
                        denied.set_result(None)
        if not claimed:
            self._log_once(violation)

    def _log_once(self, violation: str) -> None:
        """Log a violation that no reader waits for, once per kind: those of consumers repeat often."""
        kind = _NUID.sub("*", violation.replace('"', "."))
        if kind not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(kind)
            self.events.note("not permitted", violation, logging.WARNING)

    def _failed(self, server: str, error: Exception) -> None:
        status: Literal["connecting", "reconnecting"] = "reconnecting" if self.reconnects else "connecting"
        try:
            failure = connect_error(self.settings, server, error)
        except Exception:  # a bug of ours must not stop the retries
            _log.exception("Describing the connection error %r failed.", error)
            failure = ServerUnreachable(f"Cannot connect to NATS: {type(error).__name__}.")
        self._set(status, failure)
        self.tried.set()

    def _set(
        self,
        status: Literal["connecting", "reconnecting", "closed"],
        error: LookbackError | None = None,
        why: str = "",
    ) -> None:
        since = self.state.since if self.state.status == status else time.time()
        self.events.note(status, error or why, logging.INFO if error is None else logging.WARNING)
        self.state = ConnectionState(status, since, self.state.server, self.state.server_name, error)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until they end. In Python 3.11, nats-py can swallow a cancellation."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=0.5)


def not_permitted(action: str, subject: str) -> NotPermitted:
    """The error of a login that is not permitted `action` ("to publish to", "to subscribe to") `subject`."""
    pattern = _NUID.sub("*", subject)
    advice = "Ask for this permission" if pattern == subject else f"Ask for permission on {pattern!r}"
    if subject.endswith((".STREAM.LIST", ".STREAM.NAMES")):
        advice += ", or list the streams in the setting 'streams'"
    elif action == "to subscribe to" and subject.startswith("_INBOX"):
        advice += ", or set 'inbox_prefix' to a prefix that the login permits"
    return NotPermitted(f"The login is not permitted {action} {subject!r}. {advice}.")
