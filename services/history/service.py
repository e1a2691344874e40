"""Answers SQL over the archive of messages: the NATS service `history`.

    python -m services.history nats://127.0.0.1:4222 history.duckdb METRICS

The archive is that DuckDB file, or the PostgreSQL that LOOKBACK_HISTORY_DSN names (an environment variable,
because it contains a password). The NATS login comes from NATS_USER, NATS_CREDS, … as everywhere. Results are
sent in chunks; docs/history.md is the protocol. services/history/archiver.py copies the streams in the
arguments after the file into the archive. PUMPS=pump means that the decoder `pump` reads payloads that are
not JSON. With --again before the streams, their archived messages are decoded once more. Ends on SIGTERM.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import nats
import nats.errors
import nats.micro
import orjson
from nats.aio.msg import Msg
from nats.micro.request import Request, ServiceError
from nats.micro.service import Service

from nats_client import environment
from nats_client.connection.patched_nats import add_endpoint, reply_subject
from nats_client.connection.settings import Settings
from nats_client.errors import LookbackError, SettingsError
from nats_client.requests.content_types import JSON
from services.history.archiver import Archiver, streams_to_copy
from services.history.database import (
    Database,
    DatabaseFailed,
    QueryCancelled,
    QueryRefused,
    QueryTooLarge,
    Scalar,
)
from services.history.databases import open_database
from services.history.encoding import KINDS, NotWritable
from services.history.query_process import QueryProcess, query_processes
from services.history.turns import BRIEF, Busy, Turn, Turns
from services.program import connect, until_signal

T = TypeVar("T")

NAME = "history"
VERSION = "1.0.0"
MOST_ASKED = 64 * 1024  # bytes of a request
CHUNK = 128 * 1024  # bytes
HEADERS = 4096  # bytes of a message reserved for its headers
WAIT_FOR_TURN = 10.0  # seconds
CREDIT_TIMEOUT = 30.0  # seconds that a caller has for its next acknowledgement
TABLES_KEPT = 2.0  # seconds to cache a list of tables, or ten times as long as it took
FIRST_SIGN, NEXT_SIGN = 1.0, 5.0  # seconds of silence before an empty chunk is sent
STOP_WAIT = 1.5  # seconds that a query has to end before its caller gets the error
CLOSE_TIMEOUT = 1.0  # seconds
ARCHIVER_PAUSE = 30.0  # seconds before an archiver that failed is restarted
AGAIN = "--again"
"""The argument before the streams."""
IMPORTED = "_R_."
"""Prefix of the inbox of a caller in another account, as the service sees it."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACK = re.compile(rb"ack ([0-9]{1,18})")
_ASKER = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = logging.getLogger("services.history")


@dataclass(frozen=True)
class Limits:
    """Limits of the service and of one result."""

    rows: int = environment.HISTORY_ROWS.default
    """Rows of a result."""
    bytes: int = environment.HISTORY_BYTES.default
    """Bytes of all its chunks."""
    seconds: float = environment.HISTORY_SECONDS.default
    """Seconds the database may work on it; waiting for the caller does not count."""
    longest: float = environment.HISTORY_LONGEST.default
    """Seconds from a query's turn to its end, including waits for the caller."""
    at_once: int = environment.HISTORY_AT_ONCE.default
    """Running queries; each has a process, and a thread that waits for it."""
    memory: int = environment.HISTORY_MEMORY.default
    """Bytes of memory that a query's process may use, in addition to what every such process uses."""

    @classmethod
    def load(cls, env: Mapping[str, str]) -> "Limits":
        """Limits from the environment. Raises SettingsError."""
        return cls(**{name: setting.read(env) for name, setting in LIMITS.items()})

    def over(self, name: str) -> str:
        """The end of a sentence: which limit was exceeded, and where it is set."""
        limit: float = getattr(self, name)
        return f"over the limit of {limit:,} {name} ({LIMITS[name].variable} of the history service)"


LIMITS: dict[str, environment.Setting[Any]] = {
    "rows": environment.HISTORY_ROWS,
    "bytes": environment.HISTORY_BYTES,
    "seconds": environment.HISTORY_SECONDS,
    "longest": environment.HISTORY_LONGEST,
    "at_once": environment.HISTORY_AT_ONCE,
    "memory": environment.HISTORY_MEMORY,
}
"""The setting of each limit."""


@dataclass(frozen=True)
class Question:
    """A parsed request."""

    sql: str
    parameters: dict[str, Scalar]
    kind: str
    """Content type of the chunks."""
    credit: int | None
    """How many chunks may be unacknowledged; None: as many as the connection takes."""
    asker: str
    """Whose share of the turns it uses."""

    @classmethod
    def read(cls, request: Request) -> "Question":
        """Raises ServiceError with code 400 and the reason."""
        if len(request.data) > MOST_ASKED:
            raise _refused(f"The request has {len(request.data):,} bytes; {MOST_ASKED:,} are allowed.")
        try:
            asked = orjson.loads(request.data)
        except orjson.JSONDecodeError as error:
            raise _refused(f"The request is not JSON: {error}.") from None
        if not isinstance(asked, dict) or not isinstance(asked.get("sql"), str):
            raise _refused('The request must be an object with "sql", such as {"sql": "SELECT 1"}.')
        if unknown := asked.keys() - {"sql", "parameters"}:
            raise _refused(f'The request has {min(unknown)!r}; only "sql" and "parameters" are known.')
        parameters = asked.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise _refused('"parameters" must be an object of names and values.')
        for name, value in parameters.items():
            if not _NAME.fullmatch(name):
                raise _refused(f"A parameter cannot have the name {name!r}. Use letters, digits and _ only.")
            if not isinstance(value, Scalar):
                raise _refused(f"The parameter {name!r} is neither text, number, boolean nor null.")
        headers = request.headers or {}
        kind = headers.get("Accept") or JSON
        if kind not in KINDS:
            raise _refused(f"'Accept' is {kind!r}; it must be {' or '.join(KINDS)}.")
        credit = headers.get("Lookback-Credit")
        if credit is not None and (not re.fullmatch(r"[0-9]{1,9}", credit) or int(credit) == 0):
            raise _refused(f"'Lookback-Credit' is {credit!r}; it must be a number of chunks, at least 1.")
        asker = headers.get("Lookback-Asker")
        if asker is not None and not _ASKER.fullmatch(asker):
            raise _refused(f"'Lookback-Asker' is {asker[:80]!r}; use at most 64 letters, digits, _ and -.")
        # Without Lookback-Asker, callers have a share per inbox root. An imported inbox does not identify one
        inbox = reply_subject(request)
        root = "" if inbox.startswith(IMPORTED) else inbox.rpartition(".")[0]
        return cls(
            asked["sql"], parameters, kind, None if credit is None else int(credit), f"{root} {asker or ''}"
        )


class Answer:
    """A result in progress: its caller's acknowledgements, and the error if it must end early."""

    def __init__(self, control: str, question: Question, inbox: str, seconds: float) -> None:
        self.control = control
        self.question = question
        self.inbox = inbox
        self.seconds = seconds
        """Seconds left for the database."""
        self.work: asyncio.Future[Any] | None = None
        """The current or last step of its query, in a thread."""
        self.nothing: bytes | None = b"[]" if question.kind == JSON else None
        """A chunk without rows, once known."""
        self.sent = 0
        """Chunks sent."""
        self.taken = 0
        """Chunks acknowledged by the caller."""
        self.rows: int | None = None
        """Rows of the whole result, once they are counted."""
        self.sent_rows = False
        self.failure: ServiceError | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once there is a failure."""
        self._news = asyncio.Event()

    def receive(self, message: Msg) -> None:
        """Handle a message to its control subject."""
        if (message.headers or {}).get("Status") == "503":
            self.fail("499", "Nobody listens at the inbox any more.")
        elif message.data.strip() == b"stop":
            self.fail("499", "Stopped by the caller.")
        elif ack := _ACK.fullmatch(message.data.strip()):
            taken = min(int(ack[1]), self.sent)
            if taken > self.taken:
                self.taken = taken
                self._news.set()

    def fail(self, code: str, text: str) -> None:
        """End the result with this error, at any step. Only the first error counts."""
        if self.failure is None:
            self.failure = ServiceError(code, text)
            self.ended.set_result(None)
            self._news.set()

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            raise self.failure

    @property
    def has_credit(self) -> bool:
        """True if one more chunk may be sent."""
        return self.question.credit is None or self.sent - self.taken < self.question.credit

    async def wait_for_credit(self, patience: float) -> None:
        """Wait until one more chunk may be sent. Raises ServiceError with code 408 after `patience`
        seconds."""
        while not self.has_credit:
            self.check()
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                self.check()
                raise ServiceError(
                    "408", f"No acknowledgement for {patience:g} s, after {self.sent:,} chunks."
                ) from None
        self.check()


class History:
    """The service. Everything runs on one event loop; each query has its own process (query_process.py)."""

    def __init__(
        self,
        database: Database,
        limits: Limits | None = None,
        *,
        wait_for_turn: float = WAIT_FOR_TURN,
        credit_timeout: float = CREDIT_TIMEOUT,
    ) -> None:
        """Queries wait up to `wait_for_turn` seconds for a turn. A caller has `credit_timeout` seconds for
        its next acknowledgement."""
        self._database = database
        self._limits = limits or Limits()
        self._credit_timeout = credit_timeout
        # Below the query subject, so that one permission covers both; random, so that nobody can guess it
        self._control = f"{NAME}.query.control.{secrets.token_hex(8)}"
        self._turns = Turns(self._limits.at_once, wait_for_turn)
        self._processes = query_processes(database, self._limits.memory)
        # One thread per process, and one for the list of tables
        self._workers = ThreadPoolExecutor(self._limits.at_once + self._turns.brief + 1, "query")
        self._tables_known: asyncio.Task[bytes] | None = None
        self._tables_until = 0.0
        self._answers: dict[str, Answer] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def serve(self, settings: Settings) -> None:
        """Connect and answer, reconnecting after every loss, until cancelled."""
        self._nats = nc = await connect(settings, "lookback-history", log, lost=self._lost)
        try:
            service = await nats.micro.add_service(
                nc,
                name=NAME,
                version=VERSION,
                description=f"SQL over stored messages, in {self._database.name}",
            )
            await nc.subscribe(f"{self._control}.*", cb=self._receive)
            await self._add_endpoint(service, "query", self._query)
            await self._add_endpoint(service, "tables", self._tables)
            await asyncio.Event().wait()
        finally:
            self._ending = True
            self._fail_all("503", "The history service is shutting down. Try again later.")
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)
            with contextlib.suppress(Exception):  # shutting down: nobody can act on an error
                await asyncio.wait_for(nc.close(), CLOSE_TIMEOUT)
            self._workers.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self._processes.close)
            self._database.close()

    def _lost(self) -> None:
        # Chunks may be lost from here on, so running queries end
        if not self._ending:
            self._fail_all("503", "The history service has lost its connection to NATS. Try again.")

    async def _add_endpoint(
        self, service: Service, name: str, handler: Callable[[Request], Awaitable[None]]
    ) -> None:
        async def answered(answering: Coroutine[Any, Any, None]) -> None:
            with contextlib.suppress(nats.errors.Error, OSError, ValueError):  # the connection is gone
                await answering

        await add_endpoint(
            service, name, f"{NAME}.{name}", handler, lambda answering: self._spawn(answered(answering))
        )

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _receive(self, message: Msg) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None:
            answer.receive(message)

    def _fail_all(self, code: str, text: str) -> None:
        for answer in list(self._answers.values()):
            answer.fail(code, text)

    async def _tables(self, request: Request) -> None:
        known = self._tables_known
        if known is None or (known.done() and time.monotonic() > self._tables_until):
            known = self._tables_known = self._spawn(self._list_tables())
        with _errors():
            body = await asyncio.shield(known)
            await request.respond(body, {"Content-Type": JSON})

    async def _list_tables(self) -> bytes:
        """The reply to all requests that arrive while it is made, or within some seconds after."""
        began = time.monotonic()
        most = self._nats.max_payload - HEADERS
        listing = QueryProcess(self._processes, self._database, self._limits.seconds, most=most)
        working = asyncio.get_running_loop().run_in_executor(self._workers, listing.tables)
        try:
            await asyncio.wait({working}, timeout=self._limits.seconds)
            if not working.done():
                raise ServiceError("504", f"The list takes too long, {self._limits.over('seconds')}.")
            return working.result()
        finally:
            self._tables_until = time.monotonic() + max(TABLES_KEPT, 10 * (time.monotonic() - began))
            await self._end(listing, working)

    async def _query(self, request: Request) -> None:
        question = Question.read(request)
        control = f"{self._control}.{secrets.token_hex(11)}"
        answer = Answer(control, question, reply_subject(request), self._limits.seconds)
        self._answers[control] = answer
        loop, longest = asyncio.get_running_loop(), self._limits.longest
        try:
            try:
                turn = await self._turns.take(question.asker)
            except Busy as busy:
                raise _busy(str(busy)) from None
            timers = [
                loop.call_later(BRIEF, self._extend, answer, turn),
                loop.call_later(longest, answer.fail, "408", f"The answer took {longest:g} s in all."),
            ]
            most = self._nats.max_payload - HEADERS
            query = QueryProcess(
                self._processes,
                self._database,
                # Takes effect only if this service is gone; otherwise the service ends the query earlier
                self._limits.seconds + 5,
                question.sql,
                question.parameters,
                kind=question.kind,
                size=min(CHUNK, most // 2),
                most=most,
            )
            try:
                with _errors():
                    await self._send_all(answer, query)
            finally:
                for timer in timers:
                    timer.cancel()
                closing = self._spawn(self._close(answer, query, turn))
                await asyncio.wait({closing}, timeout=STOP_WAIT)
        finally:
            del self._answers[control]

    def _extend(self, answer: Answer, turn: Turn) -> None:
        """Give a query that runs longer than BRIEF an ordinary turn, or end it."""
        if not turn.extend():
            busy = _busy(f"{self._turns.in_words(turn.asker)} This query had a turn of {BRIEF:g} s.")
            answer.fail(busy.code, busy.description)

    async def _close(self, answer: Answer, query: QueryProcess, turn: Turn) -> None:
        """End the query's process, and only then free its turn."""
        try:
            await self._end(query, answer.work)
        finally:
            turn.release()

    async def _end(self, query: QueryProcess, work: asyncio.Future[Any] | None) -> None:
        query.cancel()
        if work is not None:
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # marks it as retrieved; the caller already has the error
        await asyncio.to_thread(query.close)

    async def _send_all(self, answer: Answer, query: QueryProcess) -> None:
        answer.nothing = await self._work(answer, query.open)
        answer.rows = total = await self._work(answer, query.count)
        if total > self._limits.rows:
            raise _too_large(f"The result has {total:,} rows, {self._limits.over('rows')}.")
        rows = size = 0
        while chunk := await self._work(answer, query.chunk):
            length = len(chunk.body)
            size += length
            if size > self._limits.bytes:
                raise _too_large(
                    f"The result is larger than {size - length:,} bytes, {self._limits.over('bytes')}."
                )
            await answer.wait_for_credit(self._credit_timeout)
            await self._send(answer, chunk.body)
            rows += chunk.rows
        answer.check()
        await self._send(answer, b"", {"Lookback-Rows-Sent": str(rows)})

    async def _work(self, answer: Answer, work: Callable[[], T]) -> T:
        """The result of `work`, run in a thread. Meanwhile the caller's messages are handled, and it gets
        signs of life."""
        answer.check()
        began = time.monotonic()
        deadline = began + answer.seconds
        sign_at = began + (NEXT_SIGN if answer.sent else FIRST_SIGN)
        answer.work = working = asyncio.get_running_loop().run_in_executor(self._workers, work)
        while True:
            pause = max(0, min(deadline, sign_at) - time.monotonic())
            both: set[asyncio.Future[Any]] = {working, answer.ended}
            await asyncio.wait(both, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            answer.check()
            now = time.monotonic()
            if working.done():
                answer.seconds -= now - began
                return working.result()
            if now >= deadline:
                raise ServiceError("504", f"The query takes too long, {self._limits.over('seconds')}.")
            if now >= sign_at:
                sign_at = now + NEXT_SIGN
                if answer.nothing is not None and answer.has_credit:
                    await self._send(answer, answer.nothing)

    async def _send(self, answer: Answer, body: bytes, headers: dict[str, str] | None = None) -> None:
        headers = dict(headers or {})
        if not answer.sent:
            headers["Lookback-Control"] = answer.control
        if answer.rows is not None and not answer.sent_rows:
            headers["Lookback-Rows"] = str(answer.rows)
            answer.sent_rows = True
        if body:
            headers["Content-Type"] = answer.question.kind
            answer.sent += 1
        # publish() waits while the server does not accept earlier data: at most 2 MB are buffered.
        # With a reply subject, the server reports an inbox without subscribers. For another account's
        # inbox it does not, and would keep each reply subject for two minutes
        reply = answer.control if body and not answer.inbox.startswith(IMPORTED) else ""
        try:
            await self._nats.publish(answer.inbox, body, reply=reply, headers=headers)
        except nats.errors.OutboundBufferLimitError:
            answer.check()
            raise


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn exceptions into errors of the service protocol."""
    try:
        yield
    except (QueryRefused, NotWritable) as error:
        raise _refused(str(error)) from None
    except QueryTooLarge as error:
        raise _too_large(str(error)) from None
    except DatabaseFailed as error:
        raise ServiceError("500", str(error)) from None
    except QueryCancelled:
        raise ServiceError("500", "The query was cancelled in the database.") from None
    except (nats.errors.Error, TimeoutError) as error:
        log.warning("NATS: %s", error)
        raise ServiceError("503", "The history service has lost its connection to NATS. Try again.") from None
    except ServiceError:
        raise
    except Exception:
        log.exception("an answer failed")
        raise ServiceError("500", "The history service failed; its log says why.") from None


def _refused(text: str) -> ServiceError:
    return ServiceError("400", text)


def _busy(text: str) -> ServiceError:
    return ServiceError("503", f"The history service is busy. {text} Try again later.")


def _too_large(text: str) -> ServiceError:
    return ServiceError("413", f"{text} Aggregate, narrow the time range, or set a LIMIT.")


async def _serve(
    database: Database, settings: Settings, streams: Mapping[str, str | None], *, again: bool
) -> None:
    service = History(database, Limits.load(os.environ))
    archiver = Archiver(
        database, settings, streams, keep=timedelta(days=environment.ARCHIVE_DAYS.read()), again=again
    )
    archiving = asyncio.create_task(_archive(archiver, environment.ARCHIVE_EVERY.read())) if streams else None
    try:
        await service.serve(settings)
    finally:
        if archiving is not None:
            archiving.cancel()
            await asyncio.wait({archiving}, timeout=CLOSE_TIMEOUT)


async def _archive(archiver: Archiver, every: float) -> None:
    """Keep the archiver running, whatever ends it."""
    while True:
        try:
            await archiver.serve(every)
        except Exception:
            log.exception("The archiver failed; restarting it in %g s", ARCHIVER_PAUSE)
        await asyncio.sleep(ARCHIVER_PAUSE)


async def _main(url: str, file: Path, streams: Sequence[str]) -> None:
    environment.check()
    again = bool(streams) and streams[0] == AGAIN
    settings, copied = replace(Settings.load(), url=url), streams_to_copy(streams[again:])
    if again and not copied:
        raise SettingsError(f"{AGAIN} needs the streams whose archive is decoded again, such as PUMPS=pump.")
    database = open_database(file, environment.HISTORY_DSN.read(), environment.HISTORY_READER_DSN.read())
    await until_signal(_serve(database, settings, copied, again=again))


def _keep_private(file: Path) -> None:
    """Make the archive, its log and its temporary files readable only by their owner."""
    os.umask(0o077)
    for each in (file, file.with_name(f"{file.name}.wal")):
        try:
            each.chmod(0o600)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("Other users may read %s; its mode cannot be changed: %s.", each, error)


def main() -> None:
    """The command."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _keep_private(Path(sys.argv[2]))
    try:
        asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
    except LookbackError as error:
        sys.exit(str(error))
