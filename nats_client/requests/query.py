"""Queries: requests whose result arrives in chunks and can be read while it grows.

The service sends any number of chunks to an inbox, each with rows in JSON or Arrow. An empty message without
error headers ends the result. That is all a service has to support. It may also announce the number of rows,
and name a control subject: for acknowledgements, which limit the chunks in flight, and for `stop`. The whole
protocol: docs/history.md.

Plain NATS delivers at most once: a lost connection ends the result, and the rows received so far are kept.
"""

import asyncio
import contextlib
import logging
import threading
import time
from typing import Literal

import nats.errors
import pandas as pd
from nats.aio.msg import Msg

from ..connection.bulk_parser import Inbox
from ..connection.connect_errors import plain_reason
from ..connection.connection import Connection, end_tasks, not_permitted
from ..connection.patched_nats import SafeNatsPy
from ..errors import (
    AnswerBroken,
    AnswerTooLarge,
    LookbackError,
    RequestFailed,
    RequestTimeout,
    SettingsError,
    SubjectError,
    one_of,
)
from ..memory import wait_as_reader
from ..subjects import check_subject
from .content_types import ARROW, JSON
from .requests import Request, no_responders, ready_for, service_error
from .result_table import Rows, read_rows

ACCEPT = {"arrow": ARROW, "json": JSON}
CHECK_EVERY = 0.25  # seconds between checks of the connection
STOP_FOR = 2.0  # seconds that the service has to confirm a stop
STOPPED = "499"
ENDED = ("done", "failed", "stopped")

_log = logging.getLogger(__name__)

QueryState = Literal["waiting", "receiving", "done", "failed", "stopped"]


class Query:
    """One query of a service and its result so far. Created by `Client.query`. Thread-safe. It is closed
    after some time without a reader."""

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        request: Request,
        patience: float,
        limits: dict[str, int],
    ) -> None:
        self.subject = request.subject
        self.error: LookbackError | None = None
        """Why it "failed", or details of why it "stopped"; None otherwise."""
        self.total: int | None = None
        """Rows of the whole result; None if the service does not announce it."""
        self.bytes = 0
        """Bytes of the chunks received so far."""
        self.last_read = time.monotonic()
        self._connection = connection
        self._loop = loop
        self._request = request
        self._patience = patience
        self._rows = Rows(**limits)
        self._state: QueryState = "waiting"
        self._asked_at = time.monotonic()
        self._first_at: float | None = None
        self._ended_at: float | None = None
        self._ended = threading.Event()
        self._taken = 0  # chunks received
        self._control: str | None = None
        self._denied: dict[str, asyncio.Future[None]] = {}
        self._denials = contextlib.ExitStack()
        self._inbox = Inbox()
        self._client: SafeNatsPy | None = None
        self._stopping = False
        self._over = False  # the service has ended the result
        self._task = loop.create_task(self._run(), name=f"query {self.subject}")

    @property
    def state(self) -> QueryState:
        """ "waiting" for the first row, "receiving", "done", "failed" or "stopped". Rows received so far are
        kept in any case."""
        self.last_read = time.monotonic()
        return self._state

    @property
    def stopping(self) -> bool:
        """True if a stop was requested and the service has not confirmed it yet."""
        return self._stopping and self._state not in ENDED

    @property
    def rows(self) -> int:
        """Rows received so far."""
        return self._rows.count

    @property
    def seconds(self) -> float:
        """Seconds from its start until now, or until it ended."""
        return (self._ended_at or time.monotonic()) - self._asked_at

    @property
    def progress(self) -> float | None:
        """Share of the rows received, 0 to 1; None if the service has not announced the number of rows."""
        if self._state == "done":
            return 1.0
        return min(1.0, self.rows / self.total) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the last row, at the rate so far; None if unknown."""
        progress, since = self.progress, self._first_at
        if not progress or since is None or self._state != "receiving":
            return None
        running = time.monotonic() - since
        return running * (1 - progress) / progress if running > 1 else None

    def frame(self) -> pd.DataFrame:
        """The rows received so far. The same object until new rows arrive, so copy it before changing it.

        Numbers keep their type (decimals become float64), texts are `str`, times datetime64 (UTC if they have
        a zone). With JSON, times are texts. Raises ClosedError once the query was closed: after
        `idle_after` (ten minutes) without a reader, when memory was short, or with its client.
        """
        self.last_read = time.monotonic()
        return self._rows.frame()

    def stop(self) -> None:
        """Stop the query, here and, if the service has named a control subject, at the service. Rows received
        so far are kept. Returns at once. A no-op if the query has ended."""
        with contextlib.suppress(RuntimeError):  # the client is closed, and its loop with it
            self._loop.call_soon_threadsafe(self._stop)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows received so far."""
        return self._rows.nbytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Add nothing beyond `nbytes`, because the process may hold at most `ceiling` bytes. Rows already
        received stay."""
        self._rows.limit(nbytes, f"{ceiling:,} bytes of the process's memory, which all share")

    def relax(self) -> None:
        """A no-op: a truncated result stays truncated."""

    async def ended(self) -> None:
        """Wait until it has ended. For callers on the client's loop."""
        await asyncio.wait({self._task})

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until it has ended, successfully or not. False on a timeout."""
        return wait_as_reader(self, self._ended, timeout)

    # -- on the client's loop ----------------------------------------------------------------------------

    async def close(self, why: str = "") -> None:
        """Stop the query and drop its rows. `why` is the reason in the log and in the error of later readers;
        empty if the caller is done with the rows."""
        await end_tasks([self._task])
        if why:
            _log.info("query of %s: closed (%s)", self.subject, why)
        self._rows.drop(why)

    def _stop(self) -> None:
        if self._state in ENDED:
            return
        self._stopping = True
        self._inbox.arrived.set()
        if self._client is None:
            self._task.cancel()

    def _end(self, state: QueryState, error: LookbackError | None = None) -> None:
        self._ended_at = time.monotonic()
        self.error, self._state = error, state
        self._ended.set()

    async def _run(self) -> None:
        try:
            client = await ready_for(self._connection, self._request, self._patience)
            with self._denials:
                self._end(*await self._ask(client))
        except LookbackError as error:
            self._end("failed", error)
        except asyncio.CancelledError:
            self._end("stopped")
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._end(
                "failed", RequestFailed(f"The query of {self.subject!r} failed: {plain_reason(error)}.")
            )
        except Exception as error:
            _log.exception("query of %s", self.subject)
            self._end("failed", LookbackError(f"The query of {self.subject!r} failed: {error!r}."))

    async def _ask(self, client: SafeNatsPy) -> tuple[QueryState, LookbackError | None]:
        self._client = client
        address = client.new_inbox()
        self._watch(address)
        self._watch(self.subject)
        listening = await client.subscribe(
            address, cb=self._receive, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        client.tap(listening, self._inbox)
        try:
            headers = dict(self._request.headers)
            await client.publish(self.subject, self._request.payload, reply=address, headers=headers)
            return await self._read(client, address)
        finally:
            client.untap(listening)
            with contextlib.suppress(Exception):
                await listening.unsubscribe()
            if not self._over:
                await self._send_control(client, "stop")

    def _watch(self, subject: str) -> None:
        """Wake the query if the server reports that the login does not permit `subject`."""
        self._denied[subject] = denied = self._denials.enter_context(self._connection.denial(subject))
        denied.add_done_callback(lambda _: self._inbox.arrived.set())

    async def _receive(self, message: Msg) -> None:
        """The fallback when the fast parser is not available."""
        self._inbox.put(message.subject.encode(), b"", message.data, message.headers)

    async def _send_control(self, client: SafeNatsPy, word: str) -> None:
        if self._control is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.publish(self._control, word.encode())

    async def _read(self, client: SafeNatsPy, address: str) -> tuple[QueryState, LookbackError | None]:
        inbox = self._inbox
        silent_at = time.monotonic() + self._patience
        stop_by: float | None = None
        while True:
            woke_at = time.monotonic()
            # Not wait_for: in Python 3.11 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY):
                    await inbox.arrived.wait()
            inbox.arrived.clear()
            now = time.monotonic()
            if inbox.messages:
                silent_at = now + self._patience
                batch, inbox.messages = inbox.messages, []
                for _, _, body, headers in batch:
                    outcome = self._take(body, headers or {})
                    if outcome is not None:
                        return outcome
                await self._send_control(client, f"ack {self._taken}")
                await asyncio.sleep(0)
            elif now - woke_at > 4 * CHECK_EVERY:
                silent_at = now + self._patience  # this process was suspended: give the service more time
            self._check_rights(address)
            if self._stopping and stop_by is None and self._taken:
                if self._control is None:
                    return "stopped", self._why_stopped(
                        f"The service at {self.subject!r} has no control subject, so its query may go on."
                    )
                await self._send_control(client, "stop")
                stop_by = now + STOP_FOR
            if (stop_by is not None and now > stop_by) or (self._stopping and now > silent_at):
                return "stopped", self._why_stopped(
                    f"The service at {self.subject!r} has not confirmed the stop, so its query may go on."
                )
            if not client.is_connected and self._connection.has_moved(client):
                raise RequestFailed(
                    f"The role token of the query of {self.subject!r} expired {self._so_far}. Query fewer "
                    "rows, or ask the administrator of the roles to raise 'minutes'."
                )
            if not client.is_connected or now > silent_at:
                alive = await self._connection.check() and client.is_connected
                raise self._interrupted(alive)

    def _check_rights(self, address: str) -> None:
        for subject, denied in self._denied.items():
            if denied.done():
                if subject == address:
                    raise not_permitted("to subscribe to", self._connection.inboxes)
                raise not_permitted("to publish to", subject)

    @property
    def _so_far(self) -> str:
        return f"after row {self.rows:,}" if self._taken else "before the first row"

    def _interrupted(self, connected: bool) -> LookbackError:
        if not connected:
            return RequestFailed(
                f"The connection to NATS was lost {self._so_far}. A query cannot be resumed: run it again."
            )
        if self._taken:
            return RequestTimeout(
                f"The service at {self.subject!r} sent nothing for {self._patience:g} s {self._so_far}. "
                "Check that it is running, and run the query again."
            )
        return RequestTimeout(
            f"No answer from {self.subject!r} within {self._patience:g} s, although a service listens there. "
            "Query fewer rows, or ask the service's administrator."
        )

    def _take(self, body: bytes, headers: dict[str, str]) -> tuple[QueryState, LookbackError | None] | None:
        """Process one message. Returns the final state if it ends the query, or else None. Raises
        LookbackError if the query fails."""
        header = {name.lower(): value for name, value in headers.items()}
        if not body and header.get("status") == "503":
            self._over = True
            raise no_responders(self.subject)
        if failure := service_error(self.subject, headers, body):
            self._over = True
            if self._stopping and failure.code == STOPPED:
                return "stopped", self._why_stopped()
            raise failure
        self.total = _count(header.get("lookback-rows")) if self.total is None else self.total
        self._take_control(header.get("lookback-control", ""))
        if not body:
            self._over = True
            return self._at_end(_count(header.get("lookback-rows-sent")))
        self._taken += 1
        if self._rows.full is None:
            try:
                part = read_rows(body, header.get("content-type", ""))
            except ValueError as error:
                raise AnswerBroken(
                    f"Chunk {self._taken:,} from {self.subject!r}, after row {self.rows:,}, is not valid: "
                    f"{error}. Report this to the service's administrator."
                ) from None
            self.bytes += len(body)
            self._rows.add(part)
            if self.rows and self._state == "waiting":
                self._state, self._first_at = "receiving", time.monotonic()
            if self._rows.full is not None:
                self._stopping = True
        return None

    def _at_end(self, sent: int | None) -> tuple[QueryState, LookbackError | None]:
        if self._rows.full is not None:
            return "stopped", self._why_stopped()
        expected = self.total if sent is None else sent
        if expected is not None and self.rows < expected:
            raise AnswerBroken(
                f"The result from {self.subject!r} is incomplete: {self.rows:,} of {expected:,} rows. "
                "Run the query again."
            )
        return "done", None

    def _why_stopped(self, sentence: str = "") -> LookbackError | None:
        if self._rows.full is not None:
            return AnswerTooLarge(
                f"The result is larger than the limit, {self._rows.full}. The first {self.rows:,} rows are "
                f"shown. Aggregate, narrow the time range, or set a LIMIT. {sentence}".strip()
            )
        return RequestFailed(sentence) if sentence else None

    def _take_control(self, subject: str) -> None:
        """Accept a control subject only below the service's subject or our inbox prefix. Otherwise a rogue
        service could make us publish anywhere with our rights."""
        if self._control is None and subject.startswith(
            (f"{self.subject}.", f"{self._connection.settings.inbox_prefix}.")
        ):
            with contextlib.suppress(SubjectError):
                self._control = check_subject(subject)
                self._watch(subject)


def query_headers(credit: int | None, accept: str, asker: str | None = None) -> dict[str, str]:
    """The headers of a query's request. Raises SettingsError if `accept` or `credit` is invalid."""
    if accept not in ACCEPT:
        raise SettingsError(f"accept={accept!r} is not valid. " + one_of(accept, ACCEPT, what="kind"))
    if credit is not None and (type(credit) is not int or credit < 1):
        raise SettingsError(f"credit={credit!r} is not valid. Use a number of chunks of at least 1, or None.")
    optional = {"Lookback-Credit": None if credit is None else str(credit), "Lookback-Asker": asker}
    return {
        "Accept": ACCEPT[accept],
        **{name: value for name, value in optional.items() if value is not None},
    }


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
