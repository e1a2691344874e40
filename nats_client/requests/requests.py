"""Requests to services with a single reply and a timeout, and requests shared by several callers.

https://docs.nats.io/nats-concepts/core-nats/reqreply; errors of services follow ADR-32.
"""

import asyncio
import copy
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nats.errors
import orjson

from ..connection.connect_errors import plain_reason
from ..connection.connection import Connection
from ..connection.patched_nats import SafeNatsPy
from ..errors import (
    ConnectionFailed,
    LookbackError,
    NoResponders,
    PayloadError,
    RequestFailed,
    RequestTimeout,
    ServerUnreachable,
    ServiceError,
)
from ..subjects import check_subject

LONGEST_WAIT = 60.0
"""Maximum timeout of a request in seconds, because a page waits for it."""
MOST_KEPT = 200
"""Maximum number of cached replies; the least recently used is dropped first."""
MOST_BYTES = 32 * 1024 * 1024
"""Maximum bytes of all cached replies and their requests."""

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # an HTTP token, as in ADR-4
_LINE = re.compile("[^\r\n\0\ud800-\udfff]*")
_ERROR, _ERROR_CODE = "Nats-Service-Error", "Nats-Service-Error-Code"


@dataclass(frozen=True)
class Reply:
    """The reply to a request."""

    subject: str
    """The subject of the request."""
    data: bytes = field(repr=False)
    """The payload."""
    headers: Mapping[str, str]
    """The headers; empty if there are none."""
    seconds: float
    """Seconds from sending the request to receiving the reply."""

    def value(self) -> Any:
        """The payload decoded as JSON; if it is not JSON, as UTF-8 text with invalid bytes replaced."""
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return self.data.decode("utf-8", "replace")


@dataclass(frozen=True)
class Request:
    """A request. Equal requests may share a reply."""

    subject: str
    payload: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, subject: str, payload: Any, headers: Mapping[str, str] | None) -> "Request":
        """Build a request. `payload`: None, bytes, a str (sent as UTF-8), or anything else (sent as JSON).
        Raises SubjectError or PayloadError if it cannot be sent."""
        check_subject(subject)
        return cls(subject, _encoded(subject, payload), tuple(sorted(_checked(headers or {}).items())))

    @property
    def size(self) -> int:
        """Bytes that count towards the server's max_payload."""
        lines = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in self.headers)
        return len(self.payload) + (lines + 12 if self.headers else 0)


def check_timeout(timeout: float) -> float:
    """Return `timeout` (seconds) if it is allowed for a request. Raises RequestFailed otherwise."""
    if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_WAIT:
        raise RequestFailed(
            f"The timeout {timeout!r} is not valid. Use more than 0 and at most {LONGEST_WAIT:.0f} seconds."
        )
    return timeout


async def ask(connection: Connection, request: Request, timeout: float) -> Reply:  # noqa: ASYNC109
    """Send `request` and return the reply, within `timeout` seconds in total.

    Raises NoResponders, RequestTimeout, ServiceError; RequestRefused if the login does not permit it;
    PayloadError if it is larger than the server accepts; ConnectionFailed if there is no connection;
    RequestFailed if the connection was lost meanwhile.
    """
    subject, began = request.subject, time.monotonic()
    client = await ready_for(connection, request, timeout)
    sent = time.monotonic()
    try:
        answer = await connection.request(
            client,
            subject,
            request.payload,
            max(0.001, timeout - (sent - began)),
            dict(request.headers) or None,
        )
    except nats.errors.NoRespondersError:
        raise no_responders(subject) from None
    except (TimeoutError, nats.errors.Error, ConnectionError) as error:
        if client.ended.is_set() or not client.is_connected:
            raise RequestFailed(
                f"The connection was lost before {subject!r} replied. Whether the request was handled is "
                "unknown."
            ) from None
        if isinstance(error, TimeoutError):
            raise RequestTimeout(
                f"No reply from {subject!r} within {timeout:g} s. The service may still be handling the "
                "request. Use a longer timeout, or ask the service's administrator."
            ) from None
        raise RequestFailed(f"The request to {subject!r} failed: {plain_reason(error)}.") from error
    headers = answer.headers or {}
    if failure := service_error(subject, headers, answer.data):
        raise failure
    return Reply(subject, answer.data, headers, time.monotonic() - sent)


async def ready_for(connection: Connection, request: Request, timeout: float) -> SafeNatsPy:  # noqa: ASYNC109
    """Wait at most `timeout` seconds for the connected client. Raises ConnectionFailed if there is none, and
    PayloadError if `request` is larger than the server accepts."""
    try:
        async with asyncio.timeout(timeout):
            client = await connection.ready()
    except TimeoutError:
        raise connection.state.error or ServerUnreachable("Not connected to NATS yet.") from None
    if request.size > client.max_payload:  # the server would close the connection
        raise PayloadError(
            f"The request to {request.subject!r} has {request.size:,} bytes, headers included, and the "
            f"server accepts at most {client.max_payload:,} (max_payload). Send a smaller payload."
        )
    return client


def no_responders(subject: str) -> NoResponders:
    """The error for a request to a subject without subscribers."""
    return NoResponders(
        f"No responders for {subject!r}. Check the subject, which is case-sensitive, and that the service is "
        "running."
    )


def service_error(subject: str, headers: Mapping[str, str], data: bytes) -> ServiceError | None:
    """The error that a reply reports in its headers; None if it reports none."""
    if _ERROR not in headers and _ERROR_CODE not in headers:
        return None
    code, description = headers.get(_ERROR_CODE, ""), headers.get(_ERROR, "")
    reported = f"{description[:300] or 'no description'}" + (f" (code {code[:20]})" if code else "")
    return ServiceError(
        f"The service at {subject!r} replied with an error: {reported}.",
        code=code,
        description=description,
        data=data,
    )


class SharedRequests:
    """Shares replies between callers of equal requests. At most one of several equal requests is in
    flight."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked: OrderedDict[Request, _Asked] = OrderedDict()

    async def ask(self, request: Request, timeout: float, every: float) -> Reply:  # noqa: ASYNC109
        """Return the cached reply to `request`, or raise its cached error, if it is at most `every` seconds
        old; otherwise send the request. While there is no connection, return the last reply, unless `every`
        is 0.

        Raises what ask() raises, and RequestTimeout if an equal request has been in flight for `timeout`
        seconds.
        """
        state = self._connection.state
        if state.status != "connected":
            known = self._asked.get(request)
            if known is not None and known.reply is not None and every > 0:
                return known.reply
            raise state.error or ServerUnreachable("Not connected to NATS yet.")
        asked = self._asked.setdefault(request, _Asked())
        self._asked.move_to_end(request)
        try:
            async with asyncio.timeout(timeout):
                await asked.turn.acquire()
        except TimeoutError:
            raise RequestTimeout(
                f"An equal request to {request.subject!r} has already been in flight for {timeout:g} s."
            ) from None
        try:
            if asked.ended is None or time.monotonic() - asked.ended >= every:
                try:
                    asked.reply, asked.failure = await ask(self._connection, request, timeout), None
                except ConnectionFailed:
                    raise
                except LookbackError as error:
                    asked.failure = error
                asked.ended = time.monotonic()
        finally:
            asked.turn.release()
            self._forget()
        if asked.failure is not None:
            raise copy.copy(asked.failure)  # raising the same object repeatedly would grow its traceback
        assert asked.reply is not None
        return asked.reply

    def _forget(self) -> None:
        held = sum(asked.size(request) for request, asked in self._asked.items())
        for request, asked in list(self._asked.items())[:-1]:
            if len(self._asked) <= MOST_KEPT and held <= MOST_BYTES:
                return
            if not asked.turn.locked():
                held -= asked.size(request)
                del self._asked[request]


class _Asked:
    """The state of a shared request: its lock and its last result."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.ended: float | None = None  # by the monotonic clock
        self.reply: Reply | None = None
        self.failure: LookbackError | None = None

    def size(self, request: Request) -> int:
        return len(request.payload) + (len(self.reply.data) if self.reply else 0)


def _encoded(subject: str, payload: Any) -> bytes:
    if payload is None:
        return b""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    try:
        if isinstance(payload, str):
            return payload.encode()
        return orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
    except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
        raise PayloadError(
            f"The payload for {subject!r} cannot be encoded as JSON: {error}. Send bytes, a string, or JSON "
            "values."
        ) from None


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(str(name)) or not isinstance(value, str) or not _LINE.fullmatch(value):
            raise PayloadError(
                f"The header {name!r} is not valid. A name consists of letters, digits and hyphens; a value "
                "is a string without line breaks."
            )
    return headers
