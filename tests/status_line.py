"""The line above a page, read from the data that the script sends to static/status.js."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from streamlit.testing.v1 import AppTest


def status_html(app: AppTest) -> str:
    """The line of a page in app testing, as HTML similar to that of the browser."""
    return as_html(find(each.proto.json for each in app.get("bidi_component")))


def find(components: Iterable[str]) -> dict[str, Any]:
    """The line among the JSON data of components. Raises StopIteration if it is missing."""
    parsed = (json.loads(each) for each in components if each)
    return next(each for each in parsed if isinstance(each, dict) and "mood" in each)


def as_html(line: Mapping[str, Any]) -> str:
    """The line as HTML, with bold pieces in <b> and each fact in a <span>."""
    facts = [_pieces(line[name]) for name in sorted(line) if name.startswith("fact")]
    newest = _pieces(line.get("newest") or [])
    spans = "".join(f"<span>{fact}</span>" for fact in [*facts, newest])
    return f'<div class="lb-status lb-{line["mood"]}">{line["word"]} {spans}</div>'


def _pieces(pieces: Iterable[str | list[str]]) -> str:
    return "".join(escape(each) if isinstance(each, str) else f"<b>{escape(each[0])}</b>" for each in pieces)
