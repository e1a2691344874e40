"""The source code of the page that a viewer sees."""

from collections.abc import Mapping

import streamlit as st

from .chart import Chart
from .rows import Rows


def page_code(rows: Rows, chart: Chart | None) -> None:
    """Draw the source of a page that shows `chart` of `rows`, or the newest rows without a chart, to be
    copied."""
    st.caption("Save this as a file in the folder pages/ to make it a page.")
    st.code(source(rows, chart))


def source(rows: Rows, chart: Chart | None) -> str:
    """The page's source. Names are written as Python literals, so no name can end its string and become
    code."""
    draw = chart.function.__name__ if chart else "newest_rows"
    how = _arguments(chart.arguments) if chart else ""
    title = f"{chart.of} of {rows.stream}" if chart else rows.stream
    return (
        f"{_docstring(title)}\n\n"
        f"from components import {', '.join(sorted([draw, 'live']))}\n\n"
        f"rows = live({_literal(rows.stream)}, {_literal(rows.subject)}{_arguments(rows.options)})\n"
        f"{draw}(rows{how})\n"
    )


def _arguments(values: Mapping[str, str | int | tuple[str, ...]]) -> str:
    return "".join(f", {name}={_literal(value)}" for name, value in values.items())


def _docstring(title: str) -> str:
    title = " ".join(title.split())  # a page's title is the first line
    simple = title.isprintable() and not {'"', "\\"} & set(title)
    return f'"""{title}."""' if simple else repr(f"{title}.")


def _literal(value: str | int | tuple[str, ...]) -> str:
    """Like repr(), in double quotes as in the other pages unless that needs escapes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))},)"
    text = repr(value)
    return f'"{text[1:-1]}"' if text.startswith("'") and '"' not in text else text
