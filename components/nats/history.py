"""query(): SQL over the rows of a history service. A page can use the rows while they arrive."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from nats_client import Duration, LookbackError, Query
from nats_client.errors import NoResponders, ServiceError
from nats_client.requests.result_table import with_times
from nats_client.results.given_rows import GivenRows

from ..charts.line_chart import line_chart
from ..choices.clock import clock
from ..data.connection import client
from ..data.live import look_at
from ..data.playing import now_of
from ..data.reads import note_then
from ..data.states import mistake
from ..spent import timed
from ..web.sign_in import owner
from ..words import age_text, bytes_text, exact_numbers, local, plain

SUBJECT = "history.query"
"""The subject of the history service that runs beside the app."""
FIRST_WAIT = 1.0
"""Seconds that one run of a page waits for rows. Many queries finish within this time."""
MOST_ROWS = 500
"""Rows to draw in a table. Each refresh sends them again."""

_ASKED = "_asked"


@dataclass(eq=False)
class Answer:
    """The rows of a query so far, as one refresh of a page sees them."""

    query: Query = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)
    _charts: dict[Any, tuple[GivenRows, pd.DataFrame]] = field(repr=False)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> dict[str, str]:
        """Kind of each column by name: "time", "number" or "text"."""
        return {str(name): _kind(column) for name, column in self._rows.items()}

    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame; times are datetime64 in UTC. Copy it before changing it."""
        return self._rows


class _Asked:
    """The viewer's last query."""

    def __init__(self, query: Query | None, error: LookbackError | None = None) -> None:
        self.query = query
        self.error = error
        self._source: pd.DataFrame | None = None
        self._answer: Answer | None = None
        self._charts: dict[Any, tuple[GivenRows, pd.DataFrame]] = {}

    def answer(self) -> Answer | None:
        """The rows so far; None if there are none. Raises ClosedError."""
        if self.query is None or not self.query.rows:
            return None
        frame = self.query.frame()
        if self._answer is None or self._source is not frame:
            self._source = frame
            self._answer = Answer(self.query, with_times(frame), self._charts)
        return self._answer


def ago(look_back: Duration | None = None) -> str:
    """Now minus `look_back` ("PT1H"), or now, as a query parameter: ISO 8601, UTC. If the viewer set the
    clock above the page, its time and length apply; during a playback, now is the moment of the playback.
    Raises DurationError."""
    when = clock()
    if when.end_time is not None:
        note_then()
    reach = pd.Timedelta(0) if look_back is None else when.reach(look_back)
    return (now_of(when) - reach).isoformat(timespec="milliseconds")


@timed
def query(
    sql: str,
    parameters: Mapping[str, str | float | bool | None] | None = None,
    *,
    subject: str = SUBJECT,
    key: str = "query",
) -> Answer | None:
    """Draw the buttons Run and Stop and the query's progress. Returns the rows so far; None while there are
    no rows.

    Run sends one SELECT to the history service at `subject`. `$name` in the SQL is bound to
    `parameters["name"]`; parameters that the SQL does not use are not sent. The page reruns each second while
    the query continues. Its rows stay until the viewer clicks Run again or opens another page. Both stop the
    query at the service, and so does closing the page. `key` distinguishes two queries on one page.
    """
    kept = _while_connected(st.session_state.setdefault(_ASKED, {}))
    if st.session_state.get(f"_run {key}"):
        named = {
            name: value
            for name, value in (parameters or {}).items()
            if re.search(rf"\${re.escape(name)}\b", sql)
        }
        _stop(key)
        kept[key] = _ask(subject, {"sql": sql, "parameters": named})
        del st.session_state[f"_run {key}"]  # only now: a run stopped before this must not lose the click
        if (started := kept[key].query) is not None:
            started.wait(FIRST_WAIT)
    asked = kept.get(key)
    running = asked is not None and asked.query is not None and _runs(asked.query)
    with st.container(horizontal=True):
        # A callback runs once for each click, before the page, so no refresh can intervene.
        st.button(
            "Run", key=f"run {key}", type="primary", icon=":material/play_arrow:", on_click=_run, args=(key,)
        )
        st.button(
            "Stop",
            key=f"stop {key}",
            icon=":material/stop:",
            disabled=not running,
            on_click=_stop,
            args=(key,),
        )
    if asked is None:
        return None
    if asked.query is None:
        assert asked.error is not None
        mistake(asked.error)
        return None
    _progress(asked.query)
    return asked.answer()


def leave(page: str | None) -> None:
    """Stop and forget the queries of pages other than `page`; None means all pages."""
    if page is None or st.session_state.get("_page") != page:
        st.session_state["_page"] = page
        kept: dict[str, _Asked] = st.session_state.get(_ASKED, {})
        _stop_all(kept)
        kept.clear()


@timed
def answer_table(answer: Answer) -> None:
    """Draw the first rows as a table, times in the viewer's time zone."""
    shown = answer.frame().iloc[:MOST_ROWS]
    times = [name for name, kind in answer.columns.items() if kind == "time"]
    for name in times:
        if getattr(shown[name].dtype, "tz", None) is not None:
            shown = local(shown, name)
    moment = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss.SSS")
    shown, numbers = exact_numbers(shown)
    st.dataframe(
        shown,
        column_config={**numbers, **dict.fromkeys(times, moment)},
        hide_index=True,
        placeholder="NULL",
    )
    if len(answer) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(answer):,} rows. A download has all of them.")


@timed
def answer_chart(answer: Answer, x: str, y: str, by: str | None = None) -> None:
    """Draw the number `y` over the time `x`, one line per value of the text column `by`, as line_chart()
    does. The time axis spans all rows."""
    chart = x, y, by
    rows, of = answer._charts.get(chart, (None, None))
    if rows is None:
        rows = GivenRows(("answer", *chart))
    if of is not answer._rows:
        others = list(dict.fromkeys([y, *([by] if by else [])]))
        table = answer._rows.dropna(subset=[x, y]).set_index(x)[others]
        if by:
            table = table.assign(**{by: table[by].astype("str").fillna("none")})
        rows.put(table)
        answer._charts[chart] = rows, answer._rows
    view = look_at(rows, rows.look_back, steady=False, by_code=False)
    if not view:
        st.info(plain(f"No row has both {x} and {y}."), icon=":material/show_chart:")
        return
    line_chart(view, y, by=by, title=y, height=380, key=f"answer {chart}")


def _run(key: str) -> None:
    st.session_state[f"_run {key}"] = True


def _stop(key: str) -> None:
    asked: _Asked | None = st.session_state.get(_ASKED, {}).get(key)
    if asked is not None and asked.query is not None:
        asked.query.stop()


def _stop_all(kept: dict[str, _Asked]) -> None:
    for asked in kept.values():
        if asked.query is not None:
            asked.query.stop()


@st.cache_resource(scope="session", show_spinner=False, on_release=_stop_all)
def _while_connected(_kept: dict[str, _Asked]) -> dict[str, _Asked]:
    """Returns `_kept`. Its queries stop when the viewer's browser disconnects."""
    return _kept


def _ask(subject: str, request: object) -> _Asked:
    try:
        return _Asked(client().query(subject, request, asker=_asker()))
    except LookbackError as error:
        return _Asked(None, error)


def _asker() -> str:
    """The asker whose share of the service's turns a query uses: the viewer's sign-in, or without sign-in the
    browser tab."""
    who: str = owner() or st.session_state.setdefault("_asker", secrets.token_hex())
    return hashlib.sha256(who.encode()).hexdigest()[
        :32
    ]  # hashed: the sign-in's own key must not leave the app


def _runs(query: Query) -> bool:
    return query.state in ("waiting", "receiving")


def _progress(query: Query) -> None:
    state, rows = query.state, query.rows
    size = f"{rows:,} row{'s' * (rows != 1)}, {bytes_text(query.bytes)}"
    took = age_text(query.seconds)
    if _runs(query):
        progress, left = query.progress, query.seconds_left
        if query.stopping:
            st.progress(progress or 0.0, f"Stopping after {size}")
        elif progress is None or query.total is None:  # the query may end between the two reads
            st.caption(f":material/hourglass_top: {size} so far, {took}. The total is not known.")
        else:
            rest = f", {age_text(left)} left" if left is not None else ""
            st.progress(
                progress, f"{rows:,} of {query.total:,} rows, {bytes_text(query.bytes)}, {took}{rest}"
            )
    elif state == "done":
        st.caption(f":material/check: {size} in {took}")
        if not rows:
            st.info(
                "The query found no rows. Check the time range: the archive may not reach back that far.",
                icon=":material/search_off:",
            )
    elif isinstance(query.error, NoResponders):
        st.info(
            f"No history service answers at {plain(query.subject)}. Start one with "
            "`python -m services.history` (see docs/history.md), then run the query again.",
            icon=":material/hourglass_empty:",
        )
    elif state == "stopped":
        reason = f" {plain(str(query.error))}" if query.error else ""
        kept = "; the rows so far are kept" if rows else ""
        st.warning(f"Stopped after {size}, {took}{kept}.{reason}", icon=":material/stop_circle:")
    else:
        if isinstance(query.error, ServiceError) and query.error.description:
            # The database's own message explains the fault in the SQL best.
            st.error(plain(f"The query failed: {query.error.description}"), icon=":material/error:")
        elif query.error is not None:
            mistake(query.error)
        if rows:
            st.caption(f"{size} arrived before the error and are kept.")


def _kind(column: pd.Series) -> str:
    if pd.api.types.is_datetime64_any_dtype(column):
        return "time"
    number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return "number" if number else "text"
