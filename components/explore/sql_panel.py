"""SQL that a viewer runs over the rows, and its live result."""

import streamlit as st

from nats_client.errors import SqlError

from ..charts.line_chart import line_chart
from ..data.live import View
from ..sql.views import stop_typed_sql, typed_sql
from ..tables.newest_rows import newest_rows
from .page_code import literal, page
from .rows import Rows
from .sql_box import is_stopped, sql_box, written

FIRST = """SELECT time_bucket(INTERVAL 10 s, _time) AS time, _subject, count(*) AS n
FROM rows
GROUP BY ALL"""
"""The initial SQL in the box."""
WORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "ORDER",
    "LIMIT",
    "AS",
    "AND",
    "OR",
    "NOT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "IN",
    "IS",
    "NULL",
    "DESC",
    "INTERVAL",
    "OVER",
    "PARTITION",
    "QUALIFY",
    "WITH",
    "JOIN",
    "ASOF",
    "ON",
    "USING",
    "DISTINCT",
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "quantile_cont",
    "arg_max",
    "time_bucket",
    "lag",
    "lead",
    "round",
    "abs",
    "coalesce",
]
SHOWN = 100
"""Rows of the table."""


def sql_panel(rows: Rows) -> None:
    """Draw a box in which the viewer writes SQL over the table `rows`, and the live result: as a chart, if it
    has times and numbers, and as a table."""
    query = written("sql", FIRST)
    result: View | None = None
    mistake: SqlError | None = None
    stopped = is_stopped("sql", query)
    if stopped:
        stop_typed_sql()
    else:
        try:
            result = typed_sql(query, rows.view)
        except SqlError as error:
            mistake = error
    names = ["rows", *(["_time", "_seq"] if rows.view else []), *rows.view.columns, *WORDS]
    sql_box("sql", "SQL over the table rows", FIRST, names, mistake, stopped=stopped)
    if result is None:
        return
    columns = result.columns
    numbers = [name for name, kind in columns.items() if kind == "number"]
    by = next((name for name, kind in columns.items() if kind == "text"), None)
    times = result.drawn.snapshot.time
    timed = len(times) > 1 and times[0] < times[-1]
    if timed and numbers:
        line_chart(result, numbers[0] if by else numbers, by=by, height=300, key="sql")
    newest_rows(result, SHOWN)
    with st.expander("Copy as page"):
        drawing = ["newest_rows"]
        code = f"result = sql({literal(query)}, rows=rows)\n"
        if timed and numbers:
            drawing.append("line_chart")
            y = literal(numbers[0]) if by else "[" + ", ".join(map(literal, numbers)) + "]"
            code += f"line_chart(result, {y}{f', by={literal(by)}' if by else ''}, height=300)\n"
        st.code(
            page(f"SQL of {rows.stream}", rows, f"{code}newest_rows(result, {SHOWN})\n", [*drawing, "sql"])
        )
