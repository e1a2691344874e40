"""A viewer's choices in the legend of a line chart, and the answers to the legend's questions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

from nats_client import LookbackError
from nats_client.series.bins import MOST_SERIES, Bins
from nats_client.series.point_rows import extremes_of_others
from nats_client.series.series_choice import RULES, SeriesChoice
from nats_client.series.series_values import Numbers
from nats_client.table.snapshot import Snapshot

from ..data.live import Readable
from ..words import cut

Value = Literal["newest", "greatest", "mean"]
"""The value, over the look-back, by which a legend is sorted and which it then shows."""
VALUES: dict[str, Value] = {value: value for value in get_args(Value)}
MOST_FOUND = 20
"""Names of undrawn series that a search returns at most."""
LONGEST_NAME = 1000
"""Characters of a name that a viewer may choose. A browser's message is limited to 16 KB as well."""

LONGEST_TEXT = 1500
"""Characters of a choice in the page's address, as browsers send it. Proxies refuse long ones."""

BinsOf = Callable[[SeriesChoice], Bins]
"""The bins of a chart for a choice of series, the same ones for all viewers."""


def bins_for(feed: Readable, *arguments: Any, **more: Any) -> BinsOf:
    """The bins of `feed` for a choice of series. The further arguments are those of feed.bins()."""
    return lambda choice: feed.bins(*arguments, **more, choice=choice)


@dataclass(frozen=True)
class Choices:
    """What one viewer chose in a legend."""

    rule: str | None = None
    """The rule for which series have lines of their own; None: as the page says."""
    names: frozenset[str] = frozenset()
    """Series that have lines of their own under any rule."""
    value: Value | None = None
    """None: the legend is sorted by name."""

    def given(self) -> dict[str, object]:
        """For the browser."""
        return {"rule": self.rule, "names": sorted(self.names), "value": self.value}

    def series(self, rule: str) -> SeriesChoice:
        """The choice of series on a page whose own rule is `rule`."""
        return SeriesChoice(self.rule or rule, self.names)


AS_GIVEN = Choices()


def spelled(choices: Choices, longest: int | None = None) -> str:
    """A choice as text: rule, value and names, separated by tildes, which need no escape in a URL. `longest`:
    names that do not fit into this many characters of a URL are left out."""
    text = f"{choices.rule or ''}~{choices.value or ''}"
    for name in sorted(choices.names):
        more = f"{text}~{name.replace('%', '%25').replace('~', '%7E')}"
        # A URL cannot contain a lone surrogate.
        if longest is None or (len(quote(more, errors="ignore")) <= longest and _is_text(name)):
            text = more
    return text


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def understood(text: str) -> Choices:
    """The choice that spelled() wrote; AS_GIVEN if `text`, which is untrusted, is no choice."""
    parts = text.split("~", MOST_SERIES + 2)
    rule, value, *names = [*parts, ""] if len(parts) == 1 else parts
    choices = {"rule": rule or None, "names": [unquote(name) for name in names], "value": value or None}
    return read_choices(choices) or AS_GIVEN


def read_choices(message: object) -> Choices | None:
    """The choices in a browser's message; None if no legend offers them. `message` is untrusted."""
    match message:
        case {"rule": str() | None as rule, "names": list(names), "value": str() | None as value}:
            pass
        case _:
            return None
    if rule not in (None, *RULES) or len(names) > MOST_SERIES:
        return None
    if value is not None and value not in VALUES:
        return None
    if not all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names):
        return None
    return Choices(rule, frozenset(names), None if value is None else VALUES[value])


def shown_values(numbers: Mapping[str, Numbers], value: Value) -> dict[str, float | None]:
    """One value of each series, for JSON; None for a series without a value."""
    return {name: _exact(getattr(each, value)) for name, each in numbers.items()}


def _exact(value: float) -> float | None:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else float(f"{value:.15g}")


def undrawn(bins: Bins, snapshot: Snapshot, part: str) -> dict[str, Any]:
    """The names of undrawn series that contain `part`: the first MOST_FOUND, and how many there are."""
    names, count = bins.undrawn(snapshot, part, MOST_FOUND)
    return {"names": [name for name in names if len(name) <= LONGEST_NAME], "count": count}


def others_at(bins: Bins, snapshot: Snapshot, start: int, end: int) -> dict[str, Any]:
    """The least and the greatest value of the undrawn series from `start` to `end` (ns since the epoch, UTC).
    `extremes`: for each, the name of its series, the value, and its time in ms; empty if the rows are gone.
    `count`: how many undrawn series have values there."""
    count, found = extremes_of_others(snapshot, bins, start, end)
    return {
        "count": count,
        "extremes": [[cut(each.series, LONGEST_NAME), each.value, each.time / 1e6] for each in found],
    }


def checked_rule(tell_apart: str) -> str:
    """Return `tell_apart` if it is a rule. Raises LookbackError otherwise."""
    if not isinstance(tell_apart, str):
        raise LookbackError(f"tell_apart={tell_apart!r} is not valid. Choose one of: {', '.join(RULES)}.")
    return SeriesChoice(tell_apart).rule
