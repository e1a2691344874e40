"""The fields of the payloads, as a table that keeps itself current."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from nats_client.series.field_stats import ROWS, Field, fields, times_among

from ..data.live import View
from ..push.json_element import JsonSource, Kind
from ..spent import timed
from ..units import number_text
from ..words import clock_text, cut, in_zone, zone

_KEEP = 1.0  # seconds to share one reading of the rows among viewers
_LONGEST = 80  # characters of an example
_COLUMNS = ["Field", "Type", "In rows", "Newest", "Minimum", "Maximum", "Different values"]

_kind = Kind("field_list")


def fields_of(view: View) -> list[Field]:
    """The fields in the newest rows of `view`, at most a second old. Read-only."""
    moment = time.monotonic() // _KEEP
    return view.feed.readings.once(("fields", view.look_back), moment, lambda: fields(view.snapshot))


def time_fields(view: View) -> list[str]:
    """The fields that hold times and can be a row's own time in `live(time=…)`."""
    return times_among(fields_of(view))


@timed
def field_list(view: View) -> None:
    """Draw a table of the payload's fields: type, share of rows that have it, newest value, minimum and
    maximum, of the newest 20,000 rows. It keeps itself current."""
    of = view.feed, view.look_back, zone()
    _kind.draw(
        f"{view.feed.name_key} {view.look_back}",
        of,
        lambda: _FieldsSource(view.drawn, zone()),
        columns=_COLUMNS,
    )


class _FieldsSource(JsonSource):
    """Each field is an entry, its name "=" and the field's: its place, then its cells as text. `note`: what
    there is to say of them, or of none."""

    every = 1.0  # statistics, not news

    def __init__(self, view: View, zone: str) -> None:
        super().__init__()
        self._again = view.again
        self._feed = view.feed
        self._zone = zone

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self._feed.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The fields now."""
        view = self._again()
        found = fields_of(view)
        if not found:
            return {"note": "The rows have no fields."}
        notes = [f"Computed from the newest {ROWS:,} of {len(view):,} rows."] if len(view) > ROWS else []
        if self._feed.key.time is None and (times := times_among(found)):
            notes.append(f"Can be used as the row time: {', '.join(times)}.")
        with in_zone(self._zone):
            rows = {
                f"={field.name}": [
                    place,
                    field.name,
                    field.kind,
                    f"{100 * field.share:.0f} %",
                    _text(field.example),
                    _text(field.least),
                    _text(field.greatest),
                    f"{field.distinct:,}",
                ]
                for place, field in enumerate(found)
            }
        return {"note": " ".join(notes), **rows}


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
