"""One memory ceiling for everything that the process holds."""

import gc
import json
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nats_client import Client, Feed, Settings
from nats_client.errors import ClosedError, SettingsError
from nats_client.kv.values import Entry
from nats_client.memory import SMALLEST, Memory
from nats_client.results.result import Query, Result
from nats_client.table.values import Batch, Values
from nats_client.table.window import Window
from tests.nats import NatsServer
from tests.waiting import until

MIB = 1 << 20


class Rows:
    """A holder with a window of its own."""

    def __init__(self, memory: Memory) -> None:
        self.window = Window()
        self.last_read = time.monotonic()
        self.evicted = False
        self.next = 1
        self.memory = memory
        memory.join(self, self.evict)

    @property
    def nbytes(self) -> int:
        """The bytes of the window."""
        return self.window.nbytes

    def evict(self, holder: object) -> None:
        """Record the eviction and empty the window."""
        assert holder is self
        self.evicted = True
        self.window.clear()

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Shrink the window."""
        self.window.shrink(max(SMALLEST, nbytes))

    def relax(self) -> None:
        """Give the window its own ceiling back."""
        self.window.max_bytes = 512 * MIB

    def fill(self, rows: int) -> None:
        """Append rows and report the new size."""
        for _ in range(rows // 10_000):
            seq = np.arange(self.next, self.next + 10_000, dtype=np.int64)
            self.next += 10_000
            self.window.append(Batch(seq, seq, seq, ["s"] * len(seq), {"v": seq.astype(float)}))
            self.memory.note(self)


def test_the_largest_give_way() -> None:
    """All holders together stay below the ceiling. A holder with less than an equal share loses no row, and
    the rows that the others lose are counted."""
    memory = Memory(64 * MIB)
    small, large = Rows(memory), [Rows(memory) for _ in range(4)]
    small.fill(50_000)
    for _ in range(4):
        for rows in large:
            rows.fill(200_000)
    assert memory.total <= memory.ceiling
    assert sum(rows.nbytes for rows in (small, *large)) <= memory.ceiling
    assert small.window.dropped == 0
    assert all(rows.window.dropped for rows in large)
    sizes = [len(rows.window) for rows in large]
    assert min(sizes) * 2 > max(sizes)


def test_the_unread_go_first() -> None:
    """A holder without a reader for a while is evicted before a holder with readers loses a row."""
    memory = Memory(64 * MIB)
    unread, read = Rows(memory), Rows(memory)
    unread.last_read -= 3600
    unread.fill(900_000)
    read.fill(1_000_000)
    assert unread.evicted
    assert not read.evicted
    assert read.window.dropped == 0


@pytest.mark.parametrize("grows", ["a feed", "the count"])
def test_an_unread_result_is_closed_at_once(grows: str) -> None:
    """A result without readers is closed while room is made for other holders, on whatever thread. No thread
    that grows or recounts meanwhile blocks."""
    memory = Memory(8 * MIB)
    results = [Result(Query(f"SELECT {n} AS x", (), {}), {}, memory=memory) for n in range(2)]
    for each in results:
        each.last_read -= 3600
    others = [Rows(memory) for _ in range(3)]
    work: list[Callable[[], None]] = [partial(each.fill, 200_000) for each in others]
    work.append(partial(memory.ask, object(), 4 * MIB))
    if grows == "the count":
        others[0].memory = Memory()  # its growth is not reported, and only the recount finds it
        others[0].fill(400_000)
        work = [memory.recount]
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert all(each.closed for each in results)
    assert memory.total <= memory.ceiling


def test_unread_feed_is_closed_for_want_of_memory(server: NatsServer) -> None:
    """A feed without readers is closed when memory is short, and its bytes no longer count. The next caller
    gets it anew."""
    memory = Memory(48 * MIB)
    server.publish("s.a", b'{"v": 1}')
    with Client(Settings(url=server.url), memory=memory) as client:
        feed = client.feed("S")
        assert feed.wait(30)
        other = Rows(memory)
        feed.last_read -= 120  # type: ignore[misc]
        other.fill(2_000_000)
        until(lambda: feed not in client.feeds())
        until(lambda: feed.events[-1].what == "closed")
        with pytest.raises(ClosedError):
            feed.snapshot()
        assert feed.events[-1].why.startswith(
            "nobody read it for 60 s, and all feeds together may hold 48 MiB"
        )
        assert memory.total <= memory.ceiling
        again = client.feed("S")
        assert again.wait(30)
        assert again.frame()["v"].tolist() == [1]


def test_what_is_read_meanwhile_stays_and_counts(server: NatsServer) -> None:
    """A feed chosen for eviction, but read before it is closed, stays open and counts again, and no other
    feed is closed in its place. Once it is unread again, it can be chosen again."""
    memory, held = Memory(16 * MIB), threading.Event()
    server.publish("s.a", *[json.dumps([{"v": i} for i in range(20_000)]).encode()] * 5)
    with Client(Settings(url=server.url), memory=memory) as client:
        chosen, next_to_it = client.feed("S"), client.feed("S", "s.none")
        assert isinstance(chosen, Feed)
        assert chosen.wait(30)
        assert next_to_it.wait(30)
        other = Rows(memory)
        client._loop.call_soon_threadsafe(held.wait)
        chosen.last_read -= 3600
        next_to_it.last_read -= 1800  # type: ignore[misc]
        memory.recount()
        assert chosen.nbytes > 0.1 * memory.ceiling
        while memory._held[chosen]:
            other.fill(10_000)
        assert not other.window.dropped
        other.window.clear()
        memory.note(other)
        chosen.snapshot()
        held.set()
        until(lambda: memory._held.get(chosen) == chosen.nbytes)
        assert client.feeds() == [chosen, next_to_it]
        chosen.last_read -= 3600
        other.fill(1_500_000)
        until(lambda: chosen not in client.feeds())


def test_a_closed_watch_holds_nothing(server: NatsServer) -> None:
    """A watch closed for lack of memory holds no values, even if it is still referenced, and no longer
    counts. A snapshot keeps its own values."""
    memory = Memory(64 * MIB)
    with Client(Settings(url=server.url), memory=memory) as client:
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="b"))
        for i in range(20):
            server.publish(f"$KV.b.k{i}", b"x" * 100_000)
        watch = client.values("b")
        assert watch.wait(30)
        kept = watch.snapshot()
        memory.recount()
        before = memory.total
        assert before >= watch.nbytes > 20 * 100_000
        watch.last_read -= 3600
        client._loop.call_soon_threadsafe(client._start_eviction, watch)
        until(lambda: watch not in memory._held)
        assert memory.total <= before - 20 * 100_000
        assert watch.nbytes == 0
        assert len(kept["k7"]) == 100_000
        del kept
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Entry and len(each.payload) == 100_000]
        with pytest.raises(ClosedError):
            watch.snapshot()


def test_both_readings_of_a_bucket_count(server: NatsServer) -> None:
    """While a bucket is read anew, the values shown meanwhile count beside those already received, and only
    then."""
    with Client(Settings(url=server.url), memory=Memory(64 * MIB)) as client:
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="b"))
        server.publish("$KV.b.k", b"x" * 100_000)
        watch = client.values("b")
        assert watch.wait(30)
        alone = watch.nbytes
        server.signal(signal.SIGSTOP)
        client._loop.call_soon_threadsafe(watch._consumer.start_over, "a test")
        until(lambda: watch._rebuilt is not None)
        assert watch.nbytes >= alone
        assert len(watch.snapshot()["k"]) == 100_000
        server.signal(signal.SIGCONT)
        until(lambda: watch._rebuilt is None)
        assert watch.nbytes == alone


def test_a_feed_says_that_memory_is_shared(server: NatsServer) -> None:
    """A feed and another holder stay below the common ceiling: both drop rows, the feed keeps its newest row,
    and its health has the ceiling as the reason."""
    memory = Memory(20 * MIB)
    rows = [{"v": i, "text": f"{i} " + "x" * 1000} for i in range(12_000)]
    server.publish("s.a", *(json.dumps(rows[i : i + 100]).encode() for i in range(0, len(rows), 100)))
    with Client(Settings(url=server.url), memory=memory) as client:
        feed, other = client.feed("S"), Rows(memory)
        other.fill(400_000)
        assert feed.wait(30)
        other.fill(1_000_000)
        assert memory.total <= memory.ceiling
        assert other.window.dropped
        assert feed.health.dropped
        assert feed.health.squeezed == memory.ceiling
        assert feed.snapshot().frame(last=1)["v"].tolist() == [11_999]


def test_room_of_a_burst_is_given_back() -> None:
    """After a burst the window gives back the memory it took, and a cleared window holds almost none."""
    window = Window()
    seq = np.arange(1, 1_000_001, dtype=np.int64)
    window.append(Batch(seq, seq, seq, ["s"] * len(seq), {"v": seq.astype(float)}))
    full = window.nbytes
    window.evict(999_000)
    assert len(window) == 1001
    assert window.nbytes * 50 < full
    assert window.snapshot().seq.tolist() == list(range(999_000, 1_000_001))
    window.clear()
    assert window.nbytes < 100_000
    assert list(window.snapshot().columns) == ["_subject"]


@pytest.mark.parametrize(
    ("written", "bytes_"), [("2 GiB", 2 << 30), ("500 MB", 500_000_000), ("64mib", 64 * MIB)]
)
def test_setting(written: str, bytes_: int) -> None:
    """The ceiling can be set as a setting and as an environment variable."""
    assert Settings.load({"memory": written}, {}).memory == bytes_
    assert Settings.load({}, {"LOOKBACK_MEMORY": written}).memory == bytes_


@pytest.mark.parametrize("written", ["much", "1 MiB", "-5 GiB", True])
def test_setting_that_cannot_be(written: object) -> None:
    """A size that cannot be read, or is too small, is refused, and the error names the setting."""
    with pytest.raises(SettingsError, match="'memory'"):
        Settings.load({"memory": written}, {})


def test_many_threads() -> None:
    """While rows are appended, put in front, evicted and change their type, concurrent readers never fail,
    and each code they read has a label."""
    window, over, wrong = Window(max_rows=20_000), threading.Event(), []

    def read() -> None:
        try:
            while not over.is_set():
                snapshot = window.snapshot().named(("", "token"))
                assert window.nbytes > 0
                frame = snapshot.frame()
                tokens = frame["token"].tolist()
                assert tokens == [subject.split(".")[1] for subject in frame["_subject"]]
                for name, kind in snapshot.columns.items():
                    if kind == "text":
                        codes, labels = snapshot.codes(name)
                        assert codes.max(initial=-1) < len(labels)
                        assert codes.max(initial=-1) < len(snapshot._columns[name].labels.index())
        except Exception as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        for i in range(200):
            seq = np.arange(i * 100 + 10_000, i * 100 + 10_100, dtype=np.int64)
            subjects = [f"s.{i}-{k % 7}" for k in range(100)]
            odd: Values = [f"text {i}"] * 100 if i % 3 else np.arange(100, dtype=float)
            values: dict[str, Values] = {"v": odd, f"f{i % 40}": np.arange(100, dtype=float)}
            window.append(Batch(seq, seq, seq, subjects, values))
            if i % 10 == 9:
                window.evict(int(seq[0]) - 5000)
            if i % 50 == 20:
                older, first = Window(), int(window.oldest_seq or 0)
                past = np.arange(first - 10, first, dtype=np.int64)
                older.append(Batch(past, past, past, ["s.old"] * 10, {"v": ["n/a"] * 10}))
                window.prepend(older)
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not wrong
