"""A live chart on the tab's own websocket."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary, ref

import pandas as pd

from nats_client import LookbackError
from nats_client.series.bins import AHEAD, Bins
from nats_client.series.point_rows import rows_of_point
from nats_client.table.snapshot import Snapshot

from ..data.behind import messages_behind
from ..data.live import Readable, View
from ..push.source import Source
from ..push.tabs import Tab
from ..words import in_zone, zone
from .legend import AS_GIVEN, BinsOf, Choices, Value, others_at, read_choices, shown_values, undrawn
from .wire import NOTHING, Held, has_cells, step, with_header

VARY_EVERY = 0.25
"""Seconds between two computations of the settings that change with the rows."""
ASKED_FOR = 60.0
"""Seconds for which the values of a legend are computed after a viewer's chart last requested them; longer
than the pause between two frames of any viewer."""
VALUES_EVERY = 1.0
"""Seconds between two computations of a legend's values: people do not read faster."""
DRIFT = 0.2
"""Seconds by which a browser's estimate of the server's clock may be wrong before the time is sent again."""
MOST_CONFIGS = 50
"""Different settings of one source's charts to keep; viewers with equal settings share them."""
NOT_LOADED = "not loaded"
"""The label in a chart of a part that is not loaded."""
LATEST = 1e15
"""A time (ms since the epoch) beyond any that a chart can show. Much larger integers do not fit a float."""
_EVERYTHING = 4  # flag: the browser must drop all that it holds


class Varying:
    """Settings of a chart that change with the rows and the time."""

    def __init__(self, given: object, of: Callable[[View], dict[str, object]]) -> None:
        """`of` returns the settings for a view. Charts with equal `given` have equal settings."""
        self.given = repr(given)
        self._of = of

    def of(self, view: View) -> dict[str, object]:
        """The settings for `view`, with its gaps."""
        gaps = [
            [gap.start // 1_000_000, gap.end // 1_000_000, *([NOT_LOADED] if gap.why == "unread" else [])]
            for gap in view.gaps
        ]
        young = {} if view.young_since is None else {"young": view.young_since // 1_000_000}
        return {"gaps": gaps, **young, **self._of(view)}


def read_before(feed: Readable, bins: Bins) -> None:
    """Request the values that hold at the start of the look-back, once for each epoch of `bins`."""
    lacks = bins.lacks_before()
    if lacks is not None:
        epoch, moment = lacks
        feed.read_before(moment, bins.split_by, partial(bins.hold_before, epoch))


class ChartSource(Source):
    """The bins of a chart, and the settings that change with the rows, shared by all viewers of the chart."""

    def __init__(self, view: View, bins: Bins, varying: Varying, zone: str) -> None:
        super().__init__()
        self._behind = messages_behind(view)
        self.feed = view.feed
        self.look_back = view.look_back
        self.past = view.past
        self._varying = varying
        self._steady = view.steady
        self._zone = zone
        self._begin(bins)

    def _begin(self, bins: Bins) -> None:
        self.bins = bins
        self.config: dict[str, object] = {}
        self.snapshot: Snapshot | None = None
        """The newest rows. None while the source has no watcher, so that they do not stay in memory."""
        self.clock = -math.inf
        """The server's clock minus our monotonic clock, in seconds. In the past, where now does not move: the
        end of the stretch, seconds since the epoch."""
        self._asked: dict[Value, float] = {}  # when a legend showed them last, by our monotonic clock
        self._values: dict[Value, dict[str, float | None]] = {}
        self._valued = -math.inf
        self._varied = -math.inf
        self._configs: list[Mapping[str, Any]] = []
        self._settings: dict[int, tuple[object, Mapping[str, Any]]] = {}  # by the identity of one of them
        self._steps: dict[tuple[int, int], _Step] = {}  # by the identities of a state and of settings
        self._states: dict[tuple[object, ...], Held] = {}  # the current states, by value
        self._steps_of: object = None

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """New messages."""
        return self.feed.watch(changed)

    def rest(self) -> None:
        """Release the rows."""
        self.snapshot = None
        self._asked.clear()

    def update(self) -> None:
        """Add the new rows to the bins."""
        now = self.feed.now()
        self.past = self.feed.key.end is not None  # a table of the page's own may change from live to past
        self.clock = now / 1e9 - (0.0 if self.past else time.monotonic())
        self.snapshot = snapshot = self.feed.snapshot().since(now - self.look_back.value)
        self.bins.update(snapshot, now)
        read_before(self.feed, self.bins)
        self._update_values(snapshot)
        if time.monotonic() - self._varied < VARY_EVERY:
            return
        health = self.feed.health_of(self.look_back)
        view = View(self.feed, snapshot, self.look_back, now, health, self._steady, by_code=False)
        with in_zone(self._zone):
            config = self._varying.of(view)
        if config != self.config:
            self.config = config
            self._settings = {}
        self._varied = time.monotonic()

    def _update_values(self, snapshot: Snapshot) -> None:
        """Compute the values that legends show, if any legend shows them."""
        now = time.monotonic()
        wanted = [value for value, asked in list(self._asked.items()) if now - asked < ASKED_FOR]
        if not wanted or (now - self._valued < VALUES_EVERY and self._values.keys() >= set(wanted)):
            return
        numbers = self.bins.numbers(snapshot)
        values = {value: shown_values(numbers, value) for value in wanted}
        if values != self._values:
            self._values = values
            self._settings = {}
        self._valued = now

    def ask(self, value: Value) -> None:
        """Request these values, for a legend that shows them."""
        self._asked[value] = time.monotonic()

    def of(self, bins: Bins) -> "ChartSource":
        """This source with other bins of the same feed, shared by all viewers of those bins. Any thread may
        call it."""
        return _shared((bins, self._varying.given, self._zone), lambda: self._with(bins))

    def _with(self, bins: Bins) -> "ChartSource":
        made = copy.copy(self)
        Source.__init__(made)
        made._begin(bins)
        return made

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the browser, in any thread. There are three, by their entries. `series`, a
        name or null for the undrawn series together, with `from` and `to`: the messages behind that point.
        `others`, a pair of times: the extremes among the undrawn series. `find`, a text: the names of undrawn
        series that contain it. Times are ms since the epoch, UTC. Raises LookbackError."""
        match question:
            case {"find": str() as part}:
                return undrawn(self.bins, self._taken_in(), part)
            case {"others": [int() | float() as start, int() | float() as end]} if (
                -LATEST < start < end < LATEST
            ):
                return others_at(self.bins, self._taken_in(), round(start * 1e6), round(end * 1e6))
        self._behind.check()
        match question:
            case {
                "series": str() | None as series,
                "from": int() | float() as start,
                "to": int() | float() as end,
            } if -LATEST < start < end < LATEST:
                rows = rows_of_point(
                    self._taken_in(), self.bins, series, round(start * 1e6), round(end * 1e6)
                )
                return self._behind.messages(*rows)
        raise LookbackError("This is no point of the chart.")

    def _taken_in(self) -> Snapshot:
        """The current rows, after they were added to the bins."""
        now = self.feed.now()
        snapshot = self.feed.snapshot()
        self.bins.update(snapshot.since(now - self.look_back.value), now)
        return snapshot

    def shared(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns one shared object for equal settings."""
        for known in self._configs:
            if known == config:
                return known
        if len(self._configs) >= MOST_CONFIGS:
            self._configs, self._settings = [], {}
        self._configs.append(config)
        return config

    def settings(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """`config`, a result of shared(), together with the settings that change. Returns the same object as
        long as nothing has changed."""
        settings = self._settings
        found = settings.get(id(config))
        if found is None:  # `config` is kept in the entry, so that no other object can get its identity
            values = self._values.get(config["value"]) if "value" in config else None
            own = {} if values is None else {"values": values}
            found = settings[id(config)] = config, {**config, **self.config, **own}
        return found[1]

    def step(self, held: Held, settings: Mapping[str, Any]) -> "_Step":
        """The step that brings browsers that hold `held` to the present. Computed once for all of them."""
        of = self.bins.epoch, self.bins.version
        if of != self._steps_of:
            self._steps_of, self._steps, self._states = of, {}, {}
        steps, key = self._steps, (id(held), id(settings))
        found = steps.get(key)
        if found is None:
            found = _made(self, held, settings)
            now = found.now
            value = now.version, now.oldest, now.others, now.future, id(now.config)
            # Browsers in equal states share one object from now on, whatever their states were before.
            found = steps[key] = found._replace(now=self._states.setdefault(value, now))
        return found


class _Known(NamedTuple):
    """The state of a browser."""

    chart: Held
    clock: float
    """The server's clock minus our monotonic clock, in seconds, when the time was last sent."""


class _Step(NamedTuple):
    """The change that brings browsers from one state to the present."""

    held: Held
    """The state before. Kept so that no other object can get its identity."""
    now: Held
    flags: int
    header: Mapping[str, object]
    cells: bytes
    message: bytes | None
    """The whole message, without the clock. None if it would be empty."""


class ChartElement:
    """A live chart on one viewer's page."""

    def __init__(
        self,
        source: ChartSource,
        config: Mapping[str, Any],
        choices: Choices = AS_GIVEN,
        choose: "Callable[[ChartElement, Choices], None] | None" = None,
    ) -> None:
        """`config`: the page's settings. `choices`: the viewer's choices in the legend. `choose` replaces
        this element with one for other choices."""
        self.source = source
        self.choices = choices
        self.choose = choose
        self._range: object = None
        self.given = config

    @property
    def given(self) -> Mapping[str, Any]:
        """The page's settings."""
        return self._given

    @given.setter
    def given(self, config: Mapping[str, Any]) -> None:
        self._given = config
        value = {"value": self.choices.value} if self.choices.value else {}
        self.config = self.source.shared({**config, **value})

    def next(self, held: Any) -> tuple[Any, bytes] | None:
        """The cells and settings that the browser lacks."""
        source, bins = self.source, self.source.bins
        clock = source.clock
        if self.choices.value:
            source.ask(self.choices.value)
        chart, sent = held or (NOTHING, -math.inf)
        config = source.settings(self.config)
        wrong = abs(clock - sent) > DRIFT
        if self._range is None and not chart.finer[0]:
            same = chart.config is config and chart.version == bins.version and chart.epoch == bins.epoch
            if same and not wrong:
                return None
            found = source.step(chart, config)
        else:
            found = self._zoomed(chart, config)
        if not wrong:
            return None if found.message is None else (_Known(found.now, sent), found.message)
        now = clock + (0.0 if source.past else time.monotonic())
        header = {**found.header, "now": round(now * 1000)}
        flags = bytes([found.flags | 1])
        return _Known(found.now, clock), with_header(flags, header, found.cells)

    def is_quick(self, held: Any) -> bool:
        """True unless all cells must be encoded, finer bins computed, or the bins are being updated."""
        bins = self.source.bins
        return held is not None and held.chart.epoch == bins.epoch and not self._range and not bins.is_busy

    def receive(self, message: dict[str, Any]) -> None:
        """Receive the viewer's zoom, or the viewer's choices in the legend."""
        if "range" in message:
            self._range = message["range"]
        if "choices" in message and self.choose is not None:
            choices = read_choices(message["choices"])
            if choices is not None and choices != self.choices:
                self.choose(self, choices)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """See ChartSource."""
        return self.source.answer(question)

    def _zoomed(self, chart: Held, config: Mapping[str, Any]) -> _Step:
        source = self.source
        zoom = zoomed(self._range, source.look_back, source.bins.now * 1_000_000)
        # An empty message removes the finer bins.
        return _made(source, chart, config, zoom, says=bool(chart.finer[0]) and not zoom)


def _made(
    source: ChartSource,
    held: Held,
    config: Mapping[str, Any],
    zoom: tuple[int, int] | None = None,
    *,
    says: bool = False,
) -> _Step:
    now, flags, header, cells = step(source.bins, held, config, source.snapshot, zoom, short=True)
    flags |= bool(header) | (held is NOTHING and _EVERYTHING)
    said = says or flags or has_cells(cells)
    return _Step(
        held, now, flags, header, cells, with_header(bytes([flags]), header, cells) if said else None
    )


_sources: WeakValueDictionary[object, ChartSource] = WeakValueDictionary()


def _shared(of: object, make: Callable[[], ChartSource]) -> ChartSource:
    source = _sources.get(of)
    if source is None:
        source = _sources[of] = make()
    return source


def place(
    tab: Tab,
    key: str,
    view: View,
    bins_of: BinsOf,
    rule: str,
    config: Mapping[str, object],
    varying: Varying,
    chosen: Choices = AS_GIVEN,
) -> int:
    """Put the chart on the tab's page and return its number there. `rule`: the page's rule for which series
    have lines of their own. `chosen`: the viewer's choices in the legend, from the page's URL; `config` holds
    them as "choices". Choices that the browser has sent since then take precedence."""
    held = ref(tab)  # weak, so that the tab can end with its session

    def source_of(choices: Choices) -> ChartSource:
        bins = bins_of(choices.series(rule))
        return _shared((bins, varying.given, zone()), lambda: ChartSource(view, bins, varying, zone()))

    def choose(element: ChartElement, choices: Choices) -> None:
        source = element.source.of(bins_of(choices.series(rule)))
        if (tab := held()) is not None:
            tab.exchange(element, ChartElement(source, element.given, choices, element.choose))

    placed = tab.place(key, lambda: ChartElement(source_of(chosen), config, chosen, choose))
    element = placed.element
    choices = chosen
    if isinstance(element, ChartElement) and element.given.get("choices") == config.get("choices"):
        choices = element.choices
    source = source_of(choices)
    if element.source is not source or (isinstance(element, ChartElement) and element.choices != choices):
        tab.replace(placed, ChartElement(source, config, choices, choose))
    elif isinstance(element, ChartElement) and element.given != config:
        element.given = config
    return placed.number


def zoomed(chosen: object, look_back: pd.Timedelta, now: int) -> tuple[int, int] | None:
    """The range (ms since the epoch, UTC) that a viewer has zoomed into, clipped to the look-back before
    `now`, in ns; None without a zoom. `chosen` is untrusted."""
    match chosen:
        case [int() | float() as start, int() | float() as end] if -LATEST < start < end < LATEST:
            begin = max(int(start * 1e6), now - look_back.value)
            stop = min(int(end * 1e6), now + int(look_back.value * AHEAD))
            return (begin, stop) if begin < stop else None
    return None
