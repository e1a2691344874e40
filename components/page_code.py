"""A view of a stream, written down as a page."""

from collections.abc import Mapping

from .chart import Chart


def page_code(stream: str, subject: str, chart: Chart | None, **asked: str | None) -> str:
    """The source of a page that shows `chart` of the rows that `live(stream, subject, **asked)` gives, or
    else the newest rows. Names become Python literals, so none can end its text and become code."""
    draws = chart.function.__name__ if chart else "newest_rows"
    arguments = f", {_arguments(chart.arguments)}" if chart else ""
    options = {name: value for name, value in asked.items() if value not in (None, "json")}
    title = f"{chart.of} of {stream}" if chart else stream
    return (
        f"{_docstring(title)}\n\n"
        f"from components import {', '.join(sorted([draws, 'live']))}\n\n"
        f"rows = live({_literal(stream)}, {_literal(subject)}, {_arguments(options)})\n"
        f"{draws}(rows{arguments})\n"
    )


def _arguments(values: Mapping[str, str | int]) -> str:
    return ", ".join(f"{name}={_literal(value)}" for name, value in values.items())


def _docstring(title: str) -> str:
    plain = title.isprintable() and not {'"', "\\"} & set(title)
    return f'"""{title}."""' if plain else repr(f"{title}.")


def _literal(value: str | int) -> str:
    """As repr, in the double quotes of the other pages where nothing has to be escaped for them."""
    text = repr(value)
    return f'"{text[1:-1]}"' if text.startswith("'") and '"' not in text else text
