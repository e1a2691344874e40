"""Stretches of two days whose messages are known, with a clock that was set back, from stream and archive.

Slow, because two days of messages are stored, and read at many moments.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nats_client import Client, Feed, NamedFeed, Settings
from tests import two_days
from tests.origin import PastServer, Stored
from tests.two_days import HOUR, MINUTE, START, Line, at
from tests.waiting import until


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PastServer]:
    """A server with two days of messages in a stream and its archive."""
    with two_days.two_days_server(tmp_path_factory.mktemp("past")) as server:
        yield server


@pytest.fixture
def client(past: PastServer) -> Iterator[Client]:
    """A client of that server."""
    with Client(Settings(url=past.url)) as client:
        yield client


STRETCHES = {
    "before all": (START - 5 * HOUR, START - HOUR),
    "its beginning": (START - HOUR, at(1, "02:00")),
    "only the archive": (at(1, "05:00"), at(1, "06:00")),
    "the server away": (at(1, "08:00"), at(1, "10:00")),
    "what was lost": (at(1, "10:30"), at(1, "12:00")),
    "before the clock is set back": (at(1, "13:20"), at(1, "14:00")),
    "beginning while it is": (at(1, "13:30"), at(1, "15:00")),
    "ending while it is": (at(1, "12:00"), at(1, "13:10")),
    "inside of what was twice": (at(1, "13:10"), at(1, "13:20")),
    "across the seam": (at(1, "22:00"), at(2, "02:00")),
    "twice at the seam": (at(1, "23:10"), at(1, "23:15")),
    "what was deleted": (at(2, "09:50"), at(2, "10:20")),
    "only the stream": (at(2, "06:00"), at(2, "08:00")),
    "ending where it was twice": (at(2, "13:00"), at(2, "14:10")),
    "one of the twice": (at(2, "14:05"), at(2, "14:30")),
    "beginning where it was twice": (at(2, "14:30"), at(2, "17:00")),
    "after it": (at(2, "15:10"), at(2, "15:50")),
    "all": (START - HOUR, START + 49 * HOUR),
}


def opened(client: Client, start: int, end: int, **of: Any) -> Feed | NamedFeed:
    """The feed of a stretch, with the messages from the archive."""
    found = client.feed(
        "S",
        look_back=pd.Timedelta(end - start, unit="ns"),
        end=pd.Timestamp(end, unit="ns", tz="UTC"),
        archive="history.query",
        **of,
    )
    assert found.wait(30)
    until(lambda: found.health.archive is None, 90)  # a busy history service is queried again
    return found


def sequences(lines: Sequence[Line]) -> list[int]:
    """The sequences of these messages."""
    return [line.seq for line in lines]


@pytest.mark.parametrize("name", STRETCHES)
def test_each_stretch(client: Client, name: str) -> None:
    """A stretch has exactly the messages whose time lies in it, in the order of their sequence, with their
    values. Messages between them that neither stream nor archive holds any more are counted as a gap."""
    start, end = STRETCHES[name]
    known = two_days.between(start, end)
    feed = opened(client, start, end)
    assert feed.snapshot().seq.tolist() == sequences(known)
    if known:
        rows = feed.frame()
        by_time = sorted(known, key=lambda line: line.time)
        assert [time.value for time in rows.index] == [line.time for line in by_time]
        assert rows["n"].tolist() == [line.n for line in by_time]
    assert sum(gap.count or 0 for gap in feed.health.gaps) == two_days.lost(start, end)


@pytest.mark.parametrize("name", ["beginning while it is", "twice at the seam", "one of the twice"])
def test_wider(client: Client, name: str) -> None:
    """A stretch that becomes wider gets the older messages, also those stored after the clock was set
    back."""
    start, end = STRETCHES[name]
    assert opened(client, start, end).snapshot().seq.tolist() == sequences(two_days.between(start, end))
    for wider in (start - 20 * MINUTE, start - 2 * HOUR):
        known = sequences(two_days.between(wider, end))
        feed = opened(client, wider, end)
        until(lambda: feed.snapshot().seq.tolist() == known)


@pytest.mark.parametrize("of", [{"subject": "s.one"}, {"where": "n > 50"}])
def test_some_of_it(client: Client, of: dict[str, str]) -> None:
    """With a subject or a `where`, a stretch has the messages that match."""
    with ThreadPoolExecutor(2) as pool:  # the history service runs two queries of a caller at once
        feeds = list(pool.map(lambda each: opened(client, each[0], each[1], **of), STRETCHES.values()))
    for (name, stretch), feed in zip(STRETCHES.items(), feeds, strict=True):
        known = two_days.between(*stretch)
        wanted = [line for line in known if (line.line == "one" if "subject" in of else line.n > 50)]
        assert feed.snapshot().seq.tolist() == sequences(wanted), name


def test_live(client: Client) -> None:
    """A live feed with a look-back over both days has every message once."""
    feed = client.feed("S", look_back="P30D", archive="history.query")
    assert feed.wait(30)
    assert feed.snapshot().seq.tolist() == sequences(two_days.KNOWN)


def test_values_of_a_bucket(past: PastServer, client: Client) -> None:
    """As of a moment, a key's value is the highest of its revisions stored before then, even if a lower
    revision has a later time."""
    times = (at(1, "14:00"), at(1, "14:30"), at(1, "14:10"), at(1, "15:00"))
    revisions = [Stored(n, time, "$KV.late.k", b"%d" % n) for n, time in enumerate(times, 1)]
    past.add_past_stream("KV_late", ["$KV.late.>"], revisions, max_msgs_per_subject=10)
    for clock, value in (("14:05", b"1"), ("14:20", b"3"), ("14:40", b"3"), ("15:10", b"4")):
        then = client.values("late", end=pd.Timestamp(at(1, clock), unit="ns", tz="UTC"))
        assert then.wait(30)
        entry = then.snapshot().entry("k")
        assert entry.payload == value


def test_an_hour_is_played(client: Client) -> None:
    """An hour that is partly in the archive, and in which the clock was set back, can be played. No step
    shows a row from after its moment, or lacks a row stored before the clock first passed that moment. At the
    end, the rows are those of the stretch, each once."""
    start, end = at(1, "22:40"), at(1, "23:40")
    known = two_days.between(start - HOUR, end)
    assert known[0].seq < two_days.STORED[0].seq < known[-1].seq
    reached = np.maximum.accumulate([line.time for line in known])
    playback = client.playback(*(pd.Timestamp(time, unit="ns", tz="UTC") for time in (start, end)))
    feed = playback.feed("S", look_back="PT1H", archive="history.query")
    assert feed.wait(30)
    until(lambda: not playback.is_loading)
    steps = []

    def look() -> None:
        before, shown = playback.moment, feed.snapshot().seq.tolist()
        steps.append((before, shown, playback.moment))

    done = feed.watch(look)
    playback.play(600)
    until(lambda: not playback.playing)
    done()
    assert len(steps) > 20
    times, all_known = {line.seq: line.time for line in known}, sequences(known)
    for before, shown, after in steps:
        assert shown == sorted(set(shown))
        assert all(times[seq] < after for seq in shown)
        first = np.searchsorted(reached, after - HOUR)
        assert set(all_known[first : np.searchsorted(reached, before)]) <= set(shown)
    assert feed.snapshot().seq.tolist() == sequences(two_days.between(start, end))
    by_time = sorted(two_days.between(start, end), key=lambda line: line.time)
    assert feed.frame()["n"].tolist() == [line.n for line in by_time]
