"""The data sent to a chart: it stays complete, whatever the order of rows and whichever messages are lost."""

import threading
from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.chart_end import read
from components.charts.wire import ChartState, has_cells, packed
from nats_client.errors import ColumnError, LookbackError
from nats_client.results.result_bins import ResultBins
from nats_client.series.bins import MOST, Bins, step_for
from nats_client.sql.arrow import ResultRows
from nats_client.table.snapshot import Snapshot
from nats_client.table.values import NULL, Batch, Floats, is_null
from nats_client.table.window import Window

LOOK_BACK = pd.Timedelta("PT5M")
SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND


class Rows:
    """A real window; times are in seconds relative to NOW."""

    def __init__(self) -> None:
        self.window = Window()
        self.seq = 0

    def add(
        self,
        times: Sequence[float] | Floats,
        values: Sequence[float] | Floats,
        subjects: Sequence[str] | None = None,
    ) -> Snapshot:
        """Append rows, and return the snapshot."""
        seq = np.arange(self.seq, self.seq + len(times), dtype=np.int64)
        self.seq += len(times)
        time = (NOW + np.asarray(times, dtype=np.float64) * SECOND).astype(np.int64)
        numbers = {"v": np.asarray(values, dtype=np.float64)}
        subject = subjects if subjects is not None else ["a"] * len(times)
        # Received in the order of the sequence, whatever time the rows are about.
        self.window.append(Batch(seq, seq, time, subject, numbers))
        return self.window.snapshot()


class Browser:
    """Holds the same state of the received messages as static/live_chart.js."""

    def __init__(self) -> None:
        self.sender: int | None = None
        self.number = 0
        self.names: dict[int, str] = {}
        self.cells: dict[tuple[int, int], tuple[float, float]] = {}
        self.finer: dict[tuple[int, int], tuple[float, float]] | None = None
        self.step = 0.0
        self.others: int | None = None
        self.config: dict[str, object] = {}

    def receive(self, data: bytes) -> bool:
        """Apply a message; return False if it builds on a message that was not received."""
        message = read(data)
        if message.sender == self.sender and message.number <= self.number:
            return True
        if message.builds_on and (message.sender != self.sender or message.builds_on > self.number):
            return False
        head = message.header
        if not message.builds_on:
            self.config, self.others = {}, None
        self.sender, self.number = message.sender, message.number
        self.config.update(head.get("config", {}))
        for name in head.get("gone", []):
            del self.config[name]
        self.others = head.get("others", self.others)
        if message.whole:
            self.names, self.cells = {}, {}
        self.names.update((i, name) for i, name in head.get("names", []))
        self.cells.update(message.cells)
        self.cells = {
            cell: value
            for cell, value in self.cells.items()
            if cell[1] >= message.oldest and value[0] < np.inf
        }
        if message.finer is None:
            self.finer = None
            return True
        self.step = head.get("finer", self.step)
        held = {} if message.finer.whole or self.finer is None else self.finer
        held = held | message.finer.cells
        self.finer = {cell: value for cell, value in held.items() if value[0] < np.inf}
        return True

    def by_name(self) -> dict[str, dict[int, tuple[float, float]]]:
        """Cells of each series, by its name."""
        named: dict[str, dict[int, tuple[float, float]]] = {}
        for (row, number), value in self.cells.items():
            named.setdefault(self.names[row], {})[number] = value
        return named


def everything(bins: Bins) -> Browser:
    """A browser that has just opened the page, with one full message."""
    browser = Browser()
    assert browser.receive(ChartState().next(bins, {}))
    return browser


def filled(
    times: Sequence[float] | Floats, values: Sequence[float] | Floats, subjects: Sequence[str] | None = None
) -> Bins:
    """Bins of a window with these rows."""
    bins = Bins(("v",), "_subject", LOOK_BACK)
    bins.update(Rows().add(times, values, subjects), NOW)
    return bins


number = st.integers(-1000, 1000) | st.sampled_from([NULL, np.nan])
row = st.tuples(st.integers(-320, 60), number, st.sampled_from("abc"))
action = st.one_of(
    st.lists(row, min_size=1, max_size=8),  # append rows, in any order of time
    st.integers(1, 40),  # that many seconds pass
    st.just("evict"),
    st.just("clear"),
    st.just("quiet"),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(action, st.booleans()), max_size=25))
def test_delta_is_as_good_as_full(steps: list[tuple[object, bool]]) -> None:
    """After appends, late rows, evictions and lost messages, a browser holds the same as a new one would
    get."""
    rows, bins, now = Rows(), Bins(("v",), "_subject", LOOK_BACK), 0
    sent, browser = ChartState(), Browser()
    for what, lost in steps:
        if isinstance(what, list):
            rows.add([now + t for t, _, _ in what], [v for _, v, _ in what], [s for _, _, s in what])
        elif isinstance(what, int):
            now += what
        elif what == "evict":
            rows.window.evict(rows.seq - 5)
        elif what == "clear":
            rows.window.clear()
        snapshot = rows.window.snapshot()
        if len(snapshot) and "v" not in snapshot.columns:  # no row has a number, which the chart refuses
            continue
        bins.update(snapshot, NOW + now * SECOND)
        message = sent.next(bins, {"title": "t"})
        if lost:
            continue
        if not browser.receive(message):
            sent.go_back(browser.sender or 0, browser.number)
            assert browser.receive(sent.next(bins, {"title": "t"}))
        assert browser.config == {"title": "t"}
        assert browser.by_name() == everything(bins).by_name()
        held: dict[tuple[str, int], list[float]] = {}
        codes, labels = snapshot.codes("_subject") if len(snapshot) else (np.zeros(0), [])
        values = snapshot.numbers("v") if len(snapshot) else np.zeros(0)
        for time, code, value in zip(snapshot.times(), codes, values, strict=True):
            if value == value and (NOW + (now - 300) * SECOND) <= time <= NOW + (now + 30) * SECOND:
                held.setdefault((labels[code], int(time) // bins.step), []).append(value)
        drawn = browser.by_name()
        for (name, number), some in held.items():
            low, high = drawn[name][number]
            assert low <= min(some)
            assert high >= max(some)


def test_a_lost_message_is_asked_for_once() -> None:
    """A browser that missed a message reports the last number it applied, and gets the changes since then."""
    rows, bins, sent, browser = Rows(), Bins(("v",), "_subject", LOOK_BACK), ChartState(), Browser()
    bins.update(rows.add(range(-200, -20), range(180)), NOW)
    assert browser.receive(sent.next(bins, {}))
    for i in range(20):
        bins.update(rows.add([i - 20], [i]), NOW)
        message = sent.next(bins, {})
        if i % 4 != 1 and not browser.receive(message):
            assert browser.sender is not None
            sent.go_back(browser.sender, browser.number)
            message = sent.next(bins, {})
            assert len(read(message).cells) == 2
            assert browser.receive(message)
    assert browser.receive(sent.next(bins, {}))
    assert browser.by_name() == everything(bins).by_name()


def test_repeated_and_late_messages_change_nothing() -> None:
    """A repeated message, or one older than the last applied, is ignored."""
    rows, bins, sent, browser = Rows(), Bins(("v",), "_subject", LOOK_BACK), ChartState(), Browser()
    messages = []
    for value in range(4):
        bins.update(rows.add([-1], [value]), NOW)
        messages.append(sent.next(bins, {"title": str(value)}))
        assert browser.receive(messages[-1])
        assert all(browser.receive(message) for message in messages)
        assert browser.by_name() == everything(bins).by_name()
        assert browser.config == {"title": str(value)}


def test_a_browser_from_another_session_gets_everything() -> None:
    """After a restart of the server, a browser's old messages do not count, and it gets everything anew."""
    rows, bins, browser = Rows(), Bins(("v",), "_subject", LOOK_BACK), Browser()
    bins.update(rows.add([-2, -1], [1, 2]), NOW)
    first, second = ChartState(), ChartState()
    for _ in range(3):
        assert browser.receive(first.next(bins, {}))
    second.next(bins, {})
    assert not browser.receive(second.next(bins, {}))
    assert browser.sender is not None
    second.go_back(browser.sender, browser.number)
    assert browser.receive(second.next(bins, {}))
    assert browser.by_name() == everything(bins).by_name()


zoomed = st.none() | st.tuples(st.integers(-320, 40), st.integers(1, 60))


@settings(max_examples=150)
@given(st.lists(st.tuples(action, zoomed, st.booleans()), max_size=25))
def test_finer_bins_are_those_of_the_rows(
    steps: list[tuple[object, tuple[int, int] | None, bool]],
) -> None:
    """Wherever a viewer zooms, and whatever rows arrive, leave or are lost on the way, a browser holds the
    least and the greatest value of each finer bin, or that it is null. Without a zoom it holds no finer
    bins."""
    rows, bins, now = Rows(), Bins(("v",), "_subject", LOOK_BACK), 0
    sent, browser = ChartState(), Browser()
    for what, zoom, lost in steps:
        if isinstance(what, list):
            rows.add([now + t / 10 for t, _, _ in what], [v for _, v, _ in what], [s for _, _, s in what])
        elif isinstance(what, int):
            now += what
        elif what == "evict":
            rows.window.evict(rows.seq - 5)
        elif what == "clear":
            rows.window.clear()
        snapshot = rows.window.snapshot()
        if len(snapshot) and "v" not in snapshot.columns:  # no row has a number, which the chart refuses
            continue
        bins.update(snapshot, NOW + now * SECOND)
        start = NOW + (now + zoom[0]) * SECOND if zoom else 0
        stretch = (start, start + zoom[1] * SECOND) if zoom else None
        message = sent.next(bins, {}, snapshot, stretch)
        if lost:
            continue
        if not browser.receive(message):
            sent.go_back(browser.sender or 0, browser.number)
            assert browser.receive(sent.next(bins, {}, snapshot, stretch))
        if stretch is None:
            assert browser.finer is None
            continue
        held: dict[tuple[str, int], list[float]] = {}
        nulls: set[tuple[str, int]] = set()
        step = step_for(pd.Timedelta(stretch[1] - stretch[0]))
        assert browser.step == step / 1e6
        codes, labels = snapshot.codes("_subject") if len(snapshot) else (np.zeros(0), [])
        values = snapshot.numbers("v") if len(snapshot) else np.zeros(0)
        drawn = {code for code, row in enumerate(bins.rows()[2][0]) if row >= 0}
        for time, code, value in zip(snapshot.times().tolist(), codes, values, strict=True):
            if stretch[0] <= time < stretch[1] and code in drawn:
                if value == value:
                    held.setdefault((labels[code], time // step), []).append(value)
                elif is_null(np.array([value]))[0]:
                    nulls.add((labels[code], time // step))
        assert browser.finer is not None
        shown = {(browser.names[row], number): cell for (row, number), cell in browser.finer.items()}
        for key, some in held.items():
            low, high = shown[key]
            assert low <= min(some)
            assert high >= max(some)
        for key in nulls - held.keys():
            assert key in shown
        for (_, number), (low, high) in shown.items():
            assert low <= high, number


def test_null_breaks_a_zoomed_line() -> None:
    """In a finer bin, a null without values beside it is a cell of its own, even if the coarse bin has
    values; a row without the field makes no cell. A value that arrives later replaces the null."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    stretch = (NOW - 20 * SECOND, NOW)
    step = step_for(pd.Timedelta(20 * SECOND))
    times = [-10 + i * step / SECOND for i in range(6)]
    snapshot = rows.add(times, [1, NULL, 2, np.nan, 3, NULL], ["a"] * 6)
    bins.update(snapshot, NOW)
    sent, browser = ChartState(), Browser()
    assert browser.receive(sent.next(bins, {}, snapshot, stretch))
    first = (NOW - 10 * SECOND) // step
    held = {bin_ - first: cell[0] for (_, bin_), cell in (browser.finer or {}).items()}
    assert held == {0: 1, 1: -np.inf, 2: 2, 4: 3, 5: -np.inf}
    assert -np.inf not in [low for low, _ in everything(bins).by_name()["a"].values()]
    snapshot = rows.add([times[1]], [7], ["a"])
    bins.update(snapshot, NOW)
    assert browser.receive(sent.next(bins, {}, snapshot, stretch))
    assert (browser.finer or {})[0, first + 1] == (7, 7)


def test_viewers_of_one_stretch_share_its_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second viewer of about the same range causes no further read of the rows; a range further on causes a
    read of only the new part."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    snapshot = rows.add(np.arange(-300, 0, 0.01), np.arange(30_000.0), ["a"] * 30_000)
    bins.update(snapshot, NOW)
    taken: list[int] = []
    finer_bins = bins.finer(20 * SECOND)
    assert finer_bins is not None
    take = finer_bins._take

    def noted(snapshot: Snapshot, number: int, *rest: Any) -> None:
        taken.append(number)
        take(snapshot, number, *rest)

    monkeypatch.setattr(finer_bins, "_take", noted)
    for start in (-100, -99, -98):
        ChartState().next(bins, {}, snapshot, (NOW + start * SECOND, NOW + (start + 20) * SECOND))
    assert len(taken) == len(set(taken)) <= 6


second = st.integers(-20, -1)
answer = st.dictionaries(second, st.integers(-9, 9) | st.none(), max_size=12)


@settings(max_examples=60)
@given(st.lists(st.tuples(answer, st.booleans()), min_size=1, max_size=8))
def test_a_zoomed_result_is_what_its_rows_say(answers: list[tuple[dict[int, int | None], bool]]) -> None:
    """Each result replaces the one before. A zoomed browser has the result's rows at their times, and
    receives only the differences, also after a lost message."""
    bins = ResultBins(("v",), None, LOOK_BACK)
    stretch = (NOW - 20 * SECOND, NOW)
    width = step_for(pd.Timedelta(20 * SECOND))
    sent, browser = ChartState(), Browser()
    made = ResultRows()
    for rows, lost in answers:
        times = pa.array([NOW + time * SECOND for time in rows], pa.timestamp("ns", "UTC"))
        values = pa.array(list(rows.values()), pa.float64())
        snapshot = made.snapshot(pa.table({"time": times, "v": values}), NOW)
        bins.update(snapshot, NOW)
        message = sent.next(bins, {}, snapshot, stretch)
        if lost:
            continue
        if not browser.receive(message):
            sent = ChartState()
            assert browser.receive(sent.next(bins, {}, snapshot, stretch))
        expected = {(NOW + time * SECOND) // width: n for time, n in rows.items() if n is not None}
        held = {bin_: low for (_, bin_), (low, _) in (browser.finer or {}).items()}
        assert held == expected
    finer = read(sent.next(bins, {}, snapshot, stretch)).finer
    assert finer is None or not finer.cells


def test_spike_stays_visible() -> None:
    """One outlier among a million rows is in the chart, at its time."""
    values = np.random.default_rng(1).normal(size=1_000_000)
    values[654_321] = 1e6
    bins = filled(np.linspace(-299, 0, 1_000_000), values, ["a"] * 1_000_000)
    cells = everything(bins).by_name()["a"]
    number = max(cells, key=lambda number: cells[number][1])
    assert cells[number][1] == 1e6
    expected = (NOW + (-299 + 299 * 654_321 / 999_999) * SECOND) // bins.step
    assert number == pytest.approx(expected, abs=1)


def test_large_counters_keep_their_steps() -> None:
    """A counter near 1.7e12 that moves by ones is drawn exactly."""
    counter = 1.7e12 + np.arange(100.0)
    cells = everything(filled(range(-100, 0), counter)).by_name()["a"]
    assert sorted(low for low, _ in cells.values()) == counter.tolist()


digits = st.tuples(st.integers(-(10**8) + 1, 10**8 - 1), st.integers(3, 40))


@given(st.lists(digits, min_size=1, max_size=20), st.integers(3, 12))
def test_eight_digits_arrive(numbers: list[tuple[int, int]], places: int) -> None:
    """A number of at most eight digits arrives exactly, beside numbers of any size and beside close ones."""
    close = [
        (numbers[0][0] + number % 100, places) for number, _ in numbers if abs(numbers[0][0]) < 10**8 - 100
    ]
    for several in (numbers, close):
        values = [float(f"{number}e-{behind}") for number, behind in several]
        cells = everything(filled(range(-len(values), 0), values)).by_name()["a"] if values else {}
        assert [float(f"{low:.8g}") for _, (low, _) in sorted(cells.items())] == values


def test_first_outlier_does_not_blur_the_rest() -> None:
    """Small values keep their precision after a huge first value."""
    cells = everything(filled([-3, -2, -1], [3e9, 0.123, 0.5])).by_name()["a"]
    assert sorted(low for low, _ in cells.values()) == pytest.approx([0.123, 0.5, 3e9], rel=1e-6)


def test_row_from_the_far_future_wipes_nothing() -> None:
    """A row with an absurd time neither empties the chart nor stops it."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    bins.update(rows.add([-2, 1e9, -1], [1, 2, 3]), NOW)
    bins.update(rows.add([0], [4]), NOW)
    assert sorted(everything(bins).by_name()["a"].values()) == [(1, 1), (3, 3), (4, 4)]


def test_row_from_the_future_comes_of_age() -> None:
    """A row ahead of the clock is drawn once its time is reached."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    bins.update(rows.add([-1, 200], [1, 2]), NOW)
    assert len(everything(bins).cells) == 1
    bins.update(rows.add([150], [3]), NOW + 190 * SECOND)
    assert len(everything(bins).cells) == 3


def test_late_row_goes_into_its_bin() -> None:
    """A late row changes its bin in browsers that already hold it."""
    rows, bins, sent, browser = Rows(), Bins(("v",), "_subject", LOOK_BACK), ChartState(), Browser()
    bins.update(rows.add([-100, -50, 0], [1, 2, 3]), NOW)
    assert browser.receive(sent.next(bins, {}))
    bins.update(rows.add([-50], [9]), NOW)
    assert browser.receive(sent.next(bins, {}))
    assert (2, 9) in browser.by_name()["a"].values()


@pytest.mark.parametrize("hold", [False, True])
@settings(max_examples=100)
@given(st.lists(st.lists(row, max_size=4), min_size=2, max_size=6))
def test_a_message_without_cells_is_told_from_one_with(hold: bool, batches: list[list[Any]]) -> None:
    """has_cells() is true exactly for messages with cells, in whichever bins they are, including the
    first."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK, hold=hold)
    bins.update(rows.add([0], [1]), NOW)
    for batch in [[(0, 7, "a")], *batches]:
        since = bins.version
        if batch:
            times, values, subjects = zip(*batch, strict=True)
            bins.update(rows.add(times, values, subjects), NOW)
        changes = bins.changes(bins.epoch, since)
        if not changes.whole:
            assert has_cells(packed(changes, short=True)) == (len(changes.cells.bin) > 0)
    assert not has_cells(packed(bins.changes(bins.epoch, bins.version), short=True))


def test_new_series_brings_its_name() -> None:
    """A subject that appears later reaches browsers with its name and its values."""
    rows, bins, sent, browser = Rows(), Bins(("v",), "_subject", LOOK_BACK), ChartState(), Browser()
    bins.update(rows.add([-2], [1]), NOW)
    assert browser.receive(sent.next(bins, {}))
    bins.update(rows.add([-1], [2], ["b<i>"]), NOW)
    assert browser.receive(sent.next(bins, {}))
    assert set(browser.by_name()) == {"a", "b<i>"}


def test_older_rows_in_front_start_over() -> None:
    """When a back-fill puts older rows in front, a browser gets everything anew."""
    rows, older, bins = Rows(), Rows(), Bins(("v",), "_subject", LOOK_BACK)
    sent, browser = ChartState(), Browser()
    bins.update(rows.add([-1], [2]), NOW)
    assert browser.receive(sent.next(bins, {}))
    older.add([-200], [1])
    rows.window.prepend(older.window)
    bins.update(rows.window.snapshot(), NOW)
    assert browser.receive(sent.next(bins, {}))
    assert sorted(browser.by_name()["a"].values()) == [(1, 1), (2, 2)]


def test_late_thread_with_an_older_snapshot_changes_nothing() -> None:
    """A snapshot older than the last one does not reset the bins."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    old = rows.add([-2], [1])
    rows.window.clear()
    bins.update(rows.add([-1], [2]), NOW)
    before = bins.epoch, bins.version
    bins.update(old, NOW)
    assert (bins.epoch, bins.version) == before


def test_busiest_series_are_drawn_and_the_rest_folded() -> None:
    """Of too many subjects, the busiest have their own series; the rest are merged into one, named by their
    number."""
    names = [f"s{i}" for i in range(MOST + 37)]
    busy = names[-5:]
    subjects = names + busy * 3
    browser = everything(filled([-1] * len(subjects), range(len(subjects)), subjects))
    assert len(browser.names) == MOST + 1
    assert set(busy) <= set(browser.names.values())
    assert browser.others is not None
    assert browser.names[browser.others] == "37 others"


def test_the_name_of_the_others_follows_their_number() -> None:
    """The merged series is renamed when further series join it, and when some have left the window."""
    rows, bins, sent, browser = Rows(), Bins(("v",), "_subject", LOOK_BACK, most=1), ChartState(), Browser()
    for now, subjects, name in [
        (0, ["a"] * 5 + ["b"], "1 other"),
        (100, ["a", "c", "d"], "3 others"),
        (350, ["a"], "2 others"),
    ]:
        snapshot = rows.add([now - 1] * len(subjects), [1] * len(subjects), subjects)
        bins.update(snapshot, NOW + now * SECOND)
        assert browser.receive(sent.next(bins, {}))
        assert browser.others is not None
        assert browser.names[browser.others] == name


def test_silent_series_make_room() -> None:
    """Subjects that appear when the chart is full are drawn once others have left the window."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    old, new = ([f"{word}{i}" for i in range(MOST)] for word in ("old", "new"))
    bins.update(rows.add([-200] * MOST, range(MOST), old), NOW)
    bins.update(rows.add([-1] * MOST, range(MOST), new), NOW)
    assert set(everything(bins).names.values()) == {*old, f"{MOST} others"}
    bins.update(rows.add([100], [1], ["new0"]), NOW + 150 * SECOND)
    assert set(everything(bins).names.values()) == set(new)
    assert everything(bins).others is None


def test_busier_series_take_the_place_of_quieter_ones() -> None:
    """Series that were first, as during a replay, lose their place to much busier ones."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK, most=2)
    bins.update(rows.add([-200, -200], [1, 2], ["first", "second"]), NOW)
    bins.update(rows.add([-1] * 30, range(30), ["second"] * 10 + ["busy"] * 20), NOW)
    bins.update(rows.add([0], [1], ["busy"]), NOW)
    assert set(everything(bins).names.values()) == {"busy", "second", "1 other"}


def test_how_many_series_is_checked() -> None:
    """An invalid number of series is refused with the valid range."""
    for most in cast("list[int]", [0, 101, -1, "20"]):
        with pytest.raises(LookbackError, match="draws 1 to 100 series"):
            Bins(("v",), None, LOOK_BACK, most=most)


def test_many_viewers_at_once() -> None:
    """Threads that read and update the same bins concurrently never get a message with a gap."""
    rows, bins = Rows(), Bins(("v",), "_subject", LOOK_BACK)
    wrong: list[str] = []

    def viewer() -> None:
        sent, browser = ChartState(), Browser()
        for _ in range(60):
            bins.update(rows.window.snapshot(), NOW)
            if not browser.receive(sent.next(bins, {})):
                wrong.append("a gap without a loss")
        bins.update(rows.window.snapshot(), NOW)
        browser.receive(sent.next(bins, {}))
        pictures.append(browser.by_name())

    rows.add([-299], [0])
    pictures: list[Sized] = []
    threads = [threading.Thread(target=viewer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for i in range(200):
        rows.add([-250 + i], [i], [f"s{i % 7}"])
    for thread in threads:
        thread.join()
    assert not wrong
    bins.update(rows.window.snapshot(), NOW)
    assert max(map(len, pictures)) <= len(everything(bins).by_name())


def test_missing_column_is_told_each_time() -> None:
    """A missing column raises at every refresh, for every viewer."""
    bins, snapshot = Bins(("w",), "_subject", LOOK_BACK), Rows().add([-1], [1])
    for _ in range(2):
        with pytest.raises(ColumnError, match="'w'"):
            bins.update(snapshot, NOW)


def test_nothing_drawable_is_an_empty_picture() -> None:
    """NaN, infinities and values beyond float32 count as missing."""
    assert not everything(filled([-4, -3, -2, -1], [np.nan, np.inf, -np.inf, 1e300])).cells


@pytest.mark.parametrize(
    "text", ["PT1S", "PT1M", "PT5M", "PT7M", "PT15M", "PT1H", "PT6H", "P1D", "P7D", "P366D"]
)
def test_steps_are_round_and_fine(text: str) -> None:
    """A look-back is cut into enough bins for a chart, and never into more than the wire can number."""
    look_back = pd.Timedelta(text)
    count = look_back.value / step_for(look_back)
    assert count < 20_000
    assert count >= 600 or look_back > pd.Timedelta("P7D")


@pytest.mark.parametrize("values", [[12345670.0, 12345671.0, 3.0], [1234567.89, -2.5], [2.0**40 + 1, 7.25]])
def test_whole_digits_arrive(values: list[float]) -> None:
    """A large number arrives with all its integer digits and three decimals, alone and as the end of a
    range."""
    single = everything(filled(range(-len(values), 0), values)).by_name()["a"]
    assert [low for low, _ in single.values()] == values
    both = everything(filled([-1.0] * len(values), values)).by_name()["a"]
    assert list(both.values()) == [(min(values), max(values))]
