"""The source code of a page that shows the rows and the chart which a viewer chose."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    if chart is None:
        return page(rows.stream, rows, "newest_rows(rows)\n", ["newest_rows"])
    used, drawn, step = [chart.function.__name__], "rows", chart.step
    code = ""
    if step:
        used.append(step.function.__name__)
        per = f"{literal(step.per)}, " if step.per else ""
        drawn = f"{step.name}_of_rows"
        code = f"{drawn} = {step.function.__name__}({per}rows{_arguments(step.arguments)})\n"
    code += f"{chart.function.__name__}({drawn}{_arguments(chart.arguments)})\n"
    return page(f"{chart.of} of {rows.stream}", rows, code, used)


def page(title: str, rows: Rows, code: str, used: Sequence[str]) -> str:
    """A page that reads `rows` and continues with `code`, which calls the functions in `used`."""
    return (
        f"{_docstring(title)}\n\n"
        f"from components import {', '.join(sorted([*used, 'live']))}\n\n"
        f"rows = live({literal(rows.stream)}, {literal(rows.subject)}{_arguments(rows.options)})\n"
        f"{code}"
    )


def _arguments(values: Mapping[str, Any]) -> str:
    return "".join(f", {name}={literal(value)}" for name, value in values.items())


def _docstring(title: str) -> str:
    title = " ".join(title.split())  # a page's title is the first line
    simple = title.isprintable() and not {'"', "\\"} & set(title)
    return f'"""{title}."""' if simple else repr(f"{title}.")


def literal(value: str | int | tuple[str, ...] | Mapping[str, str]) -> str:
    """Like repr(), in double quotes as in the other pages unless that needs escapes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))},)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(name)}: {literal(each)}" for name, each in value.items()) + "}"
    text = repr(value)
    return f'"{text[1:-1]}"' if text.startswith("'") and '"' not in text else text
