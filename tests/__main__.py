"""All tests, as `make test` runs them: `python -m tests`, with pytest's own arguments.

A test that fails beside other tests on a busy machine is run again by itself. The last lines of the output
name and count such tests. A test that failed in two of the last ten runs of this checkout fails the run, even
if it passes when run again. Only failed tests are repeated. A run fails without a repeat if it was
interrupted, lost a worker, could not collect a file, met an internal error of pytest or had no tests.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

MOST_REPEATED = 30
"""The most tests that are run again. If more fail, load is not the cause."""

RUNS = 10
"""The number of runs that are remembered of each selection of tests, so that runs of one file do not replace
those of all tests."""
MEMORY = Path(".pytest_cache/failed_in_last_runs.json")
"""By the arguments of pytest, the tests that failed in each of the last runs, the newest at the end. Remove
the file when the tests are fixed."""


class Record:
    """A pytest plugin: records what failed, and whether it can be repeated."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        """Node ids, in the order in which they failed."""
        self.lasting: list[str] = []
        """Failures that are not failed tests, such as a lost worker."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a failed test, including a failure in its setup or teardown."""
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that could not be collected."""
        if report.failed:
            self.lasting.append(f"{report.nodeid} could not be collected")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """Record a worker of pytest-xdist that ended while it was running tests."""
        if error:
            self.lasting.append(f"a worker was lost: {error}")


def main(arguments: list[str]) -> int:
    """Run pytest with `arguments`, and then the failed tests once more. Returns the exit code."""
    record = Record()
    code = int(pytest.main(arguments, plugins=[record]))
    often = _failing_often(" ".join(arguments), record.failed)
    if code != pytest.ExitCode.TESTS_FAILED:
        return code
    for what in record.lasting:
        print(f"Not repeated: {what}.", flush=True)
    if record.lasting or not record.failed:
        return code
    if len(record.failed) > MOST_REPEATED:
        print(f"Not repeated: {len(record.failed)} tests failed, more than {MOST_REPEATED}.", flush=True)
        return code
    print(f"\nRunning again, by itself, what failed: {len(record.failed)}.", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", *record.failed]).returncode
    outcome = (
        "Failed at first, PASSED when run again"
        if again == 0
        else "Failed, and NOT ALL PASSED when run again"
    )
    print(f"\n{'!' * 80}\n{outcome}: {len(record.failed)}", flush=True)
    for name in record.failed:
        print(f"  {name}", flush=True)
    print("!" * 80, flush=True)
    if often and again == 0:
        print(f"Failed in two or more of the last {RUNS} runs, see {MEMORY}:", flush=True)
        print("".join(f"  {name}\n" for name in often), end="", flush=True)
        return int(pytest.ExitCode.TESTS_FAILED)
    return again


def _failing_often(selection: str, failed: list[str]) -> list[str]:
    """Record this run's failed tests. Returns those that also failed in another one of the last runs."""
    runs: dict[str, list[list[str]]] = json.loads(MEMORY.read_text()) if MEMORY.exists() else {}
    runs[selection] = [*runs.get(selection, []), failed][-RUNS:]
    MEMORY.parent.mkdir(exist_ok=True)
    MEMORY.write_text(json.dumps(runs))
    counts = Counter(name for last in runs.values() for run in last for name in set(run))
    return [name for name in failed if counts[name] > 1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
