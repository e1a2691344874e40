"""Bins are compared with a model that reads every row, and the changes sent with what a browser would
hold."""

import json
from collections import defaultdict

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_client.decoding.decode import decode
from nats_client.decoding.raw import Raw
from nats_client.series.bins import COLUMNS, Bins, Changes, step_for
from nats_client.series.pairs import BETWEEN
from nats_client.series.point_rows import rows_of_point
from nats_client.series.zoom_tiles import TILE
from nats_client.table.values import NULL, Batch
from nats_client.table.window import Window

LOOK_BACK = pd.Timedelta("PT10M")
STEP = step_for(LOOK_BACK)
NOW = 1_700_000_000 * 10**9

Cells = dict[tuple[str, int], tuple[float, float]]


def batch(first: int, rows: list[tuple[int, str, float]]) -> Batch:
    """Rows of (time in ns, subject, value), with sequences from `first`."""
    times = np.array([time for time, _, _ in rows], dtype=np.int64)
    seq = np.arange(first, first + len(rows), dtype=np.int64)
    values = {"value": np.array([value for _, _, value in rows], dtype=np.float64)}
    return Batch(seq, np.full(len(rows), NOW), times, [subject for _, subject, _ in rows], values)


class Browser:
    """A browser's state, built from the changes it receives."""

    def __init__(self) -> None:
        self.epoch = 0
        self.version = 0
        self.names: dict[int, str] = {}
        self.cells: dict[tuple[int, int], tuple[float, float]] = {}

    def receive(self, changes: Changes, since: int) -> bool:
        """Apply the changes since version `since`; return False if this browser's version is older than
        that."""
        if not changes.whole and since > self.version:
            return False
        if changes.whole:
            self.cells.clear()
            self.names.clear()
        self.epoch, self.version = changes.epoch, changes.version
        self.names |= dict(changes.names)
        rows, bins = changes.cells.row.tolist(), changes.cells.bin.tolist()
        base = changes.cells.base[changes.cells.row]
        low = (changes.cells.low - base).astype(np.float32) + base
        high = (changes.cells.high - base).astype(np.float32) + base
        for row, number, cell in zip(rows, bins, zip(low.tolist(), high.tolist(), strict=True), strict=True):
            self.cells[row, number] = cell
        self.cells = {(s, b): cell for (s, b), cell in self.cells.items() if b >= changes.oldest}
        return True

    def shown(self) -> Cells:
        """Least and greatest value by series name and bin."""
        return {(self.names[s], b): cell for (s, b), cell in self.cells.items()}


def model(rows: list[tuple[int, str, float]], oldest: int) -> Cells:
    """The cells that `Browser.shown` should return, computed from every row; bins before `oldest` are left
    out."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for time, subject, value in rows:
        if time // STEP >= oldest and np.isfinite(value):
            found[subject, time // STEP].append(value)
    return {key: (min(values), max(values)) for key, values in found.items()}


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz-"), st.integers(-9, 9)), max_size=20)
    )
)
def test_panels_have_the_lines_of_their_rows(batches: list[list[tuple[str, str, int]]]) -> None:
    """With a facet, each pair of facet and line (or field) in a row is a series of its own, named after both,
    also in the finer bins. Rows without one of the two belong to no series."""
    window, bins = Window(), Bins(("v",), "line", LOOK_BACK, facet="panel")
    only = Bins(("v",), None, LOOK_BACK, facet="panel")
    expected: dict[str, set[int]] = defaultdict(set)
    panels: dict[str, set[int]] = defaultdict(set)
    seq = 0
    for rows in [[("a", "x", 0)], *batches]:
        payloads = [
            json.dumps({"panel": panel, "v": value} | ({"line": line} if line != "-" else {})).encode()
            for panel, line, value in rows
        ]
        times = [NOW - i * STEP for i in range(len(rows))]
        seqs = list(range(seq + 1, seq + 1 + len(rows)))
        seq += len(rows)
        if rows:
            window.append(decode(Raw(seqs, times, ["s"] * len(rows), payloads), "json", None)[0])
        for panel, line, value in rows:
            panels[f"{panel}{BETWEEN}v"].add(value)
            if line != "-":
                expected[f"{panel}{BETWEEN}{line}"].add(value)
        snapshot = window.snapshot()
        for each, wanted in ((bins, expected), (only, panels)):
            each.update(snapshot, NOW)
            changes = each.changes(0, 0)
            found: dict[str, set[int]] = defaultdict(set)
            cells = zip(changes.cells.row.tolist(), changes.cells.low, changes.cells.high, strict=True)
            for row, low, high in cells:
                found[each.names[row]] |= {int(low), int(high)}
            assert found.keys() == wanted.keys()
            assert all(values <= wanted[name] for name, values in found.items())
            assert all({min(wanted[name]), max(wanted[name])} <= values for name, values in found.items())
            finer_bins = each.finer(STEP)
            assert finer_bins is not None
            finer = finer_bins.changes(snapshot, [NOW // (TILE * finer_bins.step)], 0, 0, frozenset())
            now = {
                row
                for row, at in zip(finer.cells.row, finer.cells.bin, strict=True)
                if at == NOW // finer_bins.step
            }
            assert now <= set(range(len(each.names)))
            for name, values in wanted.items():
                rows_of, behind = rows_of_point(snapshot, each, name, 0, NOW + 1)
                assert len(rows_of) == len(behind)
                assert set(behind.tolist()) == values


def rows_of_a_refresh(subject: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[int, str, float]]]:
    """Rows of (seconds from the refresh, subject, value); late ones as well."""
    value = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))
    return st.lists(st.tuples(st.integers(-400, 5), subject, value), max_size=30)


@settings(max_examples=80)
@given(st.lists(st.tuples(rows_of_a_refresh(st.sampled_from("abc")), st.booleans()), min_size=1, max_size=12))
def test_a_browser_holds_what_the_rows_say(
    refreshes: list[tuple[list[tuple[int, str, float]], bool]],
) -> None:
    """Whatever rows arrive, even late, and whichever updates are lost, the browser shows the bins of all rows
    in the look-back."""
    window, bins, browser = Window(), Bins(("value",), "_subject", LOOK_BACK), Browser()
    everything: list[tuple[int, str, float]] = []
    last = before = 0
    for i, (rows, lost) in enumerate(refreshes):
        now = NOW + i * 60 * 10**9
        timed = [(now + seconds * 10**9, subject, value) for seconds, subject, value in rows]
        window.append(batch(len(everything) + 1, timed))
        everything += timed
        bins.update(window.snapshot(), now)
        oldest = (now - LOOK_BACK.value) // STEP
        changes, since = bins.changes(browser.epoch, before), before
        before, last = last, bins.version
        if lost:
            continue
        if not browser.receive(changes, since):
            assert browser.receive(bins.changes(bins.epoch, 0), 0)
        shown, expected = browser.shown(), model(everything, oldest)
        assert shown.keys() == expected.keys()
        for key, cell in expected.items():
            np.testing.assert_allclose(shown[key], cell, rtol=1e-5, atol=0.5)


def test_a_spike_among_a_million_rows_stays() -> None:
    """One outlier among a million rows is kept, in the bin of its time."""
    window, bins, browser = Window(), Bins(("value",), None, LOOK_BACK), Browser()
    times = NOW - np.linspace(LOOK_BACK.value, 0, 1_000_000, dtype=np.int64)
    values = np.sin(np.arange(1_000_000) / 1000)
    values[345_678] = 99.0
    seq = np.arange(1_000_000, dtype=np.int64)
    window.append(Batch(seq, times, times, ["s"] * 1_000_000, {"value": values}))
    bins.update(window.snapshot(), NOW)
    changes = bins.changes(bins.epoch, 0)
    browser.receive(changes, 0)
    assert browser.shown()["value", int(times[345_678]) // STEP][1] == 99.0
    assert len(changes.cells.bin) < COLUMNS * 2 * 2


def test_a_quiet_refresh_costs_little() -> None:
    """A refresh sends only the cells that changed, however many the window has."""
    window, bins = Window(), Bins(("value",), "_subject", LOOK_BACK)
    times = [NOW - i * 10**9 for i in range(600, 0, -1)]
    window.append(batch(1, [(time, name, 1.0) for time in times for name in "abcdefghij"]))
    bins.update(window.snapshot(), NOW)
    whole = bins.changes(bins.epoch, 0).cells.bin
    version = bins.version
    window.append(batch(6001, [(NOW, name, 2.0) for name in "abcdefghij"]))
    bins.update(window.snapshot(), NOW)
    assert len(bins.changes(bins.epoch, version).cells.bin) < len(whole) / 50


def test_large_counters_keep_their_steps() -> None:
    """Steps of one byte in a counter of terabytes survive the 32-bit floats sent to the browser."""
    window, bins, browser = Window(), Bins(("value",), None, LOOK_BACK), Browser()
    base = 1.7e12
    window.append(batch(1, [(NOW - i * STEP, "s", base + i) for i in range(100)]))
    bins.update(window.snapshot(), NOW)
    browser.receive(bins.changes(bins.epoch, 0), 0)
    assert sorted(low for low, _ in browser.shown().values()) == [base + i for i in range(100)]


@settings(max_examples=80)
@given(st.lists(rows_of_a_refresh(st.sampled_from("abcdefgh")), min_size=1, max_size=8), st.integers(1, 9))
def test_the_others_are_the_extremes_of_all_that_are_not_drawn(
    refreshes: list[list[tuple[int, str, float]]], most: int
) -> None:
    """Whatever rows arrive, each bin of a drawn series has the minimum and maximum of its own rows. The band
    of others has those of all series that are not drawn."""
    window, bins, browser = Window(), Bins(("value",), "_subject", LOOK_BACK, most=most), Browser()
    everything: list[tuple[int, str, float]] = []
    since = 0
    for i, rows in enumerate(refreshes):
        now = NOW + i * 60 * 10**9
        timed = [(now + seconds * 10**9, subject, value) for seconds, subject, value in rows]
        window.append(batch(len(everything) + 1, timed))
        everything += timed
        bins.update(window.snapshot(), now)
        if not browser.receive(bins.changes(browser.epoch, since), since):
            assert browser.receive(bins.changes(bins.epoch, 0), 0)
        since = bins.version
        oldest = (now - LOOK_BACK.value) // STEP
        own = {name for name in browser.names.values() if len(name) == 1}
        held = {subject for subject, _ in model(everything, oldest)}
        folded = held - own
        name = f"{len(folded)} other" + "s" * (len(folded) != 1)
        expected = model([(time, s if s in own else name, value) for time, s, value in everything], oldest)
        assert len(own) <= most
        assert not folded or len(own) == most
        shown = browser.shown()
        assert shown.keys() == expected.keys()
        for key, cell in expected.items():
            np.testing.assert_allclose(shown[key], cell, rtol=1e-5, atol=0.5)


def test_another_stream_starts_another_epoch() -> None:
    """When the window starts over, the epoch changes, and the browser replaces everything it holds."""
    window, bins, browser = Window(), Bins(("value",), "_subject", LOOK_BACK), Browser()
    window.append(batch(1, [(NOW, "a", 1.0)]))
    bins.update(window.snapshot(), NOW)
    browser.receive(bins.changes(bins.epoch, 0), 0)
    window.clear()
    window.append(batch(1, [(NOW, "b", 2.0)]))
    bins.update(window.snapshot(), NOW)
    assert bins.epoch != browser.epoch
    assert bins.changes(browser.epoch, browser.version).whole
    browser.receive(bins.changes(browser.epoch, browser.version), 0)
    assert {name for name, _ in browser.shown()} == {"b"}


def test_older_rows_in_front_are_drawn() -> None:
    """Rows that a longer look-back puts in front of the window are drawn as well."""
    window, older = Window(), Window()
    bins, browser = Bins(("value",), "_subject", LOOK_BACK), Browser()
    window.append(batch(10, [(NOW, "a", 1.0)]))
    bins.update(window.snapshot(), NOW)
    older.append(batch(1, [(NOW - 60 * 10**9, "a", 7.0)]))
    window.prepend(older)
    bins.update(window.snapshot(), NOW)
    browser.receive(bins.changes(bins.epoch, 0), 0)
    assert sorted(low for low, _ in browser.shown().values()) == [1.0, 7.0]


def test_a_clock_in_the_future_blanks_nothing() -> None:
    """A row dated two years ahead is counted and left out; the other rows stay."""
    window, bins, browser = Window(), Bins(("value",), "_subject", LOOK_BACK), Browser()
    window.append(batch(1, [(NOW, "a", 1.0), (NOW + 2 * 365 * 86400 * 10**9, "a", 5.0)]))
    bins.update(window.snapshot(), NOW)
    assert bins.future == 1
    browser.receive(bins.changes(bins.epoch, 0), 0)
    assert browser.shown() == {("a", NOW // STEP): (1.0, 1.0)}


def test_null_breaks_a_line() -> None:
    """A null makes a cell that breaks the line, unless the cell also has a value. A message without the field
    makes no cell."""
    payloads = [b'{"v": 1}', b'{"v": null}', b"{}", b'{"v": 2}']
    for many in (1, 100):  # by row, and by column
        window = Window()
        for i, payload in enumerate(payloads):
            seqs = list(range(i * many + 1, (i + 1) * many + 1))
            raw = Raw(seqs, [NOW + 2 * i * STEP] * many, ["s"] * many, [payload] * many)
            window.append(decode(raw, "json", None)[0])
        bins = Bins(("v",), "_subject", LOOK_BACK)
        bins.update(window.snapshot(), NOW + 10 * STEP)
        cells = bins.changes(0, 0).cells
        held = dict(zip(((cells.bin - NOW // STEP) // 2).tolist(), cells.low.tolist(), strict=True))
        assert held == {0: 1, 1: -np.inf, 3: 2}


moment = st.tuples(st.integers(-590, 0), st.integers(-9, 9) | st.just(NULL), st.sampled_from("ab"))


@settings(max_examples=100)
@given(st.lists(st.lists(moment, max_size=6), max_size=6), st.integers(1, 900))
def test_a_value_holds(batches: list[list[tuple[int, float, str]]], later: int) -> None:
    """With `hold`, each cell has its newest value by time; of equal times, the value that arrived last. Each
    series also has the newest value that left the look-back, unless a null followed it."""
    window, bins = Window(), Bins(("value",), "_subject", LOOK_BACK, hold=True)
    rows: list[tuple[int, str, float]] = []
    for part in [[(-590, 0.0, "a"), (-590, 0.0, "b")], *batches]:
        new = [(NOW + second * 10**9, name, value) for second, value, name in part]
        window.append(batch(len(rows), new))
        rows += new
        bins.update(window.snapshot(), NOW)
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], i))
    each = {(rows[i][1], rows[i][0] // STEP): rows[i][2] for i in order}
    newest = {cell: value for cell, value in each.items() if value == value}
    changes = bins.changes(0, 0)
    assert changes.cells.last is not None
    at = zip(changes.cells.row.tolist(), changes.cells.bin.tolist(), changes.cells.last.tolist(), strict=True)
    assert {(bins.names[row], number): value for row, number, value in at if value == value} == newest
    assert not changes.held
    bins.update(window.snapshot(), NOW + later * 10**9)
    left = {}
    for name in "ab":
        gone = max((number for of, number in each if of == name and number < bins.edge), default=0)
        if (name, gone) in newest:
            left[name] = gone, newest[name, gone]
    held = {bins.names[row]: (number, value) for row, number, value in bins.changes(0, 0).held}
    assert held == left
