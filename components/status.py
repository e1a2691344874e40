"""The status line above every page: whether the data is live, how old it is, and what is missing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import pandas as pd
import streamlit as st

from nats_client import ConnectionState, Gap, Health, LookbackError, format_duration

from . import launcher
from .data.bucket import Bucket
from .data.connection import client, is_embedded
from .data.live import Read, View
from .spent import timed
from .words import age_text, bytes_text, clock_text, count_text, plain

Mood = Literal["live", "busy", "paused", "empty", "stale", "lost"]

STALE_AFTER = 10.0
"""A feed is stale after this many seconds without a message, or after 20 times its usual interval if that is
longer."""

FRESH = 5.0
"""Seconds for which the line may keep showing the same numbers."""
_DRAWN = "_status"


@dataclass(frozen=True)
class Verdict:
    """The state of the page's data in one word, and the sentence that explains it."""

    mood: Mood
    word: str
    sentence: str = ""


def judge(reads: Sequence[Read], connection: ConnectionState, *, paused: bool) -> Verdict:
    """The worst state among the connection and everything the page has read."""
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
    if paused:
        return Verdict("paused", "Paused")
    for read in reads:
        if read.health.phase in ("connecting", "replaying"):
            return Verdict("busy", "Replaying" if read.health.phase == "replaying" else "Connecting")
    views = [read for read in reads if isinstance(read, View)]
    if views and not any(len(view) for view in views):
        return Verdict("empty", "Empty")
    return Verdict("stale", "Stale") if any(_is_stale(view) for view in views) else Verdict("live", "Live")


def _size(read: Read) -> int:
    return read.snapshot.held if isinstance(read, Bucket) else len(read)


@timed
def status(reads: Sequence[Read], interval: float | None) -> None:
    """Draw the status line and the warnings for what the page has read.

    interval: seconds between two refreshes; None if paused. Nothing here may move the page when it appears or
    disappears. So the style sheet places each part where nothing is below it: the line on top with room for
    its longest text, the reason for a lost connection at the bottom of the visible page, warnings behind a
    button beside the title. The line is drawn after the page, so it needs no placeholder element, which would
    be sent at each refresh.
    """
    state = client().state
    verdict = judge(reads, state, paused=interval is None)
    if launcher.trouble and is_embedded() and verdict.mood in ("live", "stale", "empty"):
        verdict = Verdict("stale", "Stale", launcher.trouble)
    views = [read for read in reads if isinstance(read, View)]
    buckets = {read.health.name: read for read in reads if isinstance(read, Bucket)}
    facts = [escape(state.server or client().settings.shown)]
    if is_embedded():
        facts.append('<b class="lb-demo">embedded demo</b>')
    replaying = [view.health for view in views if view.health.phase == "replaying" and view.health.pending]
    # An age would be wrong before the next refresh; the time of day stays right.
    lasting = interval is None or interval >= FRESH
    newest = _progress(replaying) if replaying else newest_text(views, lasting=lasting)
    last = f'<span class="lb-newest">{newest}&nbsp;</span>' if views else ""
    if views:
        rows = sum(len(view) for view in views)
        facts.append(f"<b>{rows:,}</b> rows in {format_duration(max(view.look_back for view in views))}")
    for name, bucket in buckets.items():
        if bucket.snapshot.version:
            facts.append(f"<b>{count_text(bucket.snapshot.held, 'key')}</b> in {escape(name)}")
    if any(view.health.stream is None for view in views):
        facts.append("plain subjects: no history, at-most-once delivery")
    word = f'<span class="lb-room"><span class="lb-word">{verdict.word}</span></span>'
    drawn = _kept(word + last, "".join(f"<span>{fact}</span>" for fact in facts))
    st.html(f'<div class="lb-status lb-{verdict.mood}">{word}{drawn}{last}</div>')
    if verdict.sentence:
        with st.container(key="told"):
            draw = st.error if verdict.mood == "lost" else st.warning
            draw(plain(verdict.sentence))
    missing = [*((lack, []) for bucket in buckets.values() for lack in _lacks(bucket)), *_missing(views)]
    if missing:
        _warn(missing)


def newest_text(views: Sequence[View], *, lasting: bool) -> str:
    """The age of the newest message as HTML, never younger than the newest message of any feed. If the
    feeds are far apart, name the one that has been silent longest. lasting: give the time of day instead
    of an age."""
    silent = [view.health.name for view in views if view.health.newest is None]
    newest = {view.health.name: view.health.newest for view in views if view.health.newest is not None}
    if not newest:
        return ""
    now = max(view.now for view in views)
    oldest = min(newest, key=lambda name: newest[name])
    least, greatest = ((now - time) / 1e9 for time in (max(newest.values()), newest[oldest]))
    near = greatest < STALE_AFTER or greatest - least < FRESH

    def when(time: int) -> str:
        age = (now - time) / 1e9
        if lasting:
            return f"at <b>{clock_text(time)}</b>"
        return f"under {FRESH:g} s ago" if age < FRESH else f"<b>{age_text(age)}</b> ago"

    text = f"newest message {when(newest[oldest] if near else max(newest.values()))}"
    if silent:
        return f"{text}; none in {escape(silent[0])}"
    return text if near else f"{text}; {when(newest[oldest])} in {escape(oldest)}"


def _warn(missing: Sequence[tuple[str, list[dict[str, object]]]]) -> None:
    label = count_text(len(missing), "warning")
    with st.popover(label, icon=":material/report:", key="warnings"):
        for sentence, details in missing:
            st.warning(plain(sentence), icon=":material/report:")
            if details:
                with st.expander("Details"):
                    st.dataframe(pd.DataFrame(details), hide_index=True)


def _kept(said: str, facts: str) -> str:
    """Return `facts` as drawn up to FRESH seconds ago, as long as the text beside them (`said`) is unchanged.
    What does not change is not sent again."""
    before, since, drawn = st.session_state.get(_DRAWN, ("", 0.0, ""))
    if before == said and time.monotonic() - since < FRESH:
        return str(drawn)
    st.session_state[_DRAWN] = said, time.monotonic(), facts
    return facts


def draw_anew() -> None:
    """Make the next status line show the current state."""
    st.session_state.pop(_DRAWN, None)


def _is_stale(view: View) -> bool:
    received = view.snapshot.received
    if not len(received) or not view.steady:
        return False
    span = (int(received[-1]) - int(received[0])) / 1e9
    if span < STALE_AFTER:
        return False  # one burst does not show a usual interval
    usual = span / (len(received) - 1)
    return (view.now - int(received[-1])) / 1e9 > max(STALE_AFTER, 20 * usual)


def _progress(replaying: Sequence[Health]) -> str:
    pending = sum(health.pending for health in replaying)
    share = 1 - pending / (pending + sum(health.rows for health in replaying))
    return f'{count_text(pending, "message")} to come<i style="width: {100 * share:.0f}%"></i>'


def _missing(views: list[View]) -> list[tuple[str, list[dict[str, object]]]]:
    """What the windows lack, as sentences, each with samples if there are any."""
    found: list[tuple[str, list[dict[str, object]]]] = []
    longest = {view.feed.key: view for view in sorted(views, key=lambda view: view.look_back)}
    for view in longest.values():
        health, name = view.health, view.health.name
        found += _gone(view)
        if health.hindered:
            found.append((_hindered(name, health.hindered), []))
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
        if health.recreated:
            found.append(
                (f"{name}: the stream was recreated. Only messages of the new stream are shown.", [])
            )
    return found


def _lacks(bucket: Bucket) -> list[str]:
    """What the bucket's values lack, or why reading them is slow, as sentences."""
    health, found = bucket.health, []
    if bucket.optional and health.phase == "stopped":
        found.append(f"Cannot read the bucket {health.name!r}. {health.why or ''}".strip())
    if health.left_out:
        size = bytes_text(health.bytes)
        left_out = count_text(health.left_out, "key")
        found.append(
            f"{health.name}: too large to hold in full ({health.keys:,} keys, {size}). {left_out} left out."
        )
    if health.hindered:
        found.append(_hindered(health.name, health.hindered))
    if health.by_sequence:
        found.append(_by_sequence(health.name, health.by_sequence))
    return found


def _by_sequence(name: str, why: str) -> str:
    return f"{name}: read by sequence, every half second: {why}"


def _hindered(name: str, why: LookbackError) -> str:
    return f"{name}: slow replay, about a megabyte a second, because flow control is not permitted. {why}"


def _gone(view: View) -> list[tuple[str, list[dict[str, object]]]]:
    """What left the stream, or was never received, within the look-back: how much, and when."""
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
