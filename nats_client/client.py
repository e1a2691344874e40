"""The door: a thread with one event loop and one connection, and the feeds on it."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import Any, TypeVar

from .connection.connection import Connection, ConnectionState, end_tasks
from .connection.role_jwt import Rights
from .connection.settings import Settings
from .decoding.decoders import check_decoder
from .duration import parse_duration
from .errors import ClosedError, RequestFailed, SubjectError
from .events import Event
from .feeds.feed import Feed
from .feeds.health import FeedKey
from .feeds.named_feed import NamedFeed, named
from .kv.buckets import BucketInfo, key_history, list_buckets
from .kv.values import Entry
from .kv.watch import Watch
from .memory import PROCESS, UNREAD, Holder, Memory
from .requests.discovery import ServiceList, Services
from .requests.query import Query, query_headers
from .requests.requests import Reply, Request, SharedRequests, ask, check_timeout
from .streams.shared_follower import Followers
from .streams.stream_list import (
    MOST_COUNTED,
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
    parse_pattern,
)

T = TypeVar("T")

CALL_TIMEOUT = 10.0  # seconds that a call from outside waits for the loop
ARCHIVE_CREDIT = 8  # chunks of an archive under way
ARCHIVE_PATIENCE = 10.0  # seconds that an archive may be silent
GRACE = 2.0  # seconds that a call with a bound of its own may take beyond it
HOUSEKEEPING = 5.0  # seconds between two looks at what is idle


class Client:
    """NATS to pandas. Returns at once: connecting is a state, and the client keeps trying.

    All methods may be called from any thread. Use one client per set of servers and rights, and close it
    (or use it as a context manager) when done.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        memory: Memory = PROCESS,
    ) -> None:
        """`memory` is what bounds all that is held together: the process's, unless a test has its own.
        Raises SettingsError, and what keeps its thread from starting."""
        self.settings = settings or Settings.load()
        self._memory = memory
        self._finding = threading.Lock()
        memory.ask(self, self.settings.memory)
        most = self.settings.feed_memory
        self._limits = {"max_rows": self.settings.feed_rows, "max_bytes": most}
        self._bucket_limits = {"max_keys": self.settings.bucket_keys, "max_bytes": most}
        self._idle_after = self.settings.idle_after
        self._feeds: dict[FeedKey, Feed] = {}
        self._watches: dict[str, Watch] = {}
        self._queries: weakref.WeakSet[Query] = weakref.WeakSet()
        self._evictions: dict[Holder, asyncio.Task[None]] = {}
        self._closed = False
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
        """Where the connection stands."""
        return self._connection.state

    @property
    def rights(self) -> Rights:
        """What the login may see, as far as it is known; of a role nothing until its first token is there."""
        return self._connection.rights

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest things that happened to the connection, oldest first, with their reasons."""
        return self._connection.events.newest

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the first attempt to connect to end; whether it succeeded."""
        self._connection.tried.wait(timeout)
        return self.state.status == "connected"

    def feed(
        self,
        stream: str | None,
        subject: str | None = None,
        *,
        look_back: str = "PT5M",
        decoder: str = "json",
        time: str | None = None,
        archive: str | None = None,
    ) -> Feed | NamedFeed:
        """The feed of `stream`, or of its messages that match the filter `subject`.

        With None for the stream: of the plain subjects `subject`, whether a stream keeps them or not. Such
        a feed has no history, and what is published while there is no connection is lost; its gaps say when.

        The filter may name tokens: "metrics.{kind}.{host}" asks for "metrics.*.*" and gives the text columns
        `kind` and `host`; "{rest>}" as the last token stands for ">". A payload field of that name becomes
        `payload{name}`, as `payloadhost`. Names are the reader's own: "s.{a}", "s.{b}" and "s.*" are one
        consumer and one window.

        look_back: ISO 8601 duration, such as "PT5M". decoder: how payloads are read, "json", "text", or
        another name in decoding/decoders.py. time: the payload field that holds a row's time; default is
        when the server stored the message. archive: the subject of a history service, as "history.query":
        rows older than the stream's own come from there. Who asks for the same gets the same feed; a longer
        look-back extends it. Raises DurationError, SubjectError, SettingsError on what cannot be read, and
        ClosedError on a closed client. A stream that does not exist is no error here: the feed is "stopped"
        and says so in its health until the stream appears.
        """
        length = parse_duration(look_back)
        if stream is None and not subject:
            raise SubjectError("A feed without a stream needs a subject, such as 'sensors.>'.")
        pattern = parse_pattern(subject or ">")
        everything = pattern.filter == ">" and stream is not None
        key = FeedKey(
            None if stream is None else check_stream_name(stream),
            None if everything else pattern.filter,
            check_decoder(decoder),
            time or None,
            check_subject(archive) if archive and stream is not None else None,
        )
        with self._finding:
            found = self._feeds.get(key)
            if found is not None:
                found.last_read = monotonic()  # so that it is not closed before it is read
        if found is None or found.look_back < length:
            found = self._call(self._open(key, look_back))
        return named(found, pattern.names)

    def values(self, bucket: str) -> Watch:
        """The watch of the key-value bucket `bucket`: `snapshot()` is a mapping of its keys to their values.

        Who asks for the same gets the same watch. Raises SubjectError on what cannot be the name of a
        bucket, and ClosedError on a closed client. A bucket that does not exist is no error here: the watch
        is "stopped" and says so in its health until the bucket appears.
        """
        with self._finding:
            found = self._watches.get(check_bucket(bucket))
            if found is not None:
                found.last_read = monotonic()  # so that it is not closed before it is read
                return found
        return self._call(self._watch(bucket))

    def buckets(self) -> list[BucketInfo]:
        """The key-value buckets that the login may see. Raises RequestFailed when the server does not
        answer."""
        return self._call(list_buckets(self._streams))

    def history(self, bucket: str, key: str) -> list[Entry]:
        """The revisions of `key` that `bucket` still keeps, oldest first; at most 64, none when there is no
        such key. Raises SubjectError, StreamNotFound, RequestFailed."""
        return self._call(key_history(self._connection, check_bucket(bucket), check_key(key)))

    def streams(self) -> list[StreamInfo]:
        """The streams that the login may see. Raises RequestFailed when the server does not answer."""
        return self._call(self._streams.look())

    def subjects(self, stream: str, pattern: str = ">", *, most: int = MOST_COUNTED) -> Subjects:
        """How many subjects of `stream` match `pattern`, and how many messages each of the first 100,000 has.

        Publishers to the stream wait while the server counts (a tenth of a second for 100,000 subjects, some
        seconds for a million), so one with more than `most` subjects raises TooManySubjects. Raises
        SubjectError, StreamNotFound, RequestFailed.
        """
        name, checked = check_stream_name(stream), check_filter(pattern)
        return self._call(list_subjects(self._connection, name, checked, most))

    def capturing(self, subject: str) -> list[str]:
        """The streams that store what is published to `subject`, as far as the server tells; none without
        JetStream. Raises SubjectError, NotPermitted, RequestFailed."""
        return self._call(capturing(self._connection, check_subject(subject)))

    def newest(self, stream: str) -> Newest | None:
        """Subject, time of storage (UTC) and payload of the newest message of `stream`, None when empty."""
        return self._call(newest_message(self._connection, check_stream_name(stream)))

    def newest_each(
        self, streams: Sequence[str], *, within: float = 2.0
    ) -> dict[str, Newest | RequestFailed | None]:
        """newest() of each of `streams`, all asked at once; what kept one from being read in place of its
        message, RequestTimeout where the stream has not answered `within` so many seconds. Raises
        SubjectError, and ConnectionFailed without a connection."""
        names = [check_stream_name(stream) for stream in streams]
        if error := self.state.error:
            raise error
        return self._call(newest_messages(self._connection, names, within), within + GRACE)

    def request(
        self,
        subject: str,
        payload: Any = None,
        *,
        timeout: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask `subject`, and wait at most `timeout` seconds (up to 60) for the answer.

        payload: bytes, a text, or anything that JSON knows. Raises SubjectError and PayloadError on what
        cannot be sent, NoResponders when nobody listens, RequestTimeout, ServiceError when the service
        says that it failed, RequestRefused when the login does not permit it, ConnectionFailed.
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
        """As request(), but equal requests are never under way at the same time, and their answer serves all
        who ask within `every` seconds; so does a failure, which is raised again. While there is no
        connection: the newest answer there was."""
        asked = Request.of(subject, payload, headers)
        answer = self._shared.ask(asked, check_timeout(timeout), every)
        return self._call(answer, 2 * timeout + GRACE)

    def services(self) -> Services:
        """The services that answer to the service protocol, as they were a few seconds ago at most; as they
        were last while there is no connection. Raises ConnectionFailed when they have never been seen."""
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
        """Ask the service at `subject`, and take its answer in by chunks, in the background. Returns at once.

        request: bytes, a text, or anything that JSON knows, such as `{"sql": ..., "parameters": {...}}`.
        timeout: seconds (up to 60) of silence after which the service is given up. credit: chunks under way
        at most, None: as fast as the service sends. accept: "arrow" or "json", as the service prefers. asker:
        who of many behind this client asks, for a fair share of the service's turns: up to 64 letters,
        digits, _ and -. The ceilings are those of a feed. Raises SubjectError, PayloadError, SettingsError;
        what goes wrong later is the query's own `error`.
        """
        asked = Request.of(subject, request, query_headers(credit, accept, asker))
        return self._call(self._query(asked, check_timeout(timeout)))

    def feeds(self) -> list[Feed]:
        """The feeds that are open."""
        return list(self._feeds.values())

    def close(self) -> None:
        """End all feeds, the connection, the loop and the thread. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
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
            raise error or RequestFailed("The NATS server did not answer in time.") from None

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
        self._services = ServiceList(self._connection)
        self._shared = SharedRequests(self._connection)
        self._followers = Followers(self._connection)
        task = asyncio.current_task()
        assert task is not None
        self._main = task
        connecting = self._loop.create_task(self._connection.run(), name="connection")
        self._started.set()
        try:
            while True:
                await asyncio.sleep(min(HOUSEKEEPING, self._idle_after))
                await self._close_unread(self._idle_after)
                for feed in list(self._feeds.values()):
                    feed.count_derived()
                self._memory.look()
        finally:
            for feed in list(self._feeds.values()):  # a call from outside may still come in between
                await feed.close()
            await self._followers.close()
            for watch in list(self._watches.values()):
                await watch.close()
                self._memory.leave(watch)
            self._feeds.clear()
            for query in list(self._queries):
                await query.close()
                self._memory.leave(query)
            await self._services.close()
            await self._streams.close()
            self._watches.clear()
            await end_tasks([connecting])
            await self._connection.close()

    async def _open(self, key: FeedKey, look_back: str) -> Feed:
        length = parse_duration(look_back)
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

    async def _watch(self, bucket: str) -> Watch:
        watch = self._watches.get(bucket)
        if watch is None:
            watch = Watch(self._connection, self._loop, bucket, **self._bucket_limits)
            self._watches[bucket] = watch
            self._count(watch)
        watch.last_read = monotonic()
        return watch

    def _archive(self, subject: str | None) -> Callable[[dict[str, Any]], Query] | None:
        """What asks the history service at `subject`, None without one."""
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
        """Have what `holder` holds count; when memory is short and nobody has read it, it is closed."""
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
        await self._close_unread(UNREAD, holder)
        self._memory.note(holder)  # where it was read meanwhile, it counts again

    async def _close_unread(self, seconds: float, only: Holder | None = None) -> None:
        """Close what nobody has read for so long; or `only` this, if that is so of it."""
        with self._finding:  # so that nobody gets what is about to be closed
            limit = monotonic() - seconds
            held: list[Feed | Watch | Query] = [*self._feeds.values(), *self._watches.values()]
            held += self._queries
            unread = [each for each in held if each.last_read < limit and only in (None, each)]
            self._feeds = {key: feed for key, feed in self._feeds.items() if feed not in unread}
            self._watches = {key: watch for key, watch in self._watches.items() if watch not in unread}
            for each in unread:
                if isinstance(each, Query):
                    self._queries.discard(each)
        for each in unread:
            await each.close()
            self._memory.leave(each)
