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
from ..subjects import check_subject
from .requests import Request, nobody_listens, ready_for, service_error
from .result_table import ARROW, JSON, Rows, read_rows

ACCEPT = {"arrow": ARROW, "json": JSON}
LOOK = 0.25  # seconds between two looks at the connection
STOP_FOR = 2.0  # seconds that the service has to confirm that it stopped
STOPPED = "499"
ENDED = ("done", "failed", "stopped")

_log = logging.getLogger(__name__)

QueryState = Literal["waiting", "receiving", "done", "failed", "stopped"]


class Query:
    """One question to a service, and what has come of its answer. Made by `Client.query`; every part may be
    read from any thread at any time, and reading keeps it alive."""

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
        """Why it "failed"; or what to know about it having "stopped"."""
        self.total: int | None = None
        """Rows of the whole answer, None where the service does not say."""
        self.bytes = 0
        """Bytes of the chunks so far."""
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
        self._taken = 0  # messages that were not the end
        self._control: str | None = None
        self._denied: dict[str, asyncio.Future[None]] = {}
        self._denials = contextlib.ExitStack()
        self._inbox = Inbox()
        self._client: SafeNatsPy | None = None
        self._stopping = False
        self._over = False  # the service itself has ended the answer
        self._task = loop.create_task(self._run(), name=f"query {self.subject}")

    @property
    def state(self) -> QueryState:
        """ "waiting" for the first row, "receiving", "done", "failed" or "stopped" (what came is kept)."""
        self.last_read = time.monotonic()
        return self._state

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, and the service has not confirmed it yet."""
        return self._stopping and self._state not in ENDED

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._rows.count

    @property
    def seconds(self) -> float:
        """Since it was asked, until it ended."""
        return (self._ended_at or time.monotonic()) - self._asked_at

    @property
    def progress(self) -> float | None:
        """How much of the answer has come, 0 to 1; None while the service has not said how much it is."""
        if self._state == "done":
            return 1.0
        return min(1.0, self.rows / self.total) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last row, at the pace of the rows so far; None while nobody can tell."""
        progress, since = self.progress, self._first_at
        if not progress or since is None or self._state != "receiving":
            return None
        running = time.monotonic() - since
        return running * (1 - progress) / progress if running > 1 else None

    def frame(self) -> pd.DataFrame:
        """The rows so far; the same object as long as nothing new came, so copy it before changing it.

        Numbers as they came (decimals as float64), texts `str`, times datetime64 (UTC where they have a
        zone); in JSON a time is a text. Raises ClosedError once the query was dropped: after ten minutes
        without a reader, or with its client.
        """
        self.last_read = time.monotonic()
        return self._rows.frame()

    def stop(self) -> None:
        """End it, here and, where it names a control subject, at the service. What came is kept. Returns
        at once; a query that has ended stays as it is."""
        with contextlib.suppress(RuntimeError):  # the client is closed, and its loop with it
            self._loop.call_soon_threadsafe(self._stop)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows so far."""
        return self._rows.nbytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Take in no more than `nbytes`, since all that the process holds may be `ceiling`. What came
        stays."""
        self._rows.limit(nbytes, f"{ceiling:,} bytes of the process's memory, which all share")

    def relax(self) -> None:
        """Nothing to do: an answer that was cut off stays so."""

    async def ended(self) -> None:
        """Wait for it to end; for those who are on the client's loop themselves."""
        await asyncio.wait({self._task})

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for it to end, well or not; whether it did."""
        until = time.monotonic() + timeout
        while not self._ended.wait(max(0.0, min(LOOK, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
            self.last_read = time.monotonic()  # who waits is a reader
        return True

    # -- on the client's loop ----------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop it and forget its rows."""
        await end_tasks([self._task])
        self._rows.drop()

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
                await self._tell(client, "stop")

    def _watch(self, subject: str) -> None:
        """Notice when the server says that the login does not permit `subject`."""
        self._denied[subject] = denied = self._denials.enter_context(self._connection.denial(subject))
        denied.add_done_callback(lambda _: self._inbox.arrived.set())

    async def _receive(self, message: Msg) -> None:
        """The fallback when the fast parser is not available."""
        self._inbox.put(message.subject.encode(), b"", message.data, message.headers)

    async def _tell(self, client: SafeNatsPy, word: str) -> None:
        if self._control is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.publish(self._control, word.encode())

    async def _read(self, client: SafeNatsPy, address: str) -> tuple[QueryState, LookbackError | None]:
        inbox = self._inbox
        silent_at = time.monotonic() + self._patience
        stop_by: float | None = None
        while True:
            looked = time.monotonic()
            # Not wait_for: in Python 3.11 it can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
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
                await self._tell(client, f"ack {self._taken}")
                await asyncio.sleep(0)
            elif now - looked > 4 * LOOK:
                silent_at = now + self._patience  # we slept, not the service: it gets another chance
            self._check_rights(address)
            if self._stopping and stop_by is None and self._taken:
                if self._control is None:
                    return "stopped", self._why_stopped(
                        f"The service at {self.subject!r} names no subject to stop it by, so it may go on."
                    )
                await self._tell(client, "stop")
                stop_by = now + STOP_FOR
            if (stop_by is not None and now > stop_by) or (self._stopping and now > silent_at):
                return "stopped", self._why_stopped(
                    f"The service at {self.subject!r} has not confirmed that it stopped; it may go on."
                )
            if not client.is_connected and self._connection.has_moved(client):
                raise RequestFailed(
                    f"The token with which {self.subject!r} was asked has ended {self._so_far}. Ask for "
                    "less; who keeps the table of roles can raise its 'minutes'."
                )
            if not client.is_connected or now > silent_at:
                alive = await self._connection.check() and client.is_connected
                raise self._broken_off(alive)

    def _check_rights(self, address: str) -> None:
        for subject, denied in self._denied.items():
            if denied.done():
                if subject == address:
                    raise not_permitted("to subscribe to", self._connection.inboxes)
                raise not_permitted("to publish to", subject)

    @property
    def _so_far(self) -> str:
        return f"after row {self.rows:,}" if self._taken else "before the first row"

    def _broken_off(self, connected: bool) -> LookbackError:
        if not connected:
            return RequestFailed(
                f"The connection to NATS was lost {self._so_far}. The rest of an answer cannot be fetched "
                "later: ask again."
            )
        if self._taken:
            return RequestTimeout(
                f"The service at {self.subject!r} went silent {self._so_far}: nothing for "
                f"{self._patience:g} s. It may have died. Ask again."
            )
        return RequestTimeout(
            f"No answer from {self.subject!r} within {self._patience:g} s. Somebody listens there: "
            "ask again, for less, or ask who runs it."
        )

    def _take(self, body: bytes, headers: dict[str, str]) -> tuple[QueryState, LookbackError | None] | None:
        """Take in one message; how the query has ended, None when it has not. Raises LookbackError."""
        told = {name.lower(): value for name, value in headers.items()}
        if not body and told.get("status") == "503":
            self._over = True
            raise nobody_listens(self.subject)
        if failure := service_error(self.subject, headers, body):
            self._over = True
            if self._stopping and failure.code == STOPPED:
                return "stopped", self._why_stopped()
            raise failure
        self.total = _count(told.get("lookback-rows")) if self.total is None else self.total
        self._take_control(told.get("lookback-control", ""))
        if not body:
            self._over = True
            return self._at_end(_count(told.get("lookback-rows-sent")))
        self._taken += 1
        if self._rows.full is None:
            try:
                part = read_rows(body, told.get("content-type", ""))
            except ValueError as error:
                raise AnswerBroken(
                    f"Chunk {self._taken:,} from {self.subject!r}, after row {self.rows:,}, cannot be read: "
                    f"{error}. Tell who runs the service."
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
                f"The answer from {self.subject!r} is incomplete: {self.rows:,} of {expected:,} rows came. "
                "Ask again."
            )
        return "done", None

    def _why_stopped(self, sentence: str = "") -> LookbackError | None:
        if self._rows.full is not None:
            return AnswerTooLarge(
                f"The answer is larger than what is kept of one, {self._rows.full}; the first {self.rows:,} "
                f"rows are here. Ask for less: aggregate, narrow the time, or set a LIMIT. {sentence}".strip()
            )
        return RequestFailed(sentence) if sentence else None

    def _take_control(self, subject: str) -> None:
        """Nothing is published to any other subject: a rogue service would speak with our rights."""
        if self._control is None and subject.startswith(
            (f"{self.subject}.", f"{self._connection.settings.inbox_prefix}.")
        ):
            with contextlib.suppress(SubjectError):
                self._control = check_subject(subject)
                self._watch(subject)


def query_headers(credit: int | None, accept: str, asker: str | None = None) -> dict[str, str]:
    """The headers of a query's request. Raises SettingsError."""
    if accept not in ACCEPT:
        raise SettingsError(
            f"An answer cannot be accepted as {accept!r}. " + one_of(accept, ACCEPT, what="kind")
        )
    if credit is not None and (type(credit) is not int or credit < 1):
        raise SettingsError(f"The credit cannot be {credit!r}: a number of chunks, at least 1, or None.")
    told = {"Lookback-Credit": None if credit is None else str(credit), "Lookback-Asker": asker}
    return {"Accept": ACCEPT[accept], **{name: value for name, value in told.items() if value is not None}}


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
