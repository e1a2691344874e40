"""sql() and its shortcuts rate(), every(), rolling() and top(): live results of SQL over a page's reads."""

import secrets
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import streamlit as st

from nats_client import Duration, Result, parse_duration
from nats_client.errors import SqlError
from nats_client.results.every import Every
from nats_client.results.given_rows import GivenRows
from nats_client.results.inputs import AnswerRows, BucketValues, Given, Input, Rows
from nats_client.results.result import Query, ResultOf, Results
from nats_client.sql.names import Rolling, Top, columns_of, rate_sql, rolling_sql, top_sql

from ..data.bucket import Bucket
from ..data.live import View, look_at, wait_once
from ..data.reads import NothingYet, rerun_on, say
from ..nats.history import Answer
from ..spent import timed
from ..web.sign_in import owner, rights

RESULTS = Results()
"""The results of this process."""

_TYPED = "_typed_sql"
_TAB = "_tab"

Table = View | Bucket | Answer | pd.DataFrame
"""The types that can be a table in SQL."""
Parameter = str | int | float | bool | pd.Timestamp | None
"""The types of a parameter; a list of them is possible, too."""


@timed
def sql(
    query: str, *, parameters: Mapping[str, Parameter | Sequence[Parameter]] | None = None, **tables: Table
) -> View:
    """The result of one SELECT over `tables`, by name, as a view. Charts, tables, metrics, alerts, downloads,
    `frame()` and another sql() accept it like a view of live(), and it updates itself in the same way.

    The SQL is DuckDB's. A table is a view of live() or sql(), the values of a bucket (`key`, `_time`, and
    `value` or the fields of the values), the rows of query(), or a DataFrame. Rows of a stream have `_time`
    (UTC), `_seq`, `_subject`, named tokens, and the payload's fields; a missing field is NULL. `$name` in the
    SQL is bound to `parameters["name"]`: a text, a number, a truth, a time, None, or a list of these, as in
    `list_contains($regions, region)`.

    The result's `_time` is its timestamp column `_time` or `time`; without one, all rows have the time of the
    result. Numbers, texts and times keep their kind; an interval becomes its seconds, and anything else text.

    It is computed once for all viewers with the same rights, SQL, parameters and tables. It is computed again
    when the tables have changed, at most four times a second, and less often if it takes long; the status
    line then says so. Bounds: 10 s of processor time, 1,000,000 rows, 128 MiB, and 256 MB of memory. Raises
    SqlError, which the frame draws: with the line, the column and the nearest name if the SQL is wrong, or
    with the bound that was reached.
    """
    inputs = {name: _input(name, table) for name, table in tables.items()}
    named = {name: _parameter(name, value) for name, value in (parameters or {}).items()}
    return _view(Query(query, tuple(inputs), named), inputs)


def _parameter(name: str, value: Any) -> Parameter | tuple[Parameter, ...]:
    """The value that `$name` is bound to. Raises SqlError."""
    if isinstance(value, Parameter):
        return value
    if isinstance(value, list | tuple):
        if all(isinstance(each, Parameter) for each in value):
            return tuple(value)
        raise SqlError(f"The parameter ${name} is a list of something else than texts, numbers or times.")
    raise SqlError(
        f"The parameter ${name} is a {type(value).__name__}. "
        "Give a text, a number, a truth, a time, None, or a list of these."
    )


@timed
def rate(
    view: View, field: str, *, by: str | Sequence[str] | None = None, over: Duration | None = None
) -> View:
    """The growth per second of the counter `field`, in the column `rate`, at each row except the first of
    each series. `by`: the text columns that name a series; without it, each subject is a series.

    By default, the rate is the growth since the row before. If rows arrive close together, such rates jump.
    With `over`, such as "30s", the rate at a row covers the duration `over` before it: the counter's growth
    since the first row in that time, divided by the seconds since that row. Average rates by time rather than
    by row: with `over` as long as the look-back, the newest rate is the mean of the whole look-back.

    A value below the value before means that the counter was reset to 0, as in Prometheus. Of several rows
    with the same time, the last counts. Raises DurationError, and SqlError as sql() does.
    """
    if by is None and isinstance(view, View) and not isinstance(view.feed, Result | GivenRows):
        by = "_subject"
    length = None if over is None else parse_duration(over, "stretch")
    return _named(rate_sql(field, columns_of(by), length), view)


@timed
def every(length: Duration, view: View, *, by: str | Sequence[str] | None = None, **shows: str) -> View:
    """Aggregates of the rows per bucket of `length` (such as "10s" or "PT10S") and per series: a column of
    each name in `shows`, such as `p95="quantile_cont(ms, 0.95)", n="count(*)"`. `by`: the text columns that
    name a series.

    Buckets are on a grid that begins at the epoch in UTC; `_time` is a bucket's start. Only buckets whose
    rows have changed are computed again. Raises DurationError, and SqlError as sql() does.
    """
    with _written_here():
        return _view(Every(parse_duration(length, "bucket"), columns_of(by), shows), {"rows": _rows(view)})


@timed
def rolling(
    view: View, field: str, length: Duration, *, how: Rolling = "mean", by: str | Sequence[str] | None = None
) -> View:
    """At each row, the values of the number column `field` from `length` (such as "1m" or "PT1M") before
    its time up to that time, combined by `how`: "mean", "least", "greatest", "sum", "count", "p50", "p95" or
    "p99". The result keeps the column's name. `by`: the text columns that name a series. Raises
    DurationError, and SqlError as sql() does.
    """
    return _named(rolling_sql(field, columns_of(by), parse_duration(length, "stretch"), how), view)


@timed
def top(view: View, field: str, *, by: str, most: int = 10, how: Top = "greatest") -> View:
    """The rows of the `most` series (one per value of the text column `by`) whose number column `field` has
    the greatest value by `how`: "greatest", "least" (then the smallest come first), "mean", "sum" or
    "newest". Raises SqlError as sql() does.
    """
    return _named(top_sql(field, by, most, how), view)


@timed
def typed_sql(query: str, rows: View) -> View:
    """The result of a SELECT over the table `rows` that the viewer has typed, computed in a process of its
    own. The viewer's earlier query is no longer computed. Raises SqlError as sql() does."""
    before: Result | None = st.session_state.pop(_TYPED, None)
    tab = st.session_state.setdefault(_TAB, secrets.token_hex(8))
    found: Result | None = None
    try:
        inputs = {"rows": _rows(rows)}
        work = Query(query, tuple(inputs), {}, typed=True)
        asker = owner() or tab
        while True:
            found = RESULTS.get(rights() or "", work, inputs)
            # Kept before it is joined: if another run has begun, this run stops here and has joined nothing.
            st.session_state[_TYPED] = found
            if found.join(tab, asker):  # otherwise its last viewer has just left it
                break
    finally:
        if before is not None and before is not found:
            before.leave(tab)
    return _shown(found)


def stop_typed_sql() -> None:
    """End this viewer's query of typed_sql()."""
    before: Result | None = st.session_state.pop(_TYPED, None)
    if before is not None:
        before.leave(st.session_state[_TAB])


def _named(statement: str, view: View) -> View:
    with _written_here():
        return _view(Query(statement, ("rows",), {}), {"rows": _rows(view)})


@contextmanager
def _written_here() -> Iterator[None]:
    """Remove line and column from an SqlError, because the page's author did not write this SQL."""
    try:
        yield
    except SqlError as error:
        if error.line is None:
            raise
        raise type(error)(error.what) from error


def _rows(view: View) -> Input:
    if not isinstance(view, View):
        raise SqlError(f"This takes a view of live() or sql(), not a {type(view).__name__}.")
    return _input("rows", view)


def _input(name: str, table: Any) -> Input:
    if isinstance(table, View):
        feed = table.feed
        if isinstance(feed, GivenRows):
            return Given.of(table.drawn.frame())
        return ResultOf(feed) if isinstance(feed, Result) else Rows(feed, table.look_back)
    if isinstance(table, Bucket):
        if table.waiting:
            raise NothingYet(table)
        return BucketValues(table.watch)
    if isinstance(table, Answer):
        return AnswerRows(table.query)
    if isinstance(table, pd.DataFrame):
        return Given.of(table)
    raise SqlError(
        f"The table {name!r} is a {type(table).__name__}. Give a view of live() or sql(), the values of a "
        "bucket, the rows of query(), or a DataFrame."
    )


def _view(work: Any, inputs: Mapping[str, Input]) -> View:
    return _shown(RESULTS.get(rights() or "", work, inputs))


def _shown(result: Result) -> View:
    seen: Hashable = ("sql", result.name_key)
    wait_once(seen, result.wait)
    rerun_on(result.structure)
    say(result.pace)
    if result.error is not None:
        raise result.error
    return look_at(result, result.look_back, steady=False)
