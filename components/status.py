"""The status line above every page: whether the data is live, how old it is, and what is missing."""

import json
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal
from weakref import WeakValueDictionary

import pandas as pd
import streamlit as st

from nats_client import (
    Client,
    ConnectionState,
    Gap,
    Health,
    LookbackError,
    PlayedBucket,
    Watch,
    format_duration,
)
from nats_client.feeds.health import FeedKey

from . import launcher
from .data.bucket import Bucket
from .data.connection import client, is_embedded
from .data.live import View, look_at
from .data.loading import Loading, loading
from .data.reads import Read, Reads
from .push.json_element import JsonElement, JsonSource, packed
from .push.tabs import own_tab
from .spent import timed
from .web.assets import STUB
from .words import (
    age_text,
    bytes_text,
    clock_text,
    count_text,
    cut,
    date_text,
    in_zone,
    plain,
    span_text,
    zone,
)

Mood = Literal["live", "busy", "past", "paused", "empty", "stale", "lost"]

STALE_AFTER = 10.0
"""A feed is stale after this many seconds without a message, or after 20 times its usual interval if that is
longer."""

FRESH = 5.0
"""Seconds for which the line may keep showing the same numbers."""
UNDER_WAY = ("connecting", "replaying", "reconnecting")
"""The phases in which a stretch is still to be loaded."""
SECOND = 1_000_000_000
FINE = 10
"""Parts of a stretch shorter than this many seconds are shown to the millisecond."""
RERUN_AGAIN = 5.0
"""Seconds after which the request to run the page again is repeated."""
BLOCKED = (
    "Live updates do not reach this browser, so the charts come with the refresh. A proxy lets the websocket "
    "of Streamlit through, but not the one at lookback/push. Its configuration has to pass on both."
)


@dataclass(frozen=True)
class Verdict:
    """The state of the page's data in one word, and the sentence that explains it."""

    mood: Mood
    word: str
    sentence: str = ""


def judge(reads: Sequence[Read], connection: ConnectionState, *, paused: bool, then: bool = False) -> Verdict:
    """The worst state among the connection and everything the page has read. `then`: the page also shows a
    time in the past without a feed or bucket."""
    kept = " The page keeps showing the last data." if any(_size(read) for read in reads) else ""
    if connection.status != "connected":
        if connection.error is None:
            return Verdict("busy", "Connecting")
        word = "Connecting" if connection.status == "connecting" else "Disconnected"
        return Verdict("lost", word, f"{connection.error}{kept}")
    reads = [read for read in reads if not (isinstance(read, Bucket) and read.optional)]
    for read in reads:
        health = read.health
        if health.phase in ("stopped", "reconnecting"):
            word = "Stopped" if health.phase == "stopped" else "Reconnecting"
            return Verdict("lost", word, f"{health.why or ''}{kept if _size(read) else ''}")
    views = [read for read in reads if isinstance(read, View)]
    buckets = [read for read in reads if isinstance(read, Bucket) and read.past]
    plays = [view.health.plays for view in views if view.health.plays is not None]
    plays += [read.watch.playback.playing for read in buckets if isinstance(read.watch, PlayedBucket)]
    ended = all(view.health.ended for view in views) and all(map(_is_ended, buckets))
    if (views or buckets or then) and ended:
        shown = not views or any(len(view) for view in views)
        return Verdict("past", "Past") if shown else Verdict("empty", "Empty")
    busy = [read.health.phase for read in reads if read.health.phase in ("connecting", "replaying")]
    if not busy and not plays and any(view.health.phase == "halted" for view in views):
        return Verdict("stale", "Stopped")
    if paused:
        return Verdict("paused", "Paused")
    if busy:
        return Verdict("busy", "Replaying" if busy[0] == "replaying" else "Connecting")
    if plays:
        return Verdict("past", "Playing") if any(plays) else Verdict("paused", "Paused")
    if views and not any(len(view) for view in views):
        return Verdict("empty", "Empty")
    return Verdict("stale", "Stale") if any(_is_stale(view) for view in views) else Verdict("live", "Live")


def _is_ended(bucket: Bucket) -> bool:
    """True if a bucket of the past has been read, and is played to the end if it is played."""
    watch = bucket.watch
    at_end = not isinstance(watch, PlayedBucket) or watch.now() >= watch.playback.end
    return bucket.health.phase == "following" and at_end


def _size(read: Read) -> int:
    return read.snapshot.held if isinstance(read, Bucket) else len(read)


OTHERS = ("mood", "word", "newest", "bar", "act")
"""The entries of the line besides facts. `mood` and `word`: the state, as a style and as a word. `newest`:
the newest message, as pieces; None for a page without feeds. `bar`: the progress of the replay, 0 to 1; None
if there is none. `act`: the action that the viewer may take, a key of ACTS; "" for none now, None if there is
never one."""

Piece = str | list[str]
"""Text. In a list, it is bold; a second item of the list is its style."""


@dataclass(frozen=True)
class Line:
    """The contents of the status line for some reads at one moment."""

    verdict: Verdict
    said: dict[str, Any]
    """The form that static/status.js draws: the entries OTHERS, and `fact0` and so on, lists of pieces."""
    missing: list[tuple[str, list[dict[str, object]]]]
    """Warnings about missing data: sentences, each with samples if there are any."""
    structure: str
    """A digest. If it changes, a live element cannot show the change, so the page must run again."""


def line_of(
    reads: Sequence[Read],
    nats: Client,
    *,
    interval: float | None,
    then: bool = False,
    others: Sequence[Callable[[], Hashable]] = (),
    notes: Sequence[Callable[[], str]] = (),
    stopped: Collection[FeedKey] = (),
) -> Line:
    """The line for `reads`. interval: seconds between two refreshes; None if paused. then: as for judge().
    others: functions whose values the page was also drawn for. notes: functions that return further facts.
    stopped: the feeds whose loading this viewer has stopped."""
    state = nats.state
    verdict = judge(reads, state, paused=interval is None, then=then)
    if launcher.trouble and is_embedded() and verdict.mood in ("live", "stale", "empty"):
        verdict = Verdict("stale", "Stale", launcher.trouble)
    views = [read for read in reads if isinstance(read, View)]
    steady = [view for view in views if view.steady]
    buckets = {read.health.name: read for read in reads if isinstance(read, Bucket)}
    facts: list[list[Piece]] = []
    replaying = [view for view in views if view.health.phase == "replaying" and view.health.pending]
    # An age would be wrong before the next refresh; the time of day stays right.
    lasting = interval is None or interval >= FRESH or any(view.past for view in views)
    bar: float | None = None
    newest: list[Piece] | None
    if replaying:
        newest, bar = _progress([view.health for view in replaying])
        if all(view.feed.key in stopped for view in replaying):
            newest.append(" for another viewer")
    elif halted := [_whole(view) for view in views if view.health.phase == "halted"]:
        newest = _loaded(min(halted, key=_share), several=len(views) > 1)
    else:
        newest = newest_text(steady or views, lasting=lasting) if views else None
    if views:
        rows = sum(len(view) for view in views)
        facts.append([[f"{rows:,}"], f" rows in {format_duration(max(view.look_back for view in views))}"])
    if is_embedded():
        facts.append([["embedded demo", "lb-demo"]])
    for name, bucket in buckets.items():
        if bucket.snapshot.version:
            facts.append([[count_text(bucket.snapshot.held, "key")], f" in {name}"])
    facts += _filtered(views)
    if any(view.health.stream is None for view in views):
        facts.append(["plain subjects: no history, at-most-once delivery"])
    facts.extend([text] for text in dict.fromkeys(note() for note in notes) if text)
    facts.append([state.server or nats.settings.shown])
    missing = [
        *((lack, []) for bucket in buckets.values() for lack in _bucket_warnings(bucket)),
        *_missing(views),
    ]
    said: dict[str, Any] = {"mood": verdict.mood, "word": verdict.word, "newest": newest, "bar": bar}
    said["act"] = _act(views, stopped)
    said |= {f"fact{i}": fact for i, fact in enumerate(facts)}
    columns = [(view.columns, *(() if view else _emptiness(view))) for view in views]
    versions = [bucket.snapshot.version for bucket in buckets.values()]
    structure = repr((verdict, missing, columns, versions, [hash(other()) for other in others]))
    # Each viewer's session keeps the structure, so store a short digest of it.
    return Line(verdict, said, missing, blake2b(structure.encode(), digest_size=16).hexdigest())


def _act(views: Sequence[View], stopped: Collection[FeedKey]) -> str | None:
    """The action that the viewer may take: "stop" while a stretch loads, "rest" after the viewer stopped one,
    "" for none; None if the page reads no stretch."""
    if not any(view.past for view in views):
        return None
    under_way = [view for view in views if view.past and view.health.phase in UNDER_WAY]
    if any(view.feed.key not in stopped for view in under_way):
        return "stop"
    return "rest" if under_way or any(view.health.phase == "halted" for view in views) else ""


def _whole(view: View) -> View:
    """The view of the whole stretch if `view` is a playback of it; otherwise `view`."""
    stretch = view.stretch
    if stretch is None:
        return view
    before = view.look_back  # the feed reads this much from before the stretch
    return look_at(stretch, stretch.look_back - before, False, by_code=False)


def _share(view: View) -> float:
    """The fraction of a halted stretch that is loaded."""
    first, last = view.loaded or (0, 0)
    return (last - first) / view.look_back.value


def _loaded(view: View, *, several: bool) -> list[Piece]:
    """The part of a halted stretch that is loaded, as pieces of text. `several`: name the feed."""
    end = view.feed.now()
    start, (first, last) = end - view.look_back.value, view.loaded or (0, 0)
    # With several feeds the line has room for the name only, and the clock shows the whole stretch.
    whole = f" loaded in {view.health.name}" if several else f" of {span_text(start, end)} loaded"
    # Rounded inwards, so that the text never claims more than is loaded.
    unit = SECOND if last - first >= FINE * SECOND else SECOND // 1000
    first, last = (first if first == start else -(-first // unit) * unit, last // unit * unit)
    return [[span_text(first, last)] if first < last else "nothing", whole]


def _emptiness(view: View) -> tuple[object, ...]:
    """The values that the empty state of a view without rows depends on."""
    health = view.health
    reason = health.samples[-1].reason if health.samples else ""
    return health.phase, health.hint, reason, health.read > 0, health.doubts


def _filtered(views: Sequence[View]) -> list[list[Piece]]:
    """For each view with a `where`: how many messages match it, of how many messages read."""
    found: dict[object, list[Piece]] = {}
    for view in views:
        health = view.health
        if health.where is not None:
            seq = view.snapshot.seq
            matching = int((seq[1:] != seq[:-1]).sum()) + 1 if len(seq) else 0
            read = max(matching, health.read)
            of = f" of {count_text(read, 'message')}"
            found[view.feed.key, view.look_back] = [f"{health.where}: ", [f"{matching:,}"], of]
    return list(found.values())


class LineSource(JsonSource):
    """The status line of some reads, for all viewers who share them."""

    def __init__(
        self,
        reads: Sequence[View | Bucket],
        nats: Client,
        zone: str,
        interval: float | None,
        then: bool,
        others: Sequence[Callable[[], Hashable]],
        notes: Sequence[Callable[[], str]],
        stopped: Collection[FeedKey],
    ) -> None:
        super().__init__()
        self._interval, self._then = interval, then
        self._stopped = stopped
        self._others = others
        self._notes = notes
        self._again = [read.again for read in reads]
        self._nats = nats
        self._zone = zone
        self._facts: tuple[float, object, dict[str, Any]] = (0.0, None, {})
        self.structure = ""

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Never calls `changed`: the line is polled once a second, which is enough."""
        return lambda: None

    def look(self) -> dict[str, Any]:
        """The line now."""
        try:
            with in_zone(self._zone):
                reads = [again() for again in self._again]
                line = line_of(
                    reads,
                    self._nats,
                    interval=self._interval,
                    then=self._then,
                    others=self._others,
                    notes=self._notes,
                    stopped=self._stopped,
                )
        except LookbackError as error:  # a feed is closed; the page's next run opens it again
            self.structure = repr(error)
            return dict(self.content or {})
        self.structure = line.structure
        facts = {name: value for name, value in line.said.items() if name not in OTHERS}
        others = {name: line.said[name] for name in OTHERS}
        # Facts change all the time, so they are sent less often.
        since, beside, sent = self._facts
        now = time.monotonic()
        if others == beside and facts.keys() == sent.keys() and now - since < FRESH:
            facts = sent
        else:
            self._facts = now, others, facts
        return {**others, **facts}


class LineElement(JsonElement):
    """The status line of one viewer's page, and the request to run the page again."""

    def __init__(self, source: LineSource, loading: Loading) -> None:
        super().__init__(source)
        self.loading = loading
        self._drawn = ""
        self._asked = "", 0.0

    def draw_for(self, structure: str) -> None:
        """Record that the page was drawn for `structure`; "" if it runs again by itself."""
        self._drawn, self._asked = structure, ("", 0.0)

    def next(self, held: Any) -> tuple[Any, bytes] | None:
        """The entries that the browser lacks, and `again` if the page must run again."""
        assert isinstance(self.source, LineSource)
        self.loading.repeat()
        structure, (asked, when), now = self.source.structure, self._asked, time.monotonic()
        news = super().next(held)
        if not self._drawn or structure == self._drawn or (structure == asked and now - when < RERUN_AGAIN):
            return news
        self._asked = structure, now
        known, message = news or (held, b"{}")
        return known, packed({**json.loads(message), "again": int(1000 * now)})

    def receive(self, message: dict[str, Any]) -> None:
        """Stop loading, or load the rest, as the viewer requested. Works even while the page runs."""
        if self.loading.obey(message.get("act")) and self._drawn:
            self.draw_for("another run")


_sources: WeakValueDictionary[object, LineSource] = WeakValueDictionary()
_line = st.components.v2.component("status", js=STUB.format("status"), isolate_styles=False)


@timed
def status(reads: Reads, interval: float | None, *, reruns: bool, again: bool) -> None:
    """Draw the status line and the warnings for what the page has read.

    interval: seconds between two refreshes; None if paused. reruns: whether the page runs again at each
    refresh. Otherwise the line requests a run when more than numbers has changed, and soon if `again`.

    Nothing here may move the page when it appears or disappears. So the style sheet keeps the line to one
    line, two on a phone, and cuts longer text, which appears under the pointer. The reason for a lost
    connection is at the bottom of the visible page, and warnings are behind a button beside the title. The
    line is drawn after the page, so it needs no placeholder element, which would be sent at each refresh.
    """
    nats = client(by_code=False)
    shown: list[View | Bucket] = [
        read.watched if isinstance(read, View) else read for read in reads if isinstance(read, View | Bucket)
    ]
    loads = loading()
    stopped = loads.stopped
    line = line_of(
        shown,
        nats,
        interval=interval,
        then=reads.then,
        others=list(reads.others),
        notes=reads.notes,
        stopped=stopped,
    )
    tab = own_tab()
    if tab.blocked:
        line.said["fact"] = ["charts come with the refresh"]
        line.missing.append((BLOCKED, []))
    key = tuple(
        (read.feed, read.look_back, read.steady) if isinstance(read, View) else (read.watch, read.optional)
        for read in shown
    )
    of = key, nats, zone(), interval, reads.then, tuple(reads.others), tuple(reads.notes), stopped
    source = _sources.get(of)
    if source is None:
        source = _sources[of] = LineSource(
            shown, nats, zone(), interval, reads.then, list(reads.others), list(reads.notes), stopped
        )
    placed = tab.place("", lambda: LineElement(source, loads))
    element = placed.element
    # After a reload of edited code, the element may be of the old class.
    if not isinstance(element, LineElement) or element.source is not source or element.loading is not loads:
        element = LineElement(source, loads)
        tab.replace(placed, element)
    # A value may have changed since the page was drawn.
    again = again or any(value() != seen for value, seen in reads.others.items())
    element.draw_for("" if reruns or not shown else "another run" if again else line.structure)
    _line(
        key="status-line",
        data={"live": placed.number, **line.said},
        on_again_change=_again,
        on_act_change=_act_on,
    )
    if line.verdict.sentence:
        with st.container(key="status-reason"):
            draw = st.error if line.verdict.mood == "lost" else st.warning
            draw(plain(line.verdict.sentence))
    if line.missing:
        _warn(line.missing)


def _act_on() -> None:
    """Stop loading, or load the rest, as the viewer requested without the tab's websocket."""
    loading().obey(st.session_state["status-line"].get("act"))


def _again() -> None:
    """Intentionally empty: registering it makes Streamlit run the page again."""


def newest_text(views: Sequence[View], *, lasting: bool) -> list[Piece]:
    """The age of the newest message. If all feeds are about equally fresh, the greatest of their ages.
    Otherwise the least, then the greatest with the name of its feed. A feed without messages is named too.
    lasting: give the time of day instead of an age."""
    silent = [view.health.name for view in views if view.health.newest is None]
    newest = {view.health.name: view.health.newest for view in views if view.health.newest is not None}
    if not newest:
        return []
    now = max(view.now for view in views)
    oldest = min(newest, key=lambda name: newest[name])
    least, greatest = ((now - time) / 1e9 for time in (max(newest.values()), newest[oldest]))
    near = greatest < STALE_AFTER or greatest - least < FRESH

    def when(time: int) -> list[Piece]:
        age = (now - time) / 1e9
        if lasting:
            return ["at ", [clock_text(time)]]
        return [f"under {FRESH:g} s ago"] if age < FRESH else [[age_text(age)], " ago"]

    text = ["newest message ", *when(newest[oldest] if near else max(newest.values()))]
    if silent:
        return [*text, f"; none in {silent[0]}"]
    return text if near else [*text, "; ", *when(newest[oldest]), f" in {oldest}"]


def _warn(missing: Sequence[tuple[str, list[dict[str, object]]]]) -> None:
    label = count_text(len(missing), "warning")
    with st.popover(label, icon=":material/report:", key="warnings"):
        for sentence, details in missing:
            st.warning(plain(sentence), icon=":material/report:")
            if details:
                with st.expander("Details"):
                    st.dataframe(pd.DataFrame(details), hide_index=True)


def _is_stale(view: View) -> bool:
    received = view.snapshot.received
    if not len(received) or not view.steady or view.past:
        return False
    newest, count = int(received[-1]), len(received)
    if view.health.read_until is not None:  # messages that do not match show that the stream continues
        newest, count = max(newest, view.health.read_until), max(count, view.health.read)
    span = (newest - int(received[0])) / 1e9
    if span < STALE_AFTER:
        return False  # one burst does not show a usual interval
    usual = span / (count - 1) if count > 1 else span
    return (view.now - newest) / 1e9 > max(STALE_AFTER, 20 * usual)


def _progress(replaying: Sequence[Health]) -> tuple[list[Piece], float]:
    pending = sum(health.pending for health in replaying)
    share = 1 - pending / (pending + sum(max(health.rows, health.read) for health in replaying))
    return [f"{count_text(pending, 'message')} to come"], round(share, 2)


def _missing(views: list[View]) -> list[tuple[str, list[dict[str, object]]]]:
    """Warnings about data that is missing from the windows: sentences, each with samples if there are any."""
    found: list[tuple[str, list[dict[str, object]]]] = []
    longest = {view.feed.key: view for view in sorted(views, key=lambda view: view.look_back)}
    for view in longest.values():
        health, name = view.health, view.health.name
        found += _gone(view)
        if health.phase == "halted" and len(longest) > 1:  # the line itself reports a single feed
            loaded = _loaded(_whole(view), several=False)
            of = "".join(piece if isinstance(piece, str) else piece[0] for piece in loaded)
            found.append((f"{name}: loading was stopped, {of}.", []))
        if health.flow_control_denied:
            found.append((_slow(name, health.flow_control_denied), []))
        if health.by_sequence:
            found.append((_by_sequence(name, health.by_sequence), []))
        if health.archive:
            found.append((f"{name}: cannot read the archive. {health.archive} Older rows are missing.", []))
        if health.malformed:
            samples: list[dict[str, object]] = [
                {"subject": s.subject, "sequence": s.seq, "reason": s.reason, "payload": s.payload}
                for s in health.samples
            ]
            found.append((f"{name}: {count_text(health.malformed, 'malformed message')} left out.", samples))
        if health.dropped:
            when = clock_text(health.dropped_until)
            size = bytes_text(health.bytes)
            shared = f", its share of the app's {bytes_text(health.squeezed)}" * bool(health.squeezed)
            way_out = ", or raise the setting 'memory'" * bool(health.squeezed)
            found.append(
                (
                    f"{name}: the window is full ({health.rows:,} rows, {size}{shared}). "
                    f"The {health.dropped:,} oldest rows, up to {when}, were dropped. "
                    f"Choose a shorter look-back{way_out}.",
                    [],
                )
            )
        found += [(f"{name}: {sentence}", []) for sentence in health.doubts]
        if health.mistyped:
            found.append(
                (f"{name}: {count_text(health.mistyped, 'value')} not numeric, shown as missing.", [])
            )
        if health.surplus_fields:
            found.append(
                (
                    f"{name}: too many fields; {count_text(health.surplus_fields, 'field')} left out.",
                    [],
                )
            )
        if elsewhere := _times_elsewhere(view):
            found.append((f"{name}: {elsewhere}", []))
        if health.recreated:
            found.append(
                (f"{name}: the stream was recreated. Only messages of the new stream are shown.", [])
            )
    return found


def _times_elsewhere(view: View) -> str:
    """A sentence if the rows' own time puts all of them outside the look-back; otherwise empty."""
    field, rows = view.feed.key.time, view.drawn.snapshot
    if field is None or not len(rows):
        return ""
    first, last = int(rows.time.min()), int(rows.time.max())
    if last >= view.now - view.look_back.value and first <= view.now:
        return ""
    when = date_text(first) if first == last else f"{date_text(first)} to {date_text(last)}"
    # Such a field often has another unit or zone than expected, so show its newest value.
    column = field.rpartition("@")[0] or field
    newest = rows.between(rows.end - 1, rows.end)
    written = ""
    if column in newest.columns and len(newest):
        value = newest.frame([column])[column].iloc[0]
        written = f" The newest has {cut(str(value), 60)!r}, read as {date_text(int(newest.time[0]))}."
    return (
        f"the field {field!r} puts all {count_text(len(rows), 'row')} outside the look-back: {when}."
        f"{written} Check its unit and time zone, or choose another time."
    )


def _bucket_warnings(bucket: Bucket) -> list[str]:
    """Warnings about missing or slow values of the bucket, as sentences."""
    health, found = bucket.health, []
    if bucket.optional and health.phase == "stopped":
        found.append(f"Cannot read the bucket {health.name!r}. {health.why or ''}".strip())
    if health.left_out:
        size = bytes_text(health.bytes)
        left_out = count_text(health.left_out, "key")
        found.append(
            f"{health.name}: too large to hold in full ({health.keys:,} keys, {size}). {left_out} left out."
        )
    if bucket.past and not bucket.waiting and bucket.unknown:
        count = len(bucket.unknown)
        keys = f"{count_text(count, 'key')} {'is' if count == 1 else 'are'}"
        found.append(
            f"{health.name}: {keys} not known as of then, because the history that the bucket keeps of "
            f"{'it' if count == 1 else 'them'} begins later."
        )
    since = None if isinstance(bucket.watch, Watch) else bucket.watch.kept_since
    if since is not None and since > bucket.now:
        found.append(
            f"{health.name}: its revisions expire. Those from before {clock_text(since)} are gone, so keys "
            "and values of then are missing."
        )
    if health.flow_control_denied:
        found.append(_slow(health.name, health.flow_control_denied))
    if health.by_sequence:
        found.append(_by_sequence(health.name, health.by_sequence))
    return found


def _by_sequence(name: str, why: str) -> str:
    return f"{name}: read by sequence, every half second: {why}"


def _slow(name: str, why: LookbackError) -> str:
    return f"{name}: slow replay, about a megabyte a second, because flow control is not permitted. {why}"


def _gone(view: View) -> list[tuple[str, list[dict[str, object]]]]:
    """Warnings about messages of the look-back that left the stream or were never received: how many, and
    when."""
    health = view.health
    keeps = f" The stream keeps at most {health.limits}." if health.limits else ""
    both = view.feed.key.archive is not None and health.archive is None
    holder = "the stream and its archive hold" if both else "the stream holds"
    found: list[tuple[str, list[dict[str, object]]]] = []
    removed = [gap for gap in view.gaps if gap.why == "removed"]
    if removed:
        counts = [gap.count for gap in removed if gap.count is not None]
        some = "" if len(counts) == len(removed) else "an unknown number of messages" + " and " * bool(counts)
        what = some + (count_text(sum(counts), "message") if counts else "")
        found.append(
            (
                f"{health.name}: {what} from {_span(removed)} "
                f"cannot be shown: they were purged, deleted or expired from the stream.{keeps}",
                _table(removed),
            )
        )
    elif health.begins is not None and health.begins > view.now - view.look_back.value:
        found.append(
            (
                f"{health.name}: {holder} nothing from before {clock_text(health.begins)}. "
                f"{count_text(health.earlier, 'earlier message')} had already left the stream.{keeps}",
                [],
            )
        )
    interrupted = [gap for gap in view.gaps if gap.why == "interrupted"]
    if interrupted:
        found.append(
            (
                f"{health.name}: {count_text(len(interrupted), 'interruption')}, {_span(interrupted)}. "
                "Messages published meanwhile are lost, because no stream stores plain subjects.",
                _table(interrupted),
            )
        )
    return found


def _span(gaps: list[Gap]) -> str:
    first, last = clock_text(gaps[0].start), clock_text(max(gap.end for gap in gaps))
    return first if first == last else f"{first} to {last}"


def _table(gaps: list[Gap]) -> list[dict[str, object]]:
    """The gaps one by one, if there is more than one."""
    if len(gaps) < 2:
        return []
    return [{"from": clock_text(gap.start), "to": clock_text(gap.end), "messages": gap.count} for gap in gaps]
