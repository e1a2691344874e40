"""Results that are kept current."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import psutil
import pytest

from components.charts.wire import NOTHING, step
from nats_client.errors import ClosedError, SqlError
from nats_client.feeds.health import Health
from nats_client.memory import Memory
from nats_client.results import result as result_module
from nats_client.results.inputs import Given, Moment
from nats_client.results.result import Query, Result, ResultOf, Results
from nats_client.results.turns import Turns
from nats_client.sql.arrow import Table
from nats_client.sql.bounded import Limits
from nats_client.table.values import Batch
from nats_client.table.window import Window
from tests.running import ROOT
from tests.waiting import until

SECOND = 1_000_000_000
LOOK_BACK = pd.Timedelta(minutes=5)


@dataclass(eq=False)
class Lines:
    """A table whose rows are appended by the test."""

    window: Window = field(default_factory=Window)
    look_back: pd.Timedelta | None = LOOK_BACK
    name_key: object = "lines"
    watchers: list[Callable[[], None]] = field(default_factory=list)

    def say(self, *values: float, names: tuple[str, ...] = ("a",), ago: float = 0.0) -> None:
        """Append values, each a millisecond after the one before, of these names in turn."""
        first = len(self.window) + 1
        now = time.time_ns() - int(ago * SECOND)
        times = now + np.arange(len(values)) * 1_000_000
        texts = [names[i % len(names)] for i in range(len(values))]
        seq = np.arange(first, first + len(values))
        self.window.append(
            Batch(seq, times, times, ["s"] * len(values), {"v": np.array(values), "name": texts})
        )
        for changed in self.watchers:
            changed()

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """The rows."""
        rows = self.window.snapshot()
        return rows.version, rows

    def now(self) -> int | None:
        """This machine's clock."""
        return time.time_ns()

    def health(self) -> Health | None:
        """None."""
        return None

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each say()."""
        self.watchers.append(changed)
        return lambda: self.watchers.remove(changed)


@pytest.fixture
def results() -> Iterator[Results]:
    """Results that end with the test."""
    results = Results()
    yield results
    results.close()


def asked(results: Results, sql: str, lines: Lines, rights: str = "", limits: Limits | None = None) -> Result:
    """A result over the table `t`, once it is computed."""
    found = results.get(rights, Query(sql, ("t",), {}), {"t": lines}, limits=limits)
    assert found.wait(30)
    return found


def total(result: Result) -> float:
    """The one number of a result; NaN without one."""
    rows = result.snapshot()
    return float(rows.numbers("x")[0]) if len(rows) else float("nan")


def test_it_follows_its_inputs_and_nothing_else(results: Results) -> None:
    """A result is computed again when rows arrive, and not while nothing changes."""
    lines = Lines()
    lines.say(1, 2)
    found = asked(results, "SELECT sum(v) AS x FROM t", lines)
    assert total(found) == 3
    lines.say(10)
    until(lambda: total(found) == 13)
    version = found.snapshot().version
    time.sleep(2.5 * result_module.BEAT)
    assert found.snapshot().version == version


def test_at_most_four_times_a_second(results: Results) -> None:
    """However often rows arrive, the pause between two computations is at least FASTEST."""
    lines = Lines()
    lines.say(1)
    found = asked(results, "SELECT sum(v) AS x FROM t", lines)
    times: list[float] = []
    end = found.watch(lambda: times.append(time.monotonic()))
    stop = time.monotonic() + 2
    while time.monotonic() < stop:
        lines.say(1)
        time.sleep(0.01)
    end()
    assert len(times) >= 2
    assert min(np.diff(times)) > 0.9 * result_module.FASTEST


def test_equal_questions_share_one_result(results: Results) -> None:
    """Only readers with the same rights, SQL, parameters and tables share a result."""
    lines, others = Lines(), Lines()
    sql = "SELECT sum(v) AS x FROM t WHERE name = $name"
    one = results.get("r", Query(sql, ("t",), {"name": "a"}), {"t": lines})
    assert results.get("r", Query(sql, ("t",), {"name": "a", "unused": 1}), {"t": lines}) is one
    assert results.get("other", Query(sql, ("t",), {"name": "a"}), {"t": lines}) is not one
    assert results.get("r", Query(sql, ("t",), {"name": "b"}), {"t": lines}) is not one
    assert results.get("r", Query(sql, ("t",), {"name": "a"}), {"t": others}) is not one
    frame = pd.DataFrame({"v": [1.0], "name": ["a"]})
    given = results.get("r", Query(sql, ("t",), {"name": "a"}), {"t": Given.of(frame)})
    assert results.get("r", Query(sql, ("t",), {"name": "a"}), {"t": Given.of(frame.copy())}) is given
    other = Given.of(frame.assign(v=2.0))
    assert results.get("r", Query(sql, ("t",), {"name": "a"}), {"t": other}) is not given


def test_a_parameter_of_another_type_is_another_one(results: Results) -> None:
    """1, 1.0 and True are different values to SQL."""
    lines = Lines()
    sql = "SELECT typeof($x) AS x FROM t"
    found = [results.get("", Query(sql, ("t",), {"x": value}), {"t": lines}) for value in (1, 1.0, True)]
    assert len(set(map(id, found))) == 3


def test_results_build_on_each_other(results: Results) -> None:
    """A result over another result follows its rows, and has its error if that one fails."""
    lines = Lines()
    lines.say(1, 2, names=("a", "b"))
    below = asked(results, "SELECT name, sum(v) AS x FROM t GROUP BY ALL", lines)
    above = results.get("", Query("SELECT max(x) AS x FROM b", ("b",), {}), {"b": ResultOf(below)})
    until(lambda: total(above) == 2)
    lines.say(5)
    until(lambda: total(above) == 6)
    wrong = asked(results, "SELECT nme AS x FROM t", lines)
    over = results.get("", Query("SELECT x FROM b", ("b",), {}), {"b": ResultOf(wrong)})
    assert over.wait(30)
    assert "'nme'" in str(over.error)


def test_an_unknown_column_is_no_error_before_the_first_row(results: Results) -> None:
    """While there are no rows, an unknown column is no error. With rows it is one, until a row has the
    column."""
    lines = Lines()
    found = asked(results, "SELECT w AS x FROM t WHERE w IS NOT NULL", lines)
    assert found.error is None
    assert len(found.snapshot()) == 0
    lines.say(1)
    until(lambda: found.error is not None)
    assert "There is no column 'w'" in str(found.error)
    seq = np.array([100])
    times = np.array([time.time_ns()])
    lines.window.append(Batch(seq, times, times, ["s"], {"w": np.array([7.0])}))
    until(lambda: found.error is None and total(found) == 7)


def test_a_failure_ends(results: Results) -> None:
    """A result that exceeds a limit has an error, and has rows again once they fit."""
    lines = Lines()
    lines.say(*range(100))
    limits = Limits(rows=100)
    found = asked(results, "SELECT v AS x FROM t", lines, limits=limits)
    assert len(found.snapshot()) == 100
    lines.say(1)
    until(lambda: found.error is not None)
    assert "more than 100 rows" in str(found.error)
    lines.window.remove_before(50)
    until(lambda: found.error is None and len(found.snapshot()) == 52)


def test_a_slow_one_rests_and_says_so(results: Results) -> None:
    """A slow result is computed less often, and pace() reports how often."""
    lines = Lines()
    lines.say(1)
    slow = (
        "SELECT (SELECT count(*) FROM range(40000) a, range(10000) b WHERE a.range + b.range = 3) AS x FROM t"
    )
    found = asked(results, slow, lines)
    assert found.pace().startswith("SQL every ")
    assert asked(results, "SELECT sum(v) AS x FROM t", lines).pace() == ""


def test_endless_ones_keep_no_other_waiting(results: Results) -> None:
    """While more endless results run than there are turns, a quick result still follows its input."""
    lines, endless = Lines(), Lines()
    lines.say(1.0)
    endless.say(1.0)
    quick = asked(results, "SELECT sum(v) AS x FROM t", lines)
    for i in range(result_module.AT_ONCE + 2):
        sql = (
            f"SELECT count(*) AS n FROM t, range(10000000) a, range(10000000) b WHERE a.range + b.range = {i}"
        )
        results.get("", Query(sql, ("t",), {}), {"t": endless}).watch(lambda: None)
    until(lambda: result_module._long_turns.all_taken)
    for _ in range(3):
        before = total(quick)
        lines.say(10.0)
        until(lambda: total(quick) == before + 10)
    assert result_module._long_turns.all_taken


def endless(number: int) -> str:
    """A query that does not end."""
    many = "range(10000000)"
    return f"SELECT count(*) AS n FROM t, {many} a, {many} b WHERE a.range + b.range = {number}"


def test_typed_endless_ones_of_one_viewer_keep_no_other_viewer_waiting(results: Results) -> None:
    """While one viewer's tabs run many endless queries, the queries of other viewers are computed and kept
    current. Equal typed queries share one result, but not with a page's own query of the same SQL."""
    lines = Lines()
    lines.say(1.0)
    for i in range(result_module.AT_ONCE + 3):
        found = results.get("", Query(endless(i), ("t",), {}, typed=True), {"t": lines})
        found.join(f"tab {i}", "endless")
        found.watch(lambda: None)
    for viewer in ("b", "c"):
        sql = f"SELECT sum(v) AS x, '{viewer}' AS y FROM t"
        one = results.get("", Query(sql, ("t",), {}, typed=True), {"t": lines})
        one.join(viewer, viewer)
        assert results.get("", Query(sql, ("t",), {}, typed=True), {"t": lines}) is one
        assert results.get("", Query(sql, ("t",), {}), {"t": lines}) is not one
        assert one.wait(30)
        before = total(one)
        lines.say(10.0)
        until(lambda: total(one) == before + 10)


def test_what_a_viewer_has_left_is_worked_out_no_more(results: Results) -> None:
    """A query that its viewer has left ends, and the viewer's next query does not wait for it. A query that
    another viewer still has open continues."""
    lines = Lines()
    lines.say(1.0)
    old = results.get("", Query(endless(1), ("t",), {}, typed=True), {"t": lines})
    shared = results.get("", Query("SELECT sum(v) AS x FROM t", ("t",), {}, typed=True), {"t": lines})
    old.join("tab", "me")
    shared.join("tab", "me")
    shared.join("other", "you")
    old.watch(lambda: None)
    time.sleep(0.5)
    old.leave("tab")
    shared.leave("tab")
    assert old.closed
    assert not shared.closed
    new = results.get("", Query("SELECT max(v) AS x FROM t", ("t",), {}, typed=True), {"t": lines})
    new.join("tab", "me")
    until(lambda: total(new) == 1)
    until(lambda: total(shared) == 1)


def test_a_killed_one_comes_back(results: Results) -> None:
    """A result whose process was killed reports that, and is computed again without new rows."""
    lines = Lines()
    lines.say(1.0)
    found = results.get("", Query(endless(1), ("t",), {}, typed=True), {"t": lines})
    errors: list[str] = []
    found.watch(lambda: errors.append(str(found.error)))
    processes = psutil.Process()

    def running() -> list[psutil.Process]:
        return [
            child
            for server in processes.children()
            if "nats_client.sql.apart_process" in server.cmdline()
            for child in server.children()
        ]

    ended: set[psutil.Process] = set()

    def reported() -> bool:
        # A process that runs at first may be of the previous query, and about to end
        for child in running():
            ended.add(child)
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        return any("ended by somebody else" in error for error in errors)

    until(reported)
    until(lambda: not ended.issuperset(running()))


def test_a_turn_goes_to_who_has_fewest() -> None:
    """Each asker holds at most its share of the turns. A free turn goes to the asker that holds the fewest,
    then to the one whose last turn was longest ago."""
    turns, order, held = Turns(2, 1), list[str](), threading.Event()

    def run(asker: str) -> None:
        with turns.taken(lambda: (asker,)):
            order.append(asker)
            held.wait()

    threads = []
    for asker in ("a", "a", "a", "b", "c"):
        thread = threading.Thread(target=run, args=(asker,))
        thread.start()
        threads.append(thread)
        time.sleep(0.05)
    until(lambda: order == ["a", "b"])
    held.set()
    for thread in threads:
        thread.join()
    assert order[2] == "c"
    assert sorted(order) == ["a", "a", "a", "b", "c"]
    assert not turns.all_taken


def test_what_nobody_reads_is_dropped(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result without a reader is closed, with its thread and rows; a watched one stays."""
    monkeypatch.setattr(result_module, "UNREAD", 1.0)
    lines = Lines()
    lines.say(1)
    found = asked(results, "SELECT sum(v) AS x FROM t", lines)
    watched = asked(results, "SELECT sum(v) + 1 AS x FROM t", lines)
    end = watched.watch(lambda: None)
    until(lambda: found.closed)
    with pytest.raises(ClosedError):
        found.snapshot()
    assert not watched.closed
    end()
    until(lambda: watched.closed)
    until(lambda: not [each for each in threading.enumerate() if each.name == "result"])
    assert lines.watchers == []
    assert asked(results, "SELECT sum(v) AS x FROM t", lines) is not found


def test_results_count_towards_the_memory_ceiling() -> None:
    """The rows of a result, and data derived from them, count towards the ceiling. A result that has to
    shrink reports why; its events contain this, and why it was closed."""
    memory = Memory(8 << 20)
    lines = Lines()
    lines.say(*range(50_000))
    found = Result(Query("SELECT v AS x FROM t", ("t",), {}), {"t": lines}, memory=memory)
    try:
        assert found.wait(30)
        assert memory.total == found.nbytes > 50_000 * 8
        found.shrink(1 << 20, 8 << 20)
        lines.say(*range(200_000))
        until(lambda: found.error is not None)
        assert "MiB" in str(found.error)
    finally:
        found.drop("the test ends")
    found.drop("its client closes")
    assert memory.total == 0
    failed, closed = found.events
    assert (failed.what, failed.why) == ("no result", "its SQL failed; the page shows why")
    assert (closed.what, closed.why, closed.times) == ("closed", "the test ends", 1)


def test_two_tables_of_one_input_have_one_version(results: Results) -> None:
    """An input used as two tables of a statement is read once for both, even if it changes at every read."""

    @dataclass(eq=False)
    class Changing(Lines):
        def take(self, moment: Moment) -> tuple[Hashable, Table]:
            self.say(1.0)
            return super().take(moment)

    changing = Changing()
    work = Query("SELECT (SELECT count(*) FROM a) - (SELECT count(*) FROM b) AS x", ("a", "b"), {})
    found = results.get("", work, {"a": changing, "b": changing})
    assert found.wait(30)
    assert found.snapshot().numbers("x").tolist() == [0.0]


def test_there_are_at_most_so_many(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has a maximum number of different results; a further one is refused with an error."""
    monkeypatch.setattr(result_module, "MOST", 2)
    lines = Lines()
    for n in range(2):
        results.get("", Query(f"SELECT {n} AS x FROM t", ("t",), {}), {"t": lines})
    with pytest.raises(SqlError, match="different queries are open"):
        results.get("", Query("SELECT 3 AS x FROM t", ("t",), {}), {"t": lines})


def test_unchanged_bins_do_not_travel_again(results: Results) -> None:
    """After a result was computed again, its chart receives only the bins that differ: a small part of all
    bytes."""
    lines = Lines()
    for ago in range(290, 0, -1):
        lines.say(1.0, 2.0, names=("a", "b"), ago=ago)
    sql = "SELECT time_bucket(INTERVAL 1 s, _time) AS time, name, sum(v) AS x FROM t GROUP BY ALL"
    found = asked(results, sql, lines)
    bins = found.bins(("x",), "name", LOOK_BACK)
    config: dict[str, object] = {}
    bins.update(found.snapshot(), found.now())
    held, _, _, first = step(bins, NOTHING, config, short=True)
    version = found.snapshot().version
    lines.say(5.0, names=("a",))
    until(lambda: found.snapshot().version > version)
    bins.update(found.snapshot(), found.now())
    changes = bins.changes(held.epoch, held.version)
    assert not changes.whole
    assert len(changes.cells.bin) == 1
    held, _, _, news = step(bins, held, config, short=True)
    assert len(news) * 20 < len(first)
    epoch, before = bins.epoch, set(bins.changes(0, 0).cells.bin.tolist())
    lines.window.remove_before(len(lines.window) // 2)
    for changed in lines.watchers:
        changed()
    until(lambda: len(found.snapshot()) < 400)
    bins.update(found.snapshot(), found.now())
    assert bins.epoch == epoch
    changes = bins.changes(held.epoch, held.version)
    emptied = set(changes.cells.bin[np.isinf(changes.cells.low)].tolist())
    gone = before - set(bins.changes(0, 0).cells.bin.tolist())
    assert len(gone) > 100
    assert all(bin_ < changes.oldest or bin_ in emptied for bin_ in gone)


ENDLESS = """
import threading, time
import pandas as pd
from nats_client.sql.engine import ask

sql = "SELECT count(*) AS n FROM t, range(10000000) a, range(10000000) b WHERE a.range + b.range = 3"
for _ in range(3):
    threading.Thread(target=ask, args=(sql, {"t": pd.DataFrame({"v": [1]})}), daemon=True).start()
time.sleep(1)
"""


def test_a_program_ends_while_sql_runs() -> None:
    """A program that ends while SQL runs ends that SQL too, and reports no fault."""
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "terminate" not in done.stderr


def test_equal_values_of_other_types_are_other_parameters() -> None:
    """Parameters that are equal but differ in type are different, also within a list: to SQL, 1 is not
    true."""
    sql = "SELECT n FROM r WHERE list_contains($p, n)"
    works = [Query(sql, ("r",), {"p": value}) for value in ((1,), (True,), (1.0,), (1, 1), 1, True)]
    assert len({work.identity for work in works}) == len(works)
    assert Query(sql, ("r",), {"p": (1,)}).identity == works[0].identity
