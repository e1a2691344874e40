"""The client: a thread with one event loop and one connection, and the feeds on it."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime
from time import monotonic, time_ns
from typing import Any, TypeVar, overload

import pandas as pd

from .connection.connection import Connection, ConnectionState, end_tasks
from .connection.role_jwt import Rights
from .connection.settings import Settings
from .decoding.decode import check_headers
from .decoding.decoders import check_decoder
from .duration import Duration, parse_duration
from .errors import ClosedError, LookbackError, RequestFailed, SqlError, SubjectError
from .events import Event
from .feeds.feed import Feed
from .feeds.health import FeedKey
from .feeds.named_feed import NamedFeed, named
from .feeds.playback import Playback, Playbacks
from .kv.buckets import BucketInfo, key_history, list_buckets
from .kv.past import PastBucket
from .kv.values import Entry
from .kv.watch import Watch
from .memory import PROCESS, UNREAD, Holder, Memory
from .messages.filtered_page import FilteredPage
from .messages.search import LONGEST_TEXT, Search, Wanted
from .messages.stored import MOST as MOST_ON_PAGE
from .messages.stored import StoredMessage, StoredMessages, StoredPage
from .requests.discovery import ServiceList, Services
from .requests.query import Query, query_headers
from .requests.requests import Reply, Request, SharedRequests, ask, check_timeout
from .sql.row_filter import checked_expressions
from .streams.consumer_list import WITHIN, ConsumerList, Consumers
from .streams.shared_follower import Followers
from .streams.stream_list import (
    MOST_COUNTED,
    PAGE,
    Newest,
    StreamInfo,
    StreamList,
    Subjects,
    capturing,
    list_subjects,
    newest_message,
    newest_messages,
)
from .subjects import (
    check_bucket,
    check_filter,
    check_key,
    check_stream_name,
    check_subject,
    filters_of,
    parse_patterns,
)

T = TypeVar("T")
S = TypeVar("S", bound=Search)

CALL_TIMEOUT = 10.0  # seconds that a call from another thread waits for the loop
COUNT_TIMEOUT = 120.0  # the same for a count of many subjects
ARCHIVE_CREDIT = 8  # unacknowledged chunks from an archive
ARCHIVE_PATIENCE = 10.0  # seconds without a chunk until a query of an archive fails
UNWANTED = 15.0  # seconds without a reader after which a stretch that is still loading is closed
GRACE = 2.0  # seconds added to the caller's own timeout
HOUSEKEEPING = 5.0  # seconds between checks for idle feeds, buckets and queries
MOST_SEARCHES = 20
"""Searches that may be under way at the same time."""
LAST = 2**63 - 1
"""The greatest sequence that is requested. The server's sequences are unsigned 64-bit integers."""


class Client:
    """NATS to pandas. The constructor does not wait for a connection: the client connects in the background,
    and retries until closed.

    Thread-safe. Use one client per set of servers and rights, and close it when done, or use it as a context
    manager.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        memory: Memory = PROCESS,
    ) -> None:
        """`memory` is the memory ceiling shared with all other clients of the process; tests pass their own.
        Raises SettingsError, and any error that keeps its thread from starting."""
        self.settings = settings or Settings.load()
        self._memory = memory
        self._finding = threading.Lock()
        memory.ask(self, self.settings.memory)
        most = self.settings.feed_memory
        self._limits = {"max_rows": self.settings.feed_rows, "max_bytes": most}
        self._bucket_limits = {"max_keys": self.settings.bucket_keys, "max_bytes": most}
        self._idle_after = self.settings.idle_after
        self._feeds: dict[FeedKey, Feed] = {}
        self._watches: dict[tuple[str, int | None], Watch | PastBucket] = {}
        self._queries: weakref.WeakSet[Query] = weakref.WeakSet()
        self._searches: dict[Search, asyncio.Task[None]] = {}
        self._evictions: dict[Holder, asyncio.Task[None]] = {}
        self._closed = False
        self._why_closed = "the client's thread failed"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="nats", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        try:
            self._thread.start()
            self._started.wait()
        except BaseException:
            if self._thread.ident is None:  # it was never started
                self._loop.close()
            raise
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self._connection.state

    @property
    def rights(self) -> Rights:
        """What the login may see, as far as it is known. For a role: nothing until its first token."""
        return self._connection.rights

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest events of the connection, oldest first, with their reasons."""
        return self._connection.events.newest

    @property
    def closed(self) -> bool:
        """True once close() was called."""
        return self._closed

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the first attempt to connect has succeeded or failed. Returns
        True if the client is connected."""
        self._connection.tried.wait(timeout)
        return self.state.status == "connected"

    def feed(
        self,
        stream: str | None,
        subject: str | Sequence[str] | None = None,
        *,
        look_back: Duration = "PT5M",
        decoder: str = "json",
        time: str | None = None,
        archive: str | None = None,
        where: str | None = None,
        columns: Mapping[str, str] | None = None,
        headers: Sequence[str] = (),
        end: datetime | None = None,
    ) -> Feed | NamedFeed:
        """A feed of `stream`, or of its messages that match the filter `subject`, or one of several filters,
        as in ["orders.>", "refunds.*"]. Filters of a list must not overlap, unless one is within another.

        If `stream` is None, the feed reads plain subjects that match `subject`, with or without a stream that
        stores them. Such a feed has no history. It loses messages published while there is no connection; its
        gaps show when that was.

        The filter may name tokens: "metrics.{kind}.{host}" reads "metrics.*.*" and adds the text columns
        `kind` and `host`; "{rest>}" as the last token stands for ">". A payload field of the same name
        becomes `payload{name}`, such as `payloadhost`. Names affect only this reader: "s.{a}", "s.{b}" and
        "s.*" share one consumer and one window.

        look_back: a duration, such as "5m", a timedelta, or ISO 8601 ("PT5M"). decoder: how payloads are
        decoded: "json", "auto", or another name in docs/payloads.md. headers: names of message headers, each
        of which is a column; a payload field with its name becomes `payload{name}`. time: the payload field
        with the row's time, as in decode(); by default, a row's time is when the server stored the message.
        archive: the subject of a history service, such as "history.query"; rows older than the stream's
        oldest come from there.

        where: an SQL expression over payload fields, named tokens, `_subject`, `_time` and `_seq`, such as
        "level = 'error' AND ms > 100". Rows for which it is not true are not kept. columns: names of computed
        columns and their SQL expressions, such as {"kw": "w / 1000"}. docs/filters.md says what they may be.

        end: the end of the look-back, instead of now: a time with a time zone, rounded down to the
        millisecond. Such a feed reads the messages stored before `end`, from the stream and the archive. Once
        it has them, it holds no consumer and `health.ended` is true. If `end` is in the future, the feed
        follows until then. It is closed if it has no reader while it loads.

        Equal arguments return the same feed; a longer look-back extends it. Raises DurationError,
        SubjectError, SettingsError or SqlError if an argument is invalid, and ClosedError if the client is
        closed. A missing stream raises nothing: the feed is "stopped", and its health says why, until the
        stream exists.
        """
        length = parse_duration(look_back)
        if stream is None and end is not None:
            raise LookbackError(
                f"Plain subjects ({subject!r}) have no history, so they cannot be read as of an earlier time."
            )
        if stream is None and not subject:
            raise SubjectError("A feed without a stream needs a subject, such as 'sensors.>'.")
        pattern = parse_patterns(">" if subject is None or subject == "" else subject)
        if stream is None and len(filters_of(pattern.filter)) > 1:
            raise SubjectError(
                f"Plain subjects are read one filter at a time, and not {pattern.filter!r}. Open a feed for "
                "each."
            )
        everything = pattern.filter == ">" and stream is not None
        expressions = checked_expressions(where, columns or {}, pattern.names)
        key = FeedKey(
            None if stream is None else check_stream_name(stream),
            None if everything else pattern.filter,
            check_decoder(decoder),
            time or None,
            check_subject(archive) if archive and stream is not None else None,
            *expressions,
            check_headers(headers),
            None if end is None else _stored_before(end),
        )
        with self._finding:
            found = self._feeds.get(key)
            if found is not None:
                found.last_read = monotonic()  # so that it is not closed before its first read
        if found is None or found.look_back < length:
            found = self._call(self._open(key, length))
        return named(found, pattern.names)

    def playback(self, start: datetime, end: datetime) -> Playback:
        """A playback of the stretch from `start` to before `end`, two times with a time zone, rounded down to
        the millisecond. The playback stands at the start until its play() is called. Its feed() opens the
        feeds that it plays. The playback ends when no reference to it is left. Raises LookbackError if
        `start` or `end` is not such a time, if `end` is in the future, or if `start` is not before `end`."""
        first, last = _stored_before(start, "start"), _stored_before(end)
        if first >= last:
            raise LookbackError(f"The stretch from {start} to {end} ends before it starts.")
        if last > time_ns():
            raise LookbackError(f"The end {end} is still to come: only what is over can be played.")
        return self._playbacks.add(first, last, self.feed)

    @overload
    def values(self, bucket: str, *, end: None = None) -> Watch: ...

    @overload
    def values(self, bucket: str, *, end: datetime) -> PastBucket: ...

    def values(self, bucket: str, *, end: datetime | None = None) -> Watch | PastBucket:
        """A watch of the key-value bucket `bucket`; its `snapshot()` maps keys to values. With `end`, a time
        with a time zone, rounded down to the millisecond, these are the values as of then. They are known as
        far as the bucket's history reaches; `snapshot().unknown` names the keys for which it does not.

        Calls with the same arguments return the same object. Raises SubjectError if the name is invalid,
        LookbackError if `end` is not such a time, and ClosedError if the client is closed. A missing bucket
        raises nothing: the watch is "stopped", and its health says why, until the bucket exists.
        """
        of = check_bucket(bucket), None if end is None else _stored_before(end)
        with self._finding:
            found = self._watches.get(of)
            if found is not None:
                found.last_read = monotonic()  # so that it is not closed before its first read
                return found
        return self._call(self._watch(*of))

    def buckets(self) -> list[BucketInfo]:
        """The key-value buckets that the login may see. Raises RequestFailed if the server does not
        answer."""
        return self._call(list_buckets(self._streams))

    def history(self, bucket: str, key: str) -> list[Entry]:
        """The revisions of `key` that `bucket` still keeps, oldest first, at most 64. Empty if there is no
        such key. Raises SubjectError, StreamNotFound, RequestFailed."""
        return self._call(key_history(self._connection, check_bucket(bucket), check_key(key)))

    def streams(self) -> list[StreamInfo]:
        """The streams that the login may see. Raises RequestFailed if the server does not answer."""
        return self._call(self._streams.streams())

    def consumers(self) -> Consumers:
        """The consumers of all streams that the login may see, the furthest behind first. The course of their
        lag begins with the first call, and starts over after a minute without a call. Sends one request per
        256 consumers of a stream, and reads at most about 5,000 consumers in all. Streams that do not answer,
        or whose consumers the login may not list, are named in the result. Raises RequestFailed if the
        streams cannot be listed."""
        return self._call(self._consumers.newest(), CALL_TIMEOUT + WITHIN)

    def subjects(
        self,
        stream: str,
        pattern: str = ">",
        *,
        most: int = MOST_COUNTED,
        progress: Callable[[int, int], None] | None = None,
    ) -> Subjects:
        """The number of subjects of `stream` that match `pattern`, and the message count of each.

        The server lists up to 100,000 in one reply, and blocks publishers to the stream for each: about 0.1 s
        if it has 100,000 subjects, half a second if half a million. The client pauses between two replies for
        as long as the last one took. A stream with more than `most` subjects raises TooManySubjects instead.
        `progress` is called in the client's thread, with the number of subjects counted so far and in all.
        Raises SubjectError, StreamNotFound, RequestFailed.
        """
        name, checked = check_stream_name(stream), check_filter(pattern)
        counting = list_subjects(self._connection, name, checked, most, progress)
        return self._call(counting, CALL_TIMEOUT if most <= PAGE else COUNT_TIMEOUT)

    def capturing(self, subject: str) -> list[str]:
        """Names of the streams that store messages published to `subject`, as far as the server lists them.
        Empty without JetStream. Raises SubjectError, NotPermitted, RequestFailed."""
        return self._call(capturing(self._connection, check_subject(subject)))

    def newest(self, stream: str) -> Newest | None:
        """Subject, storage time (UTC) and payload of the newest message of `stream`; None if it is empty."""
        return self._call(newest_message(self._connection, check_stream_name(stream)))

    def newest_each(
        self, streams: Sequence[str], *, within: float = 2.0, end: datetime | None = None
    ) -> dict[str, Newest | RequestFailed | None]:
        """The newest message of each of `streams` as in newest(), requested concurrently. With `end`, a time
        with a time zone, it is the newest one stored before then. A stream that cannot be read has the error
        in place of its message: RequestTimeout if it does not answer within `within` seconds. An empty or
        missing stream has None. Raises SubjectError, LookbackError if `end` is not such a time, and
        ConnectionFailed if there is no connection."""
        names = [check_stream_name(stream) for stream in streams]
        if error := self.state.error:
            raise error
        moment = None if end is None else _stored_before(end)

        async def read(name: str) -> Newest | None:
            if moment is None:
                return await newest_message(self._connection, name)
            found = await StoredMessages(self._connection, name).newest_before(moment)
            if found is None:
                return None
            return found.subject, pd.Timestamp(found.stored, tz="UTC"), found.payload

        return self._call(newest_messages(read, names, within), within + GRACE)

    def stored_page(
        self,
        stream: str,
        subject: str | Sequence[str] | None = None,
        *,
        upto: int | None = None,
        start: int | None = None,
        most: int = 50,
    ) -> StoredPage:
        """A page of the messages that `stream` holds and that match `subject`, a filter as in feed(): the
        `most` newest up to the sequence `upto`, or the `most` from the sequence `start` on; without either,
        the newest. `most` is at most 200. A page may be shorter: it ends after 8 MB of payload or 3 s. Its
        `low` and `high` are the sequences that it covers. Nothing is taken from a work queue.

        Raises SubjectError, StreamNotFound, NotPermitted, RequestFailed; LookbackError if `upto` or `start`
        is not a sequence.
        """
        name, pattern = check_stream_name(stream), parse_patterns(subject or ">")
        most = max(1, min(most, MOST_ON_PAGE))
        reader = StoredMessages(self._connection, name, None if pattern.filter == ">" else pattern.filter)
        if start is not None:
            return self._call(reader.forward(_sequence(start), most))
        return self._call(reader.back(LAST if upto is None else _sequence(upto), most))

    def filtered_page(
        self,
        stream: str,
        where: str,
        subject: str | Sequence[str] | None = None,
        *,
        upto: int | None = None,
        start: int | None = None,
        most: int = 50,
        decoder: str = "json",
        time: str | None = None,
        headers: Sequence[str] = (),
    ) -> FilteredPage:
        """A page like that of stored_page(), of the messages for which `where` is true. If a message has
        several rows, it must be true for at least one. `where`, `decoder`, `time`, `headers`: as in feed().
        Messages that cannot be decoded are not on the page, but counted.

        Each message must be read to evaluate `where`. So the call returns at once, and the page is read in
        the background, however far that is, as long as a caller keeps reading its `status`.

        Raises SubjectError, SettingsError, SqlError; LookbackError if `upto` or `start` is not a sequence, or
        if 20 searches are under way. Later errors are in its `error`.
        """
        name, pattern = check_stream_name(stream), parse_patterns(subject or ">")
        expression, _, names = checked_expressions(where, {}, pattern.names)
        if expression is None:
            raise SqlError("A filtered page needs an expression; stored_page() has all messages.")
        wanted = Wanted(
            name,
            None if pattern.filter == ">" else pattern.filter,
            "",
            None,
            None,
            check_decoder(decoder),
            expression,
            names,
            time or None,
            check_headers(headers),
        )
        first = None if start is None else _sequence(start)
        last = LAST if upto is None else _sequence(upto)
        most = max(1, min(most, MOST_ON_PAGE))
        return self._call(
            self._begin(lambda: FilteredPage(self._connection, wanted, start=first, upto=last, most=most))
        )

    def stored_message(self, stream: str, seq: int) -> StoredMessage:
        """The message of `stream` with the sequence `seq`. Raises MessageNotFound, whose text explains why
        the stream does not hold it, SubjectError, StreamNotFound, NotPermitted, RequestFailed."""
        reader = StoredMessages(self._connection, check_stream_name(stream))
        return self._call(reader.one(_sequence(seq)))

    def beside(self, stream: str, message: StoredMessage) -> tuple[int | None, int | None]:
        """The sequences of the messages before and after `message` of `stream` that have its subject; None
        where there is none, or none was found in 3 s. Raises as stored_page() does."""
        # Not check_filter(): a subject may hold what a filter may not, such as > within a token.
        reader = StoredMessages(self._connection, check_stream_name(stream), message.subject)
        return self._call(reader.next_to(message.seq))

    def sequence_at(self, stream: str, moment: datetime) -> int:
        """The sequence of the first message that `stream` stored at or after `moment`, a time with a time
        zone. If there is none, it is the sequence after the stream's last. Raises LookbackError if `moment`
        is not such a time, and the errors of stored_page()."""
        reader = StoredMessages(self._connection, check_stream_name(stream))
        return self._call(reader.at_time(_stored_before(moment, "time")))

    def search(
        self,
        stream: str,
        text: str,
        subject: str | Sequence[str] | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        decoder: str = "json",
        where: str | None = None,
        time: str | None = None,
        headers: Sequence[str] = (),
    ) -> Search:
        """Search for `text` in the subject, headers and payload of the messages of `stream` that match
        `subject`, ignoring case. Returns at once; the search continues in the background while a caller
        keeps reading its `status`. It ends after 1,000 messages found or 16 MB of them. It begins with the
        oldest message, or with the first stored at or after `start`, and ends with the newest, or before
        `end`. `where`, `decoder`, `time`, `headers`: as in feed().

        Raises SubjectError, SettingsError, SqlError; LookbackError if the text is empty without a `where`, or
        longer than 1,000 characters, if `start` or `end` is not a time with a time zone, or if 20 searches
        are under way. Later errors are in its `error`.
        """
        name, pattern = check_stream_name(stream), parse_patterns(subject or ">")
        if not isinstance(text, str) or len(text) > LONGEST_TEXT or not (text or where):
            raise LookbackError(f"Search for a text of 1 to {LONGEST_TEXT:,} characters.")
        expression, _, names = checked_expressions(where, {}, pattern.names)
        wanted = Wanted(
            name,
            None if pattern.filter == ">" else pattern.filter,
            text,
            None if start is None else _stored_before(start, "start"),
            None if end is None else _stored_before(end),
            check_decoder(decoder),
            expression,
            names,
            time or None,
            check_headers(headers),
        )
        return self._call(self._begin(lambda: Search(self._connection, wanted)))

    def request(
        self,
        subject: str,
        payload: Any = None,
        *,
        timeout: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request to `subject` and wait at most `timeout` seconds (up to 60) for the reply.

        payload: bytes, a str, or anything that JSON can encode. Raises SubjectError or PayloadError if it
        cannot be sent, NoResponders if nobody is subscribed, RequestTimeout, ServiceError if the service
        replies with an error, RequestRefused if the login does not permit it, ConnectionFailed.
        """
        asked = Request.of(subject, payload, headers)
        return self._call(ask(self._connection, asked, check_timeout(timeout)), timeout + GRACE)

    def shared_request(
        self,
        subject: str,
        payload: Any = None,
        *,
        timeout: float = 2.0,
        every: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Like request(), but equal requests share one reply. At most one of them is in flight at a time, and
        its reply or error serves all callers for `every` seconds. While there is no connection, it returns
        the last reply."""
        asked = Request.of(subject, payload, headers)
        answer = self._shared.ask(asked, check_timeout(timeout), every)
        return self._call(answer, 2 * timeout + GRACE)

    def services(self) -> Services:
        """The services that answer the service protocol, at most a few seconds old. While there is no
        connection, it returns the last result; if there is none, it raises ConnectionFailed."""
        return self._call(self._services.newest())

    def query(
        self,
        subject: str,
        request: Any,
        *,
        timeout: float = 10.0,
        credit: int | None = 8,
        accept: str = "arrow",
        asker: str | None = None,
    ) -> Query:
        """Send a query to the service at `subject` and receive its result in chunks, in the background.
        Returns at once.

        request: bytes, a str, or anything that JSON can encode, such as `{"sql": ..., "parameters": {...}}`.
        timeout: seconds (up to 60) without a chunk after which the query fails. credit: maximum number of
        unacknowledged chunks; None for no limit. accept: the format of the chunks, "arrow" or "json". asker:
        a name for the caller, if several share this client, so that each gets a fair share of the service's
        turns; up to 64 letters, digits, _ and -. The ceilings are those of a feed. Raises SubjectError,
        PayloadError, SettingsError; later errors are in the query's `error`.
        """
        asked = Request.of(subject, request, query_headers(credit, accept, asker))
        return self._call(self._query(asked, check_timeout(timeout)))

    def feeds(self) -> list[Feed]:
        """The open feeds."""
        return list(self._feeds.values())

    def close(self, why: str = "the client was closed") -> None:
        """Close all feeds, the connection, the loop and the thread. `why` is the reason in the last event of
        each. Idempotent."""
        if self._closed:
            return
        self._closed, self._why_closed = True, why
        self._memory.ask(self, None)
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(CALL_TIMEOUT)

    def _call(self, coroutine: Coroutine[Any, Any, T], timeout: float = CALL_TIMEOUT) -> T:
        if self._closed:
            coroutine.close()
            raise ClosedError("The NATS client is closed.")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except (FutureTimeoutError, TimeoutError):
            future.cancel()
            error = self.state.error
            raise error or RequestFailed("The NATS server did not reply in time.") from None

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            if self._started.is_set():
                raise
            self._failure = error
        finally:
            self._loop.close()
            self._started.set()

    async def _run(self) -> None:
        self._connection = Connection(self.settings)
        self._streams = StreamList(self._connection)
        self._consumers = ConsumerList(self._connection, self._streams)
        self._services = ServiceList(self._connection)
        self._shared = SharedRequests(self._connection)
        self._followers = Followers(self._connection)
        self._playbacks = Playbacks(self._loop, self._memory)
        task = asyncio.current_task()
        assert task is not None
        self._main = task
        connecting = self._loop.create_task(self._connection.run(), name="connection")
        self._started.set()
        try:
            while True:
                await asyncio.sleep(min(HOUSEKEEPING, self._idle_after))
                await self._close_unread(self._idle_after, f"nobody read it for {self._idle_after:g} s")
                for feed in list(self._feeds.values()):
                    feed.count_derived()
                self._playbacks.count_derived()
                self._consumers.rest()
                self._memory.recount()
        finally:
            await self._playbacks.close()
            for feed in list(self._feeds.values()):  # another thread may still open one meanwhile
                await feed.close(self._why_closed)
            await self._followers.close()
            for watch in list(self._watches.values()):
                await watch.close(self._why_closed)
                self._memory.leave(watch)
            self._feeds.clear()
            for query in list(self._queries):
                await query.close(self._why_closed)
                self._memory.leave(query)
            await end_tasks(list(self._searches.values()))
            await self._services.close()
            await self._streams.close()
            self._watches.clear()
            self._connection.why_closed = self._why_closed
            await end_tasks([connecting])
            await self._connection.close()

    async def _open(self, key: FeedKey, length: pd.Timedelta) -> Feed:
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(
                self._connection,
                self._loop,
                key,
                length,
                memory=self._memory,
                ask=self._archive(key.archive),
                seats=self._followers,
                **self._limits,
            )
            self._count(feed)
        feed.extend(length)
        feed.last_read = monotonic()
        return feed

    async def _begin(self, make: Callable[[], S]) -> S:
        if len(self._searches) >= MOST_SEARCHES:
            raise LookbackError(f"{MOST_SEARCHES} searches are under way. Stop one, or wait for its end.")
        search = make()
        self._memory.join(search, type(search).drop)
        task = self._searches[search] = self._loop.create_task(search.run(), name="search")
        task.add_done_callback(lambda _: self._searches.pop(search))
        return search

    async def _watch(self, bucket: str, end: int | None) -> Watch | PastBucket:
        watch = self._watches.get((bucket, end))
        if watch is None:
            if end is None:
                watch = Watch(self._connection, self._loop, bucket, **self._bucket_limits)
            else:
                watch = PastBucket(self._connection, self._loop, bucket, end, **self._bucket_limits)
            self._watches[bucket, end] = watch
            self._count(watch)
        watch.last_read = monotonic()
        return watch

    def _archive(self, subject: str | None) -> Callable[[dict[str, Any]], Query] | None:
        """A function that queries the history service at `subject`; None if there is none."""
        if subject is None:
            return None
        headers = query_headers(ARCHIVE_CREDIT, "arrow")
        return lambda request: Query(
            self._connection,
            self._loop,
            Request.of(subject, request, headers),
            ARCHIVE_PATIENCE,
            self._limits,
        )

    async def _query(self, request: Request, patience: float) -> Query:
        query = Query(self._connection, self._loop, request, patience, self._limits)
        self._queries.add(query)
        self._count(query)
        return query

    def _count(self, holder: Holder) -> None:
        """Count `holder` towards the memory ceiling. When memory is short, it is closed if it has no
        reader."""
        self._memory.join(holder, self._evict)

    def _evict(self, holder: Holder) -> None:
        with contextlib.suppress(RuntimeError):  # the client is closed, and its loop with it
            self._loop.call_soon_threadsafe(self._start_eviction, holder)

    def _start_eviction(self, holder: Holder) -> None:
        if holder not in self._evictions:
            task = self._loop.create_task(self._close_one(holder), name="memory")
            self._evictions[holder] = task
            task.add_done_callback(lambda _: self._evictions.pop(holder))

    async def _close_one(self, holder: Holder) -> None:
        most = f"all feeds together may hold {self._memory.ceiling >> 20} MiB: the setting 'memory'"
        why = f"nobody read it for {UNREAD:g} s, and {most}"
        await self._close_unread(UNREAD, why, holder)
        self._memory.note(holder)  # if it was read meanwhile, it stays and counts again

    async def _close_unread(self, seconds: float, why: str, only: Holder | None = None) -> None:
        """Close every feed, watch and query that has had no reader for `seconds`, and every feed that is
        still loading and has had none for UNWANTED seconds. With `only`, close at most that holder. `why` is
        the reason in the last event of each."""
        with self._finding:  # so that no caller gets one that is about to be closed
            limit = monotonic() - seconds
            held: list[Feed | Watch | PastBucket | Query] = [*self._feeds.values(), *self._watches.values()]
            held += self._queries
            unread = [each for each in held if each.last_read < limit and only in (None, each)]
            if only is None:
                soon = monotonic() - UNWANTED
                unread += [
                    feed
                    for feed in self._feeds.values()
                    if feed not in unread and feed.is_loading and feed.last_read < soon
                ]
            self._feeds = {key: feed for key, feed in self._feeds.items() if feed not in unread}
            self._watches = {key: watch for key, watch in self._watches.items() if watch not in unread}
            for each in unread:
                if isinstance(each, Query):
                    self._queries.discard(each)
        for each in unread:
            await each.close(why)
            self._memory.leave(each)


def _stored_before(time: datetime, what: str = "end") -> int:
    """`time` as ns since the epoch, UTC, rounded down to the millisecond. Raises LookbackError if it has no
    time zone or is not a time; `what` names it in the error."""
    try:
        if pd.isna(time):
            raise ValueError
        return int(pd.Timestamp(time).tz_convert("UTC").floor("ms").as_unit("ns").value)
    except (TypeError, ValueError):
        raise LookbackError(
            f"The {what} {time!r} is not a time with a time zone. Give for example "
            "datetime(2026, 11, 29, 14, 20, tzinfo=UTC)."
        ) from None


def _sequence(seq: int) -> int:
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq <= LAST:
        raise LookbackError(f"{str(seq)[:40]!r} is not a sequence: a whole number from 1 on.")
    return seq
