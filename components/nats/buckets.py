"""values(): what a key-value bucket holds, as this refresh of a page sees it; and how to show it."""

from collections.abc import Iterable

import streamlit as st

from nats_client import BucketInfo, Client, Entry, entries_frame, format_duration
from nats_client.errors import RequestFailed, RequestRefused

from ..choices.choose import choose, chosen
from ..data.bucket import Bucket
from ..data.connection import client, shared
from ..data.live import collect, first_look
from ..data.states import empty_state
from ..words import age_text, bytes_text, count_text, local, plain
from .streams import KEEP, listed

MOST_ROWS = 500
"""Keys in a table: it is sent whole at each refresh."""
MOST_TEXT = 20_000
"""Characters of a value that are shown."""


def values(bucket: str, *, optional: bool = False) -> Bucket:
    """The values of the key-value bucket `bucket`, by key: `values("settings")["cpu"]`.

    They are kept current by one watch for all viewers, so reading them asks the server nothing. A value is
    JSON where it is JSON, else text, else a text with its bytes in hex and their number. A key that is not
    there raises KeyNotFound, drawn by the frame with the nearest keys; `.get(key, default)` does not. While
    the bucket has never been read, the page goes on up to where it asks what is in it (a key, `in`, `.get`,
    len() or a loop): it ends there, and the frame says why. `key_list`, `key_value` and `key_history` draw
    that they wait. With `optional` the mapping is empty meanwhile, under a warning. Raises SubjectError on
    what cannot be the name of a bucket.
    """
    watch = client().values(bucket)
    first_look((bucket, watch.opened), watch.wait)
    read = Bucket(watch, watch.snapshot(), watch.now(), watch.health, optional)
    collect(read)
    return read


def choose_bucket() -> str | None:
    """A choice of the server's buckets, or of one whose name the viewer types; None while there is none to
    choose, which the page is told. A bucket that vanishes while it is shown stays chosen, so that the line
    above the page can say what has become of it."""
    shown = chosen("Bucket", "")
    try:
        names = [info.name for info in listed("buckets", _buckets)]
        if not names and not shown:
            st.info("This server has no key-value buckets yet. The page fills by itself when one is made.")
    except RequestFailed as error:
        st.warning(
            plain(f"The buckets can't be listed: type the name of one. {error}"), icon=":material/lock:"
        )
        names = []
    if shown and shown not in names:
        names.append(shown)
    return choose("Bucket", names, own=True) or None


@st.cache_data(ttl=KEEP, show_spinner=False)
def _buckets(rights: str, _nats: Client) -> list[BucketInfo]:
    return _nats.buckets()


def bucket_settings(bucket: str) -> None:
    """Draw a line on how `bucket` is set up, and what it takes."""
    try:
        found = [_settings(info) for info in listed("buckets", _buckets) if info.name == bucket]
    except RequestFailed:
        return
    st.caption(plain(found[0]) if found else "This bucket is not on the server.")


def _settings(info: BucketInfo) -> str:
    most = f" of at most {bytes_text(info.max_bytes)}" if info.max_bytes else ""
    history = f"history {info.history}" if info.history > 0 else "history without end"
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


def key_list(bucket: Bucket, entries: list[Entry] | None = None) -> None:
    """A table of `entries` of `bucket`, by default of all that are held; at most 500 of them."""
    if bucket.waiting:
        empty_state(bucket)
        return
    entries = bucket.entries() if entries is None else entries
    _table(entries[:MOST_ROWS], bucket.now, "key")
    if len(entries) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS} of {len(entries):,} keys. Search for the others.")


def key_value(bucket: Bucket, key: str) -> None:
    """The value of `key` in full, as it was written; JSON indented."""
    if bucket.waiting:
        empty_state(bucket)
        return
    if key not in bucket:
        st.warning(f"There is no key {plain(repr(key))} in this bucket, or not any more.")
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
    """A table of the revisions of `key` that the bucket keeps, newest first."""
    if bucket.waiting:
        empty_state(bucket)
        return
    if bucket.health.phase != "following":
        st.caption("The history can't be asked for at the moment.")
        return
    revisions, failed = _history(*shared(), bucket.health.name, key, bucket.snapshot.revision(key))
    if failed:
        st.warning(plain(f"The history could not be read. {failed}"), icon=":material/report:")
    elif revisions:
        _table(reversed(revisions), bucket.now, "revision")
    else:
        st.caption("The bucket keeps no revision of this key.")


@st.cache_data(ttl=30, max_entries=1000, show_spinner=False)
def _history(rights: str, _nats: Client, bucket: str, key: str, newest: int) -> tuple[list[Entry], str]:
    """The revisions, or why there are none, which is kept as well. Asked for again when there is a newer
    revision than `newest`."""
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
