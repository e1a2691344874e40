"""Measure this app beside its rivals: `python -m bench [measure …] [--quick]`.

Rounds are interleaved, ours and theirs in turn, and their medians compared, so that a busy minute of the
machine affects both sides. Without a named measure it runs all of them and then `bench.growth`, and writes
docs/measurements.md (`bench.report`). That takes less than a quarter of an hour on two cores. --quick is only
a smoke run; its figures mean nothing.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import burst, growth, latency, measures, replay, report, sql_refresh, wire
from bench.machine import machine, today
from bench.measures import QUICK, Plan, say
from bench.stage import (
    AT_REST,
    NODE,
    OURS,
    PANDAS,
    PLAIN_RECIPE,
    PUBLISHER,
    UNFILTERED,
    WEBSOCKET_CLIENT,
    Side,
    allow_sockets,
    nats_server,
    pin_load,
    ten_series,
)


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    unit: str
    goal: float | None = None
    """The target for the ratio ours/theirs, or for our own figure if `own`."""
    run: Callable[[Side, str, Plan], Awaitable[dict[str, float]]] | None = None
    """Measures one side. One run may return the figures of several rows."""
    rival: Side = PLAIN_RECIPE
    ceiling: bool = False
    """True if the goal is a ceiling although it is one or more."""
    pair: Callable[[Plan, str], Awaitable[dict[str, list[tuple[float, float]]]]] | None = None
    """Measures this app and its rival together, in its own rounds."""
    own: bool = False
    """True if the goal is for our own figure, whatever the rival's is."""
    floor: bool = False
    """True if the goal is a floor although it is below one."""

    @property
    def bound(self) -> str:
        """The goal in words, or "" without one. A goal below 1 is a ceiling unless `floor` is set."""
        if self.goal is None:
            return ""
        unit = f" {self.unit}" if self.own else ""
        most = (self.ceiling or self.goal < 1) and not self.floor
        return f"{'at most' if most else 'at least'} {self.goal:,g}{unit}"

    def met(self, ours: float, ratio: float | None) -> bool | None:
        """Whether the goal is met; None where there is none."""
        value = ours if self.own else ratio
        if self.goal is None or value is None:
            return None
        return value <= self.goal if self.bound.startswith("at most") else value >= self.goal


MEASURES = {
    "viewer_bytes_10": Measure("bytes/s", 0.2, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_10_compressed": Measure("bytes/s", 0.6, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_10_1s": Measure("bytes/s", 0.1, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_10_1s_compressed": Measure("bytes/s", 0.35, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_1000": Measure("bytes/s", 0.01, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_1000_compressed": Measure("bytes/s", 0.04, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_1000_1s": Measure("bytes/s", 0.003, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes),
    "viewer_bytes_1000_1s_compressed": Measure(
        "bytes/s", 0.01, None, WEBSOCKET_CLIENT, pair=wire.viewer_bytes
    ),
    "latency_ms": Measure("ms", 1.5, None, WEBSOCKET_CLIENT, True, latency.latency),
    "latency_p95_ms": Measure("ms", 1.5, None, WEBSOCKET_CLIENT, True, latency.latency),
    "open_bytes_6h": Measure("bytes", 0.001, None, WEBSOCKET_CLIENT, pair=wire.long_look_back),
    "open_seconds_6h": Measure("s", None, None, WEBSOCKET_CLIENT, pair=wire.long_look_back),
    "sessions_held": Measure("sessions", 2000, own=True),
    "viewer_cpu_ms": Measure("ms", 0.5, ceiling=True, own=True, pair=measures.viewer_cpu),
    "session_memory": Measure("KiB", 200, measures.session_memory, ceiling=True, own=True),
    "replay_rate": Measure("messages/s", 10, pair=measures.replay_rates),
    "replay_rate_node": Measure("messages/s", 1, None, NODE, pair=measures.replay_rates),
    "where_replay_rate": Measure("messages/s", 0.6, None, UNFILTERED, floor=True, pair=measures.where_rates),
    "replay_refresh_ms": Measure("ms", 100, None, AT_REST, True, measures.replay_refresh, own=True),
    "burst_refresh_ms": Measure("ms", 100, None, AT_REST, True, burst.bursts, own=True),
    "burst_rate": Measure("messages/s", None, None, PUBLISHER, pair=burst.bursts),
    "sql_refresh_ms": Measure("ms", 0.2, None, PANDAS, pair=sql_refresh.sql_refresh),
    "sql_refresh_ms_200": Measure("ms", 0.01, None, PANDAS, pair=sql_refresh.sql_refresh),
    "sql_whole_refresh_ms": Measure("ms", None, None, PANDAS, pair=sql_refresh.sql_refresh),
    "sql_whole_refresh_ms_200": Measure("ms", 0.01, None, PANDAS, pair=sql_refresh.sql_refresh),
    "bytes_per_refresh": Measure("bytes", 0.1, measures.steady),
    "bytes_per_refresh_compressed": Measure("bytes", None, pair=measures.compressed),
    "cpu_per_refresh": Measure("ms", 0.1, measures.steady),
    "refresh_latency_ms": Measure("ms", None, measures.steady),
}
RESULTS = Path(__file__).parent / "results.json"
REPLAYS = {"replay_rate", "replay_rate_node", "where_replay_rate", "replay_refresh_ms"}
"""Measures that need a long stream."""
FIRST_GUESS = 6
"""Where the search for the plain recipe's most sessions starts. A poor guess costs time, not accuracy."""


async def run(names: list[str], plan: Plan) -> list[dict[str, Any]]:
    """Run the named measures, in interleaved rounds."""
    rounds: dict[str, dict[Side, list[float]]] = defaultdict(lambda: defaultdict(list))
    runners = {m.run: m.rival for n, m in MEASURES.items() if n in names and m.run}
    pairs = dict.fromkeys(m.pair for n, m in MEASURES.items() if n in names and m.pair)
    async with nats_server() as url, ten_series(url):
        if REPLAYS & set(names):
            with timed("fill"):
                await replay.fill(url, plan.replay)
        for pair in pairs:
            with timed(pair.__name__):
                for name, both in (await pair(plan, url)).items():
                    for number, (ours, theirs) in enumerate(both):
                        say(
                            f"round {number + 1}: {name}: {ours:,.1f} and {theirs:,.1f} {MEASURES[name].unit}"
                        )
                        rounds[name][OURS].append(ours)
                        rounds[name][MEASURES[name].rival].append(theirs)
        for number in range(plan.rounds):
            for runner, rival in runners.items():
                # Who goes first changes from round to round.
                for side in (rival, OURS) if number % 2 else (OURS, rival):
                    with timed(runner.__name__):
                        found = await runner(side, url, plan)
                    say(f"round {number + 1}: {side.name}: {words(found)}")
                    for name, value in found.items():
                        rounds[name][side].append(value)
        if "sessions_held" in names:
            with timed("sessions_held"):
                await search_sessions(url, plan, rounds["sessions_held"])
    return [
        result(name, rounds[name][OURS], rounds[name][MEASURES[name].rival])
        for name in MEASURES
        if name in names
    ]


SPENT: dict[str, float] = defaultdict(float)
"""Seconds spent so far, by the name given to timed()."""


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the seconds that the block takes to SPENT."""
    start = time.monotonic()
    yield
    SPENT[name] += time.monotonic() - start


async def search_sessions(url: str, plan: Plan, found: dict[Side, list[float]]) -> None:
    """Search for the most sessions of each side. For the plain recipe the search starts at the last run's
    result."""
    before = next((row for row in kept(RESULTS) if row["measure"] == "sessions_held"), None)
    for number in range(plan.session_rounds):
        found[OURS].append(await measures.live_held(plan))

        async def test(sessions: int) -> bool:
            held = await measures.holds(PLAIN_RECIPE, url, sessions, plan)
            say(f"{PLAIN_RECIPE.name}: {sessions} sessions: {'held' if held else 'too many'}")
            return held

        known = found[PLAIN_RECIPE][-1] if number else before and before["theirs"]
        first = min(plan.most_sessions, int(known or FIRST_GUESS))
        factor = 1.2 if known else 2
        held = await measures.most_held(test, max(1, first), factor=factor, limit=plan.most_sessions)
        found[PLAIN_RECIPE].append(held)


def result(name: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """One object of the results file."""
    our_median, their_median = statistics.median(ours), statistics.median(theirs)
    measure, ratio = MEASURES[name], float(f"{our_median / their_median:.4g}") if their_median else None
    return {
        "measure": name,
        "rival": measure.rival.name,
        "ours": round(our_median, 3),
        "theirs": round(their_median, 3),
        "ratio": ratio,
        "unit": measure.unit,
        "goal": measure.bound,
        "met": measure.met(our_median, ratio),
        "rounds": len(ours),
        "ours_rounds": [round(value, 3) for value in ours],
        "theirs_rounds": [round(value, 3) for value in theirs],
        "date": today(),
        "machine": machine(),
    }


def table(results: list[dict[str, Any]], *, goals: bool) -> str:
    """The results as text. `goals`: with the goals beside them, for a run long enough to judge by."""
    lines = [f"{'measure':<30}{'ours':>14}{'theirs':>14}{'ratio':>9}  {'unit':<12}{'goal' if goals else ''}"]
    for row in results:
        goal = f"{'met' if row['met'] else 'missed'} ({row['goal']})" if goals and row["goal"] else ""
        lines.append(
            f"{row['measure']:<30}{row['ours']:>14,.1f}{row['theirs']:>14,.1f}"
            f"{row['ratio'] if row['ratio'] is not None else '-':>9}  {row['unit']:<12}{goal}"
        )
    return "\n".join(lines)


def words(found: dict[str, float]) -> str:
    """Figures in one line."""
    return ", ".join(f"{name} {value:,.1f} {MEASURES[name].unit}" for name, value in found.items())


async def main(options: argparse.Namespace) -> None:
    """Run the measures, print the results and write them to the results file."""
    task = asyncio.current_task()
    assert task
    with contextlib.suppress(NotImplementedError):  # Windows; there Ctrl-C alone is caught
        for reason in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(reason, task.cancel)
    pin_load()
    allow_sockets()
    plan = QUICK if options.quick else Plan(rounds=options.rounds, session_rounds=options.session_rounds)
    results = await run(options.measure or list(MEASURES), plan)
    print(table(results, goals=not options.quick))
    if options.out:
        measured = {row["measure"] for row in results}
        results += [row for row in kept(options.out) if row["measure"] not in measured]
        results.sort(key=lambda row: list(MEASURES).index(row["measure"]))
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    if not options.measure:
        with timed("growth"):
            found = await growth.run(growth.QUICK if options.quick else growth.Plan())
        print(growth.table(found))
        if options.out == RESULTS:
            growth.keep(found, growth.RESULTS)
            with timed("report"):
                await report.write()
    spent = sorted(SPENT.items(), key=lambda item: -item[1])
    print("Took " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent))
    print(f"All of it took {sum(SPENT.values()) / 60:.1f} minutes.")


def kept(file: Path) -> list[dict[str, Any]]:
    """The results of earlier runs."""
    return json.loads(file.read_text()) if file.exists() else []


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("measure", nargs="*", help=f"what to measure, all by default: {', '.join(MEASURES)}")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run; keeps no results unless --out says where"
    )
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--session-rounds", type=int, default=Plan.session_rounds)
    parser.add_argument("--out", type=Path, help="the results file, bench/results.json by default")
    found = parser.parse_args()
    if unknown := set(found.measure) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    if not found.out and not found.quick:
        found.out = RESULTS
    return found


if __name__ == "__main__":
    try:
        asyncio.run(main(options()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("stopped")
