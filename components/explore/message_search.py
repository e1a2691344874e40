"""Search results in the tab Messages as they arrive, with progress and a stop button: of a text search, or of
a page of the messages that match the filter of rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import ref

import pandas as pd
import streamlit as st

from nats_client import Client, LookbackError
from nats_client.errors import ClosedError
from nats_client.messages.frame import messages_frame
from nats_client.messages.search import MOST_FOUND, Search

from ..choices.choose import choose_flag, choose_text
from ..data.connection import client
from ..push.json_element import JsonSource, Kind
from ..tables.download import downloads
from ..tables.messages import COLUMNS, cells_of, sequence_of
from ..words import count_text, cut, in_zone, plain, zone
from .kept import forget, kept
from .rows import Rows
from .sample import sample_of

FIRST_WAIT = 0.5
"""Seconds that a page waits for the first results. Many searches end within this time."""
_RUNNING, _KEPT = "_messages_search", "search"

_kind = Kind("found_messages")


def choose_search() -> tuple[str, bool]:
    """Let the viewer enter a text to search for, "" for none, and choose between the whole stream (True) and
    the look-back."""
    text = choose_text(
        "Search",
        name="find",
        placeholder="text in messages",
        help="In subjects, headers and payloads, in upper or lower case. The filter above must match, too.",
    ).strip()
    help_text = "Search all that the stream holds, and not only the look-back"
    return text, choose_flag("Whole stream", name="whole", help=help_text)


def draw_search(rows: Rows, text: str, whole: bool, opened: Callable[[int], None]) -> None:
    """Draw the results so far of a search for `text`. `opened` is called with the sequence of a message that
    the viewer opens."""
    nats = client(by_code=False)
    key = (
        rows.stream,
        rows.subject,
        text,
        whole,
        choices_of(rows),
        rows.view.feed.key.end,
        rows.view.look_back,
    )
    try:
        search = kept(_KEPT, nats, key, lambda: begun(lambda: _search(nats, rows, text, whole)))
    except LookbackError as error:
        st.warning(plain(str(error)), icon=":material/search_off:")
        return
    draw_found(search, _said, opened)
    downloads(Found(ref(search)), f"{rows.stream}-found", label="Download what was found")


def draw_found(
    search: Search, said: Callable[[Search], str], opened: Callable[[int], None], seq: int | None = None
) -> None:
    """Draw the results of a search so far. `said` returns a text about its progress. `opened` is called with
    the sequence of a message that the viewer opens; `seq` is the sequence of the open message."""

    def clicked(what: object) -> None:
        if what == "stop":
            search.stop()
        elif what == "again":
            forget(_KEPT)
        elif (found := sequence_of(what)) is not None:
            opened(found)

    of = search, zone()
    _kind.draw(
        "search",
        of,
        lambda: _FoundSource(search, said, zone()),
        clicked=clicked,
        columns=COLUMNS,
        open="" if seq is None else entry_of(seq),
    )


S = TypeVar("S", bound=Search)


def begun(make: Callable[[], S]) -> S:
    """Stop this viewer's earlier search, and return the search that `make` begins."""
    stop_search()
    search = st.session_state[_RUNNING] = make()
    search.wait(FIRST_WAIT)
    return search


def end_search() -> None:
    """Stop this viewer's search and drop its results."""
    stop_search()
    forget(_KEPT)


def stop_search() -> None:
    """Stop this viewer's search."""
    running = st.session_state.pop(_RUNNING, None)
    if running is not None:
        running.stop()


def choices_of(rows: Rows) -> tuple[object, ...]:
    """The choices on which the filter of rows depends."""
    key = rows.view.feed.key
    return key.decoder, key.time, key.where, key.headers


def filter_of(rows: Rows) -> dict[str, Any]:
    """The choices of choices_of() as arguments of a search."""
    key = rows.view.feed.key
    decoder = key.decoder.partition("#")[0]
    return {"decoder": decoder, "where": key.where, "time": key.time, "headers": key.headers}


def _search(nats: Client, rows: Rows, text: str, whole: bool) -> Search:
    view = rows.view
    now = pd.Timestamp(view.now, tz="UTC")
    return nats.search(
        rows.stream,
        text,
        rows.subject,
        start=None if whole else (now - view.look_back).to_pydatetime(warn=False),
        end=now.to_pydatetime(warn=False) if view.past and not whole else None,
        **filter_of(rows),
    )


@dataclass(frozen=True)
class Found:
    """The messages that a search has found, as a table to download. The search belongs to the viewer's
    session."""

    search: "ref[Search]"

    def frame(self) -> pd.DataFrame:
        """The messages so far. Raises ClosedError once the viewer has left."""
        if (search := self.search()) is None:
            raise ClosedError("The search is over.")
        return messages_frame(search.found)


class _FoundSource(JsonSource):
    """`said`: a text about the search's progress. `progress`: 0 to 1. `state`: "running", "paused" if it can
    be started again, or "ended". Each message found is an entry: its cells as text. The names of these
    entries begin with "r" and ascend by sequence."""

    def __init__(self, search: Search, said: Callable[[Search], str], zone: str) -> None:
        super().__init__()
        self._search = search
        self._said = said
        self._zone = zone
        self._cells: dict[str, list[str]] = {}

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Progress of the search."""
        return self._search.watch(changed)

    def receive(self, message: dict[str, Any]) -> None:
        """Stop the search if the viewer requests it, without a run of the page, which may take long."""
        if message.get("stop") is True:
            self._search.stop()

    def look(self) -> Mapping[str, Any]:
        """The results so far."""
        search, status = self._search, self._search.status
        found = search.found
        names = [entry_of(message.seq) for message in found]
        with in_zone(self._zone):
            cells = {
                name: self._cells.get(name) or cells_of(sample_of(message))
                for name, message in zip(names, found, strict=True)
            }
        self._cells = cells
        state = {"under way": "running", "done": "ended", "full": "ended"}.get(status, "paused")
        return {
            "said": self._said(search).strip(),
            "progress": round(search.progress, 3),
            "state": state,
            **cells,
        }


def entry_of(seq: int) -> str:
    """The name of the entry of a message."""
    return f"r{seq:020d}"


def how_far(search: Search) -> str:
    """Why the search has not read all messages, as a sentence; empty if it has."""
    return {
        "under way": str(search.waits_for or ""),
        "done": "",
        "full": "",
        "stopped": f"Stopped at sequence {search.scanned_to:,}.",
        "left": f"Stopped at sequence {search.scanned_to:,}, because its viewer had left.",
        "failed": str(search.error or ""),
    }[search.status]


def what_is_missing(search: Search) -> list[str]:
    """Why expected messages may be missing: sentences about the filter, and about malformed messages."""
    notes = list(search.notes)
    if search.malformed:
        example = search.sample
        such = "" if example is None else f", such as {example.seq:,}: {cut(example.reason, 200)}"
        notes.append(
            f"{count_text(search.malformed, 'message')} could not be decoded and have no row to filter{such}."
        )
    return notes


def _said(search: Search) -> str:
    found = search.found
    parts = [f"{count_text(len(found), 'message')} found, {search.scanned:,} searched.", how_far(search)]
    status = search.status
    if status == "done":
        parts.append("All of the stretch was searched.")
    if status == "full":
        parts.append(
            f"More than {MOST_FOUND:,} messages or 16 MB: searched up to sequence {search.scanned_to:,}."
        )
    return " ".join(filter(None, [*parts, *what_is_missing(search)]))
