"""values(): the values of a key-value bucket as one refresh of a page sees them, and functions that draw
them."""

from collections.abc import Iterable

import streamlit as st

from nats_client import (
    BucketInfo,
    Client,
    Entry,
    PastBucket,
    PlayedBucket,
    Watch,
    entries_frame,
    format_duration,
)
from nats_client.errors import RequestFailed, RequestRefused

from ..choices.choose import choose, chosen
from ..choices.clock import clock
from ..data.bucket import Bucket, look_at
from ..data.connection import client, shared
from ..data.live import wait_once
from ..data.playing import playback
from ..data.reads import collect
from ..data.states import empty_state
from ..spent import timed
from ..words import age_text, bytes_text, count_text, date_text, local, plain
from .streams import KEEP, listed

MOST_ROWS = 500
"""Keys in a table. Each refresh sends the whole table."""
MOST_UNKNOWN = 20
"""Keys to name whose values at a time in the past are unknown."""
MOST_TEXT = 20_000
"""Characters of a value to show."""


@timed
def values(bucket: str, *, optional: bool = False) -> Bucket:
    """The values of the key-value bucket `bucket`, by key: `values("settings")["cpu"]`.

    One watch keeps them current for all viewers, so reading them sends the server nothing. A value is decoded
    as JSON if it is JSON, else as text, else shown as hex with its length. A missing key raises KeyNotFound,
    which the frame draws with the nearest keys; `.get(key, default)` does not raise. Until the bucket has
    been read once, the page runs up to the first access (a key, `in`, `.get`, len() or a loop) and ends
    there, and the frame says why. `key_list`, `key_value` and `key_history` show instead that they are
    waiting. With `optional`, the mapping is empty until then; if the bucket cannot be read, a warning says
    so.

    At a stretch in the past, or in a playback, the values are those at its end or moment, as far as the
    bucket's history reaches. `unknown` names the keys for which it does not reach that far; reading one of
    them raises KeyNotFound. Raises SubjectError if `bucket` is not a valid bucket name.
    """
    nats, end, played = client(by_code=False), clock().end_time, playback()
    watch: Watch | PastBucket | PlayedBucket
    if end is None:
        watch = nats.values(bucket)
    else:
        past = nats.values(bucket, end=end)
        watch = past if played is None else PlayedBucket(past, played)
    wait_once((bucket, watch.opened), watch.wait)
    read = look_at(watch, optional=optional)
    collect(read)
    return read


def choose_bucket() -> str | None:
    """Let the viewer choose one of the server's buckets or type a name. None, with a message on the page,
    while there is no bucket to choose. A bucket that vanishes stays chosen, so that the status line can
    report why."""
    shown = chosen("Bucket", "")
    try:
        names = [info.name for info in listed("buckets", _buckets)]
        if not names and not shown:
            st.info("This server has no key-value buckets yet. New ones will appear here.")
    except RequestFailed as error:
        st.warning(plain(f"Cannot list the buckets. Type the name of one. {error}"), icon=":material/lock:")
        names = []
    if shown and shown not in names:
        names.append(shown)
    return choose("Bucket", names, own=True) or None


@st.cache_data(ttl=KEEP, show_spinner=False)
def _buckets(rights: str, _nats: Client) -> list[BucketInfo]:
    return _nats.buckets()


def bucket_settings(bucket: str) -> None:
    """Draw one line with the configuration and size of `bucket`."""
    try:
        found = [_settings(info) for info in listed("buckets", _buckets) if info.name == bucket]
    except RequestFailed:
        return
    st.caption(plain(found[0]) if found else "The server has no bucket of this name.")


def _settings(info: BucketInfo) -> str:
    most = f" of at most {bytes_text(info.max_bytes)}" if info.max_bytes else ""
    history = f"history {info.history}" if info.history > 0 else "unlimited history"
    return ", ".join(
        [
            f"{info.description.rstrip('.')}. {history.capitalize()}"
            if info.description
            else history.capitalize(),
            f"TTL {format_duration(info.ttl)}" if info.ttl else "no TTL",
            f"{bytes_text(info.bytes)}{most} stored",
            count_text(info.replicas, "replica"),
            f"{info.storage} storage",
        ]
    )


@timed
def key_list(bucket: Bucket, entries: list[Entry] | None = None) -> None:
    """Draw a table of `entries` of `bucket`, by default all held entries; at most 500 rows."""
    if bucket.waiting:
        empty_state(bucket)
        return
    entries = bucket.entries() if entries is None else entries
    if entries or not bucket.unknown:
        _table(entries[:MOST_ROWS], bucket.now, "key")
    if len(entries) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS} of {len(entries):,} keys. Use the search to find others.")
    if bucket.unknown:
        shown = [f"{key}: {_begins(time)}" for key, time in sorted(bucket.unknown.items())[:MOST_UNKNOWN]]
        more = len(bucket.unknown) - len(shown)
        rest = f", and {count_text(more, 'other key')}" if more else ""
        st.caption(plain(f"Not known as of then: {'; '.join(shown)}{rest}."))


def _begins(time: int) -> str:
    return f"its history begins at {date_text(time)}"


def key_value(bucket: Bucket, key: str) -> None:
    """Draw the whole value of `key` as it was written; JSON is indented."""
    if bucket.waiting:
        empty_state(bucket)
        return
    if (begins := bucket.unknown.get(key)) is not None:
        st.warning(f"{plain(repr(key))} is not known as of then: {_begins(begins)}.")
        return
    if key not in bucket:
        st.warning(f"This bucket has no key {plain(repr(key))}. It may have been deleted.")
        return
    entry = bucket.snapshot.entry(key)
    pretty = entry.pretty
    text = entry.text(MOST_TEXT) if pretty is None or len(pretty) > MOST_TEXT else pretty
    age = age_text((bucket.now - entry.updated) / 1e9)
    st.caption(f"Revision {entry.revision}, {age} old, {bytes_text(len(entry.payload))}")
    st.code(text, language=None if pretty is None else "json", wrap_lines=True)
    if text.endswith("…"):
        st.caption(f"The first {MOST_TEXT:,} characters.")


def key_history(bucket: Bucket, key: str) -> None:
    """Draw a table of the revisions of `key` that the bucket keeps, newest first."""
    if bucket.waiting:
        empty_state(bucket)
        return
    if not isinstance(bucket.watch, Watch):
        _show_history(bucket, bucket.watch.history(key))
        return
    if bucket.health.phase != "following":
        st.caption("The history is not available until the connection is back.")
        return
    revisions, failed = _history(*shared(), bucket.health.name, key, bucket.snapshot.revision(key))
    if failed:
        st.warning(plain(f"Cannot read the history. {failed}"), icon=":material/report:")
    else:
        _show_history(bucket, revisions)


def _show_history(bucket: Bucket, revisions: list[Entry]) -> None:
    if revisions:
        _table(reversed(revisions), bucket.now, "revision")
    else:
        before = " from before then" if bucket.past else ""
        st.caption(f"The bucket keeps no revision of this key{before}.")


@st.cache_data(ttl=30, max_entries=1000, show_spinner=False)
def _history(rights: str, _nats: Client, bucket: str, key: str, newest: int) -> tuple[list[Entry], str]:
    """The revisions, or why they cannot be read; both are cached. `newest` is part of the cache key, so a new
    revision causes a new read."""
    try:
        return _nats.history(bucket, key), ""
    except RequestRefused as error:
        return [], str(error)


def _table(entries: Iterable[Entry], now: int, first: str) -> None:
    table = local(entries_frame(entries, now), "updated")
    table["age"] = [age_text(age.total_seconds()) for age in table["age"]]
    order = {
        "key": ["key", "value", "revision", "age", "updated"],
        "revision": ["revision", "updated", "operation", "value"],
    }[first]
    if (table["operation"] != "PUT").any() and "operation" not in order:
        order.append("operation")
    st.dataframe(
        table[order],
        column_config={
            "key": "Key",
            "value": st.column_config.TextColumn("Value", width="large"),
            "revision": st.column_config.NumberColumn("Revision", format="%d"),
            "age": "Age",
            "updated": st.column_config.DatetimeColumn("Updated", format="YYYY-MM-DD HH:mm:ss"),
            "operation": "Operation",
        },
        hide_index=True,
    )
