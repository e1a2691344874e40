"""Text search in the tab Messages: what was found as it comes, with progress and a stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
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
from ..words import count_text, in_zone, plain, zone
from .kept import forget, kept
from .rows import Rows
from .sample import sample_of

FIRST_WAIT = 0.5
"""Seconds that a page waits for the first results. Many searches are over by then."""
_RUNNING = "_messages_search"

_kind = Kind("found_messages")


def choose_search() -> tuple[str, bool]:
    """Let the viewer choose a text to search for, "" for none, and whether in the whole stream or only in the
    look-back."""
    text = choose_text(
        "Search",
        name="find",
        placeholder="text in messages",
        help="In subjects, headers and payloads, in upper or lower case. The filter above must match, too.",
    ).strip()
    help_text = "Search all that the stream holds, and not only the look-back"
    return text, choose_flag("Whole stream", name="whole", help=help_text)


def draw_search(rows: Rows, text: str, whole: bool, opened: Callable[[int], None]) -> None:
    """Draw what a search for `text` has found so far. `opened` is called with the sequence of a message that
    the viewer opens."""
    nats = client(by_code=False)
    key = rows.stream, rows.subject, text, whole, _of(rows)
    try:
        search = kept("search", nats, key, lambda: _begin(nats, rows, text, whole))
    except LookbackError as error:
        st.warning(plain(str(error)), icon=":material/search_off:")
        return

    def clicked(what: object) -> None:
        if what == "stop":
            search.stop()
        elif what == "again":
            forget("search")
        elif (seq := sequence_of(what)) is not None:
            opened(seq)

    of = search, zone()
    _kind.draw("search", of, lambda: _FoundSource(search, zone()), clicked=clicked, columns=COLUMNS)
    downloads(_Found(ref(search)), f"{rows.stream}-found", label="Download what was found")


def end_search() -> None:
    """Stop the search that this viewer has begun."""
    running = st.session_state.pop(_RUNNING, None)
    if running is not None:
        running.stop()
    forget("search")


def _of(rows: Rows) -> tuple[object, ...]:
    key = rows.view.feed.key
    return key.decoder, key.time, key.where, key.end, rows.view.look_back


def _begin(nats: Client, rows: Rows, text: str, whole: bool) -> Search:
    end_search()
    view = rows.view
    key, now = view.feed.key, pd.Timestamp(view.now, tz="UTC")
    start = None if whole else (now - view.look_back).to_pydatetime(warn=False)
    search = st.session_state[_RUNNING] = nats.search(
        rows.stream,
        text,
        rows.subject,
        start=start,
        end=now.to_pydatetime(warn=False) if view.past and not whole else None,
        decoder=key.decoder.partition("#")[0],
        where=key.where,
        time=key.time,
    )
    search.wait(FIRST_WAIT)
    return search


@dataclass(frozen=True)
class _Found:
    """What a search has found, for files. The search belongs to the viewer's session."""

    search: "ref[Search]"

    def frame(self) -> pd.DataFrame:
        """The messages so far. Raises ClosedError once the viewer has left."""
        if (search := self.search()) is None:
            raise ClosedError("The search is over.")
        return messages_frame(search.found)


class _FoundSource(JsonSource):
    """`said`: how far the search is. `progress`: 0 to 1. `state`: "running", "paused" if it can be begun
    again, or "ended". Each message found is an entry: its cells as text. The names of these entries begin
    with "r" and ascend by sequence."""

    def __init__(self, search: Search, zone: str) -> None:
        super().__init__()
        self._search = search
        self._zone = zone
        self._cells: dict[str, list[str]] = {}

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """More was searched."""
        return self._search.watch(changed)

    def hear(self, said: dict[str, Any]) -> None:
        """The viewer stops it. The page need not run for that, which may take long."""
        if said.get("stop") is True:
            self._search.stop()

    def look(self) -> Mapping[str, Any]:
        """What was found so far."""
        search, status = self._search, self._search.status
        found = search.found
        names = [f"r{message.seq:020d}" for message in found]
        with in_zone(self._zone):
            cells = {
                name: self._cells.get(name) or cells_of(sample_of(message))
                for name, message in zip(names, found, strict=True)
            }
        self._cells = cells
        state = {"under way": "running", "done": "ended", "full": "ended"}.get(status, "paused")
        said = f"{count_text(len(found), 'message')} found, {search.scanned:,} searched. {_said(search)}"
        return {"said": said.strip(), "progress": round(search.progress, 3), "state": state, **cells}


def _said(search: Search) -> str:
    status = search.status
    if status == "under way":
        return str(search.waits_for or "")
    return {
        "done": "All of the stretch was searched.",
        "full": f"More than {MOST_FOUND:,} messages or 16 MB: searched up to sequence {search.scanned_to:,}.",
        "stopped": f"Stopped at sequence {search.scanned_to:,}.",
        "left": f"Stopped at sequence {search.scanned_to:,}, because nobody looked.",
        "failed": str(search.error),
    }[status]
