"""The line above every page that says whether to trust it: live or not, how old, what is missing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import pandas as pd
import streamlit as st

from nats_client import ConnectionState, Gap, LookbackError, WatchHealth, format_duration

from . import handed
from .bucket import Bucket
from .connection import client, is_embedded
from .live import Read, View
from .words import age_text, bytes_text, clock_text, count_text, plain

Mood = Literal["live", "busy", "paused", "empty", "stale", "lost"]

STALE_AFTER = 10.0
"""Seconds without a message, at the least, before a feed is called stale; and 20 times its usual pace."""

FRESH = 5.0
"""Seconds for which the line may show the same numbers."""
_DRAWN = "_status"


@dataclass(frozen=True)
class Verdict:
    """One word on the page's data, and the sentence behind it."""

    mood: Mood
    word: str
    sentence: str = ""


def judge(reads: Sequence[Read], connection: ConnectionState, *, paused: bool) -> Verdict:
    """The worst that is true of the connection or anything that the page has read."""
    kept = " What came before stays on screen." if any(_size(read) for read in reads) else ""
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
    slow = [view for view in views if _is_stale(view)]
    if slow and len(slow) == len(views):
        return Verdict("stale", "Stale", "Connected, but no new message has come for longer than usual.")
    return Verdict("live", "Live")


def _size(read: Read) -> int:
    return read.snapshot.held if isinstance(read, Bucket) else len(read)


def status(reads: Sequence[Read], *, paused: bool) -> None:
    """Draw the line, the replay's progress, and what is missing, for what a page has read. The style sheet
    puts it above the page; drawn after it, it needs no box of its own, which would travel at each refresh."""
    state = client().state
    verdict = judge(reads, state, paused=paused)
    if handed.trouble and is_embedded() and verdict.mood in ("live", "stale", "empty"):
        verdict = Verdict("stale", "Stale", handed.trouble)
    views = [read for read in reads if isinstance(read, View)]
    buckets = {read.health.name: read for read in reads if isinstance(read, Bucket)}
    facts = [escape(state.server or client().settings.shown)]
    if is_embedded():
        facts.append('<b class="lb-demo">embedded demo</b>')
    ages = [view.now / 1e9 - view.health.newest / 1e9 for view in views if view.health.newest is not None]
    fresh = not ages or min(ages) < FRESH
    if ages:
        age = f"under {FRESH:g} s ago" if fresh else f"<b>{age_text(min(ages))}</b> ago"
        facts.append(f"newest message {age}")
    if views:
        rows = sum(len(view) for view in views)
        facts.append(f"<b>{rows:,}</b> rows in {format_duration(max(view.look_back for view in views))}")
    for name, bucket in buckets.items():
        if bucket.snapshot.version:
            facts.append(f"<b>{count_text(bucket.snapshot.held, 'key')}</b> in {escape(name)}")
    if any(view.health.stream is None for view in views):
        facts.append("plain subjects: no history, at most once")
    word = f'<div class="lb-status lb-{verdict.mood}"><span class="lb-word">{verdict.word}</span>'
    drawn = "".join(f"<span>{fact}</span>" for fact in facts)
    if fresh:
        drawn = _kept(word, drawn)
    else:
        draw_anew()  # an age that grows must not be shown for longer than it is true
    st.html(f"{word}{drawn}</div>")
    replaying = [view for view in views if view.health.phase == "replaying" and view.health.pending]
    missing = [*((lack, []) for bucket in buckets.values() for lack in _lacks(bucket)), *_missing(views)]
    if not (verdict.sentence or replaying or missing):
        return
    with st.container(gap="small", key="above"):
        if verdict.sentence:
            draw = st.error if verdict.mood == "lost" else st.warning
            draw(plain(verdict.sentence))
        for view in replaying:
            _progress(view)
        for sentence, details in missing:
            st.warning(plain(sentence), icon=":material/report:")
            if details:
                with st.expander("Details"):
                    st.dataframe(pd.DataFrame(details), hide_index=True)


def _kept(word: str, facts: str) -> str:
    """`facts` as they were up to FRESH seconds ago, under the same word: what does not change from refresh to
    refresh need not travel."""
    drawn, since, before = st.session_state.get(_DRAWN, ("", 0.0, ""))
    if drawn == word and time.monotonic() - since < FRESH:
        return str(before)
    st.session_state[_DRAWN] = word, time.monotonic(), facts
    return facts


def draw_anew() -> None:
    """Have the line show the state of this moment when it is drawn next."""
    st.session_state.pop(_DRAWN, None)


def empty_state(read: Read) -> None:
    """What stands in place of what cannot be drawn yet, for want of a single row, or of a bucket."""
    read.told.append("empty")
    health = read.health
    if isinstance(health, WatchHealth):
        what = f"bucket {health.name}"
    else:
        parts = {"stream": health.stream, "subject": health.subject}
        what = ", ".join(f"{kind} {name}" for kind, name in parts.items() if name)
    if isinstance(read, View) and health.phase == "following" and read.health.malformed:
        st.info(
            f"None of the messages in the last {format_duration(read.look_back)} can be read as a row "
            f"({plain(what)}): {plain(read.health.samples[-1].reason)}.",
            icon=":material/data_object:",
        )
    elif isinstance(read, View) and health.phase == "following":
        st.info(
            f"No message in the last {format_duration(read.look_back)} ({plain(what)}). "
            f"{plain(read.health.hint)} The page fills by itself when one comes.",
            icon=":material/hourglass_empty:",
        )
    elif health.phase in ("connecting", "replaying"):
        st.info(f"Waiting for {plain(what)}.", icon=":material/hourglass_top:")


def _is_stale(view: View) -> bool:
    received = view.snapshot.received
    if not len(received) or not view.steady:
        return False
    span = (int(received[-1]) - int(received[0])) / 1e9
    if span < STALE_AFTER:
        return False  # a burst says nothing of a usual pace
    usual = span / (len(received) - 1)
    return (view.now - int(received[-1])) / 1e9 > max(STALE_AFTER, 20 * usual)


def _progress(view: View) -> None:
    health = view.health
    total = health.done + health.pending
    text = f"Replaying {plain(health.name)}: {health.done:,} of {total:,} messages"
    st.progress(min(1.0, health.progress), text)


def _missing(views: list[View]) -> list[tuple[str, list[dict[str, object]]]]:
    """What the windows do not hold, in sentences, each with samples where there are some."""
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
            found.append((f"{name}: the archive can't be read. {health.archive} Older rows are missing.", []))
        if health.malformed:
            samples: list[dict[str, object]] = [
                {"subject": s.subject, "sequence": s.seq, "reason": s.reason, "payload": s.payload}
                for s in health.samples
            ]
            found.append((f"{name}: {count_text(health.malformed, 'malformed message')} left out.", samples))
        if health.dropped:
            when = clock_text(health.dropped_until)
            size = bytes_text(health.bytes)
            shared = f", its share of the {bytes_text(health.squeezed)} that all share" * bool(
                health.squeezed
            )
            way_out = ", or raise the setting 'memory'" * bool(health.squeezed)
            found.append(
                (
                    f"{name}: the window is full ({health.rows:,} rows, {size}{shared}). "
                    f"The {health.dropped:,} oldest rows, up to {when}, were dropped. "
                    f"Look back less far{way_out}.",
                    [],
                )
            )
        if health.mistyped:
            found.append(
                (f"{name}: {count_text(health.mistyped, 'value')} not a number, shown as missing.", [])
            )
        if health.surplus_fields:
            found.append(
                (
                    f"{name}: {count_text(health.surplus_fields, 'payload field')} too many, left out.",
                    [],
                )
            )
        if health.recreated:
            found.append((f"{name}: the stream was recreated; the window holds the new one only.", []))
    return found


def _lacks(bucket: Bucket) -> list[str]:
    """What the mapping does not hold, or how it is slow, in sentences."""
    health, found = bucket.health, []
    if bucket.optional and health.phase == "stopped":
        found.append(f"The bucket {health.name!r} can't be read. {health.why or ''}".strip())
    if health.left_out:
        size = bytes_text(health.bytes)
        left_out = count_text(health.left_out, "key")
        found.append(
            f"{health.name}: the mapping is full ({health.keys:,} keys, {size}). {left_out} left out."
        )
    if health.hindered:
        found.append(_hindered(health.name, health.hindered))
    if health.by_sequence:
        found.append(_by_sequence(health.name, health.by_sequence))
    return found


def _by_sequence(name: str, why: str) -> str:
    return f"{name}: read by sequence, every half second: {why}"


def _hindered(name: str, why: LookbackError) -> str:
    return f"{name}: read in steps, about a megabyte a second, for want of flow control. {why}"


def _gone(view: View) -> list[tuple[str, list[dict[str, object]]]]:
    """What has gone from the stream, or was never heard, within the look-back: how much, and when."""
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
                f"can't be shown: purged, deleted or expired, the stream no longer holds them.{keeps}",
                _table(removed),
            )
        )
    elif health.begins is not None and health.begins > view.now - view.look_back.value:
        found.append(
            (
                f"{health.name}: {holder} nothing from before {clock_text(health.begins)}. "
                f"{count_text(health.earlier, 'earlier message')} went before this page looked.{keeps}",
                [],
            )
        )
    interrupted = [gap for gap in view.gaps if gap.why == "interrupted"]
    if interrupted:
        found.append(
            (
                f"{health.name}: {count_text(len(interrupted), 'interruption')}, {_span(interrupted)}. "
                "What was published then is lost: plain subjects are not kept by a stream.",
                _table(interrupted),
            )
        )
    return found


def _span(gaps: list[Gap]) -> str:
    first, last = clock_text(gaps[0].start), clock_text(max(gap.end for gap in gaps))
    return first if first == last else f"{first} to {last}"


def _table(gaps: list[Gap]) -> list[dict[str, object]]:
    """The gaps one by one, where there are several."""
    if len(gaps) < 2:
        return []
    return [{"from": clock_text(gap.start), "to": clock_text(gap.end), "messages": gap.count} for gap in gaps]


def mistake(error: LookbackError) -> None:
    """Draw an error of Lookback's own: its text says what was wrong and what to do."""
    st.error(plain(str(error)), icon=":material/error:")
