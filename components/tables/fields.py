"""The fields of the payloads, as a table that updates itself."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from nats_client.decoding.payload_times import read_times
from nats_client.series.field_stats import Field, fields, times_among
from nats_client.series.field_types import (
    MOST_FIELDS,
    Change,
    FieldCourses,
    FieldTypes,
    Value,
)

from ..choices.choose import choice_of
from ..data.live import View
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text
from ..words import clock_text, count_text, cut, in_zone, zone

_KEEP = 1.0  # seconds for which viewers share what was computed from the rows
_LONGEST = 80  # characters of an example
_IN_SENTENCE = 40  # the same, within a sentence
_MOST_CHANGES = 5
"""Changes to list."""
_COLUMNS = ["Field", "Type", "In rows", "Newest", "Minimum", "Maximum", "Different values"]
_LONGEST_PATTERN = 1000  # characters that are taken from a browser
_PATTERN = "pattern"
"""The choice of a pattern in the URL, and in the session state."""

_kind = Kind("field_list")


def fields_of(view: View) -> list[Field]:
    """The fields in the newest rows of `view`, at most a second old. Read-only."""
    version = time.monotonic() // _KEEP
    return view.feed.memo.once(("fields", view.look_back), version, lambda: fields(view.snapshot))


def time_fields(view: View) -> list[str]:
    """The fields that hold times, which can be a row's own time in `live(time=…)`."""
    return times_among(fields_of(view))


@timed
def field_list(view: View) -> None:
    """Draw a table of the payload's fields: types, share of rows with the field, newest values, minimum,
    maximum, and the number of different values. The viewer chooses all rows, or those whose subjects have one
    pattern; the URL keeps the pattern. Sentences above the table say when a type or a field appeared, or a
    field vanished. The table updates itself."""
    pattern = choice_of(_PATTERN, (view.feed.key.stream, view.feed.key.subject))[:_LONGEST_PATTERN] or None
    of = view.feed, view.look_back, zone(), pattern
    _kind.draw(
        f"{view.feed.name_key} {view.look_back}",
        of,
        lambda: _FieldsSource(view.drawn, zone(), pattern),
        clicked=_choose,
        columns=_COLUMNS,
        pattern=pattern or "",
    )


def _choose(pattern: object) -> None:
    """Keep the pattern that the viewer clicked; an empty text means all rows."""
    if isinstance(pattern, str):
        st.session_state[_PATTERN] = pattern[:_LONGEST_PATTERN]


class _FieldsSource(JsonSource):
    """Each field is an entry named "=" and the field: its place, then its cells as text. Each pattern of
    subjects is an entry named "~" and the pattern: its place, then its share of the rows as text and as a
    number. `changes`: sentences in three parts. `note`: notes about the fields."""

    every = 1.0  # statistics, not news

    def __init__(self, view: View, zone: str, pattern: str | None) -> None:
        super().__init__()
        self._again = view.again
        self._feed = view.feed
        self._look_back = view.look_back
        self._zone = zone
        self._pattern = pattern

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The fields now."""
        view = self._again()
        look_back = self._look_back
        courses: FieldCourses = self._feed.memo.once(
            ("field courses", look_back), None, lambda: FieldCourses(look_back)
        )
        report = courses.report(view.snapshot, self._pattern)
        times = time_fields(view)
        notes = []
        if self._pattern is not None and self._pattern not in report.patterns:
            notes.append(f"No subject in these rows has the pattern {self._pattern}.")
        elif not view:
            with in_zone(self._zone):
                notes.append(f"No rows {view.span}.")
        elif not report.fields:
            notes.append("The rows have no fields.")
        if report.left_out:
            notes.append(f"Only the first {MOST_FIELDS:,} fields of all patterns are counted.")
        if self._feed.key.time is None and times and self._pattern is None:
            notes.append(f"Can be used as the row time: {', '.join(times)}.")
        with in_zone(self._zone):
            truths = view.snapshot.truths
            rows = {
                f"={field.name}": [i, *(_truths(field) if field.name in truths else _cells(field, times))]
                for i, field in enumerate(report.fields)
            }
            changes = [_sentence(change) for change in report.changes[:_MOST_CHANGES]]
        if (more := len(report.changes) - len(changes)) > 0:
            changes.append([f"And {count_text(more, 'change')} more.", "", ""])
        patterns = {
            f"~{pattern}": [i, _percent(share), round(share, 3)]
            for i, (pattern, share) in enumerate(report.patterns.items())
        }
        return {"note": " ".join(notes), "changes": changes, **patterns, **rows}


def _cells(field: FieldTypes, times: Sequence[str]) -> list[str]:
    least, greatest, names = field.least, field.greatest, _types(field)
    if field.name in times and isinstance(least, int | float) and isinstance(greatest, int | float):
        # A number that is a time since the epoch.
        (first, last), readable = read_times([least, greatest])
        if np.all(readable):
            least, greatest = (pd.Timestamp(int(each), tz="UTC") for each in (first, last))
            names = names.replace("integer", "time").replace("number", "time")
    return [
        field.name,
        names,
        _percent(field.share),
        _newest(field.newest),
        _text(least),
        _text(greatest),
        f"{field.distinct:,}{'+' if field.more else ''}",
    ]


def _truths(field: FieldTypes) -> list[str]:
    """The cells of a field that has only true (1) and false (0) as numbers."""
    name, names, share, *_, distinct = _cells(field, ())
    values = [
        str(value == 1).lower() if isinstance(value, float) else _text(value)
        for value in field.newest.values()
    ]
    names = names.replace("integer", "true or false")
    return [name, names, share, " · ".join(values), "", "", distinct]


def _types(field: FieldTypes) -> str:
    names = {each: "integer" if each == "number" and field.integral else each for each in field.types}
    if len(names) == 1:
        return next(iter(names.values()))
    return ", ".join(f"{names[each]} {_percent(count / field.rows)}" for each, count in field.types.items())


def _newest(values: Mapping[Any, Value]) -> str:
    return " · ".join(map(_text, values.values()))


def _sentence(change: Change) -> list[str]:
    """A change as a sentence in three parts: the text before the field's name, the name, and the text
    after."""
    field, share = cut(change.field, _LONGEST), _percent(change.share)
    where = "the rows" + (f" of {cut(change.pattern, _LONGEST)}" if change.pattern else "")
    since = clock_text(change.since)
    if change.kind == "vanishes":
        return [f"Since {since}, ", field, f" is missing in {where}; it was in {share} of them before."]
    example = ""
    if isinstance(change.example, str):
        example = f", such as “{cut(change.example, _IN_SENTENCE)}”"
    what = f"{change.type} in {share}" if change.type else f"in {share}"
    if change.until is None:
        return [f"Since {since}, ", field, f" is {what} of {where}{example}."]
    return [f"From {since} to {clock_text(change.until)}, ", field, f" was {what} of {where}{example}."]


def _percent(share: float) -> str:
    """A share as text. Only exactly nothing is 0 %, and only exactly all is 100 %."""
    if 0 < share < 0.01:
        return f"{100 * share:.1g} %" if share >= 0.0001 else "< 0.01 %"
    if 0.995 <= share < 1:
        return f"{min(99.9, 100 * share):.1f} %"
    return f"{100 * share:.0f} %"


def _text(value: float | str | pd.Timestamp | None) -> str:
    if value is None:
        return ""
    if isinstance(value, pd.Timestamp):
        return clock_text(value.value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number_text(value)
    return cut(value, _LONGEST)
