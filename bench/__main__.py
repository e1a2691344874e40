"""Measure this app beside its rivals: `python -m bench [measure …] [--quick]`.

Rounds are interleaved, ours and theirs in turn, and the medians compared, so that a busy minute of the
machine meets both. Takes about a quarter of an hour; --quick takes three minutes and is a smoke run, no
measurement.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench import measures, replay, wire
from bench.measures import QUICK, Plan
from bench.stage import AT_REST, NODE, OURS, PLAIN_RECIPE, Side, nats_server, pin_load, ten_series


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    unit: str
    goal: float | None = None
    """The ratio ours/theirs that was set out for."""
    run: Callable[[Side, str, Plan], Awaitable[dict[str, float]]] | None = None
    """What measures it for one side; one run may fill several rows."""
    rival: Side = PLAIN_RECIPE
    ceiling: bool = False
    """Whether a goal of one or more is a ceiling too."""
    pair: Callable[[Plan], Awaitable[dict[str, tuple[float, float]]]] | None = None
    """What measures it for this app and the websocket client at once."""

    def reached(self, ratio: float) -> str:
        """Whether the goal is met, in words. A goal below one is a ceiling, and one that says so."""
        if self.goal is None:
            return ""
        ceiling = self.ceiling or self.goal < 1
        met = ratio <= self.goal if ceiling else ratio >= self.goal
        return f"{'met' if met else 'missed'} ({'at most' if ceiling else 'at least'} {self.goal:g})"

    @property
    def against(self) -> str:
        """What this app is measured against."""
        return "websocket client" if self.pair else self.rival.name


MEASURES = {
    "bytes_per_refresh": Measure("bytes", 0.1, measures.steady),
    "bytes_per_refresh_compressed": Measure("bytes", None, measures.compressed),
    "cpu_per_refresh": Measure("ms", 0.1, measures.steady),
    "refresh_latency_ms": Measure("ms", None, measures.steady),
    "session_memory": Measure("KiB", 0.5, measures.session_memory),  # and a session of ours below a megabyte
    "replay_rate": Measure("messages/s", 10, measures.replay_rate),
    "replay_rate_node": Measure("messages/s", 1, measures.replay_rate_node, NODE),
    "replay_refresh_ms": Measure("ms", 2, measures.replay_refresh, AT_REST, ceiling=True),
    "sessions_held": Measure("sessions", 20),
    "viewer_bytes_10": Measure("bytes/s", 1, pair=wire.viewer_bytes, ceiling=True),
    "viewer_bytes_10_compressed": Measure("bytes/s", 1, pair=wire.viewer_bytes, ceiling=True),
    "viewer_bytes_1000": Measure("bytes/s", 0.01, pair=wire.viewer_bytes),
    "viewer_bytes_1000_compressed": Measure("bytes/s", 0.01, pair=wire.viewer_bytes),
    "open_bytes_6h": Measure("bytes", 0.001, pair=wire.long_look_back),
    "open_seconds_6h": Measure("s", None, pair=wire.long_look_back),
}
SIDES = (PLAIN_RECIPE, OURS)
REPLAYS = {"replay_rate", "replay_rate_node", "replay_refresh_ms"}
"""What needs a long stream."""
FIRST_GUESS = {PLAIN_RECIPE: 6, OURS: 256}
"""Where the search for the most sessions starts; a poor guess costs time, not truth."""


async def run(names: list[str], plan: Plan) -> list[dict[str, object]]:
    """Measure what is named, in interleaved rounds."""
    rounds: dict[str, dict[Side, list[float]]] = defaultdict(lambda: defaultdict(list))
    runners = {m.run: m.rival for n, m in MEASURES.items() if n in names and m.run}
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair in dict.fromkeys(m.pair for n, m in MEASURES.items() if n in names and m.pair):
        for number in range(1 if pair is wire.long_look_back else plan.rounds):
            for name, both in (await pair(plan)).items():
                say(f"round {number + 1}: {name}: {both[0]:,.1f} and {both[1]:,.1f} {MEASURES[name].unit}")
                pairs[name].append(both)
    for name, found in pairs.items():
        rounds[name] = {OURS: [ours for ours, _ in found], PLAIN_RECIPE: [theirs for _, theirs in found]}
    async with nats_server() as url, ten_series(url):
        if REPLAYS & set(names):
            await replay.fill(url, plan.replay)
        for number in range(plan.rounds):
            for runner, rival in runners.items():
                # Who goes first changes from round to round.
                for side in (rival, OURS) if number % 2 else (OURS, rival):
                    found = await runner(side, url, plan)
                    say(f"round {number + 1}: {side.name}: {words(found)}")
                    for name, value in found.items():
                        rounds[name][side].append(value)
        if "sessions_held" in names:
            await search_sessions(url, plan, rounds["sessions_held"])
    return [
        result(name, rounds[name][OURS], rounds[name][MEASURES[name].rival])
        for name in MEASURES
        if name in names
    ]


async def search_sessions(url: str, plan: Plan, found: dict[Side, list[float]]) -> None:
    """Search the most sessions of each side, first from a guess, then again around what was found."""
    for number in range(plan.session_rounds):
        for side in SIDES:

            async def test(sessions: int, side: Side = side) -> bool:
                held = await measures.holds(side, url, sessions, plan)
                say(f"{side.name}: {sessions} sessions: {'held' if held else 'too many'}")
                return held

            first = min(plan.most_sessions, int(found[side][-1]) if number else FIRST_GUESS[side])
            factor = 1.2 if number else 2
            held = await measures.most_held(test, max(1, first), factor=factor, limit=plan.most_sessions)
            found[side].append(held)


def result(name: str, ours: list[float], theirs: list[float]) -> dict[str, object]:
    """One object of the results file."""
    our_median, their_median = statistics.median(ours), statistics.median(theirs)
    return {
        "measure": name,
        "rival": MEASURES[name].against,
        "ours": round(our_median, 3),
        "theirs": round(their_median, 3),
        "ratio": round(our_median / their_median, 4) if their_median else None,
        "unit": MEASURES[name].unit,
        "rounds": len(ours),
        "ours_rounds": [round(value, 3) for value in ours],
        "theirs_rounds": [round(value, 3) for value in theirs],
    }


def table(results: list[dict[str, object]], *, goals: bool) -> str:
    """The results as text, with the goals beside them if the run was long enough to judge by."""
    lines = [
        f"{'measure':<30}{'ours':>12}{'theirs':>12}{'ratio':>9}  "
        f"{'unit':<12}{'goal for the ratio' if goals else ''}"
    ]
    for row in results:
        measure, ratio = MEASURES[row["measure"]], row["ratio"]
        goal = measure.reached(ratio) if goals and ratio is not None else ""
        lines.append(
            f"{row['measure']:<30}{row['ours']:>12,.1f}{row['theirs']:>12,.1f}"
            f"{ratio if ratio is not None else '-':>9}  {row['unit']:<12}{goal}"
        )
    return "\n".join(lines)


def words(found: dict[str, float]) -> str:
    """Figures in one line."""
    return ", ".join(f"{name} {value:,.1f} {MEASURES[name].unit}" for name, value in found.items())


def say(text: str) -> None:
    """Tell how far it is, apart from the table."""
    print(text, file=sys.stderr, flush=True)


async def main(options: argparse.Namespace) -> None:
    """Run, print, keep."""
    task = asyncio.current_task()
    with contextlib.suppress(NotImplementedError):  # Windows; there Ctrl-C alone is caught
        for reason in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(reason, task.cancel)
    pin_load()
    plan = QUICK if options.quick else Plan(rounds=options.rounds, session_rounds=options.session_rounds)
    results = await run(options.measure or list(MEASURES), plan)
    print(table(results, goals=not options.quick))
    if options.out:
        measured = {row["measure"] for row in results}
        before = json.loads(options.out.read_text()) if options.out.exists() else []
        results += [row for row in before if row["measure"] not in measured]
        results.sort(key=lambda row: list(MEASURES).index(row["measure"]))
        options.out.write_text(json.dumps(results, indent=2) + "\n")


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
        found.out = Path(__file__).parent / "results.json"
    return found


if __name__ == "__main__":
    try:
        asyncio.run(main(options()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("stopped")
