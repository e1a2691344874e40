"""`make test` reports the tests that it repeats, and fails for every failure that is not a failed test.

Slow, because each run is several Python processes.
"""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG, SLOW
from tests.coverage_report import measured
from tests.running import ROOT
from tests.waiting import until

ONCE = """
import os, pathlib, signal, time
def first():
    mark = pathlib.Path("mark")
    return not mark.exists() and not mark.touch()
"""
GOOD = "def test_good(): pass\n"
WORKERS = ["-p", "xdist.plugin", "-n", "2", "--dist", "loadfile"]


def start(folder: Path, source: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m tests` on a file with this source and a file with a test that passes."""
    (folder / "test_it.py").write_text(ONCE + source)
    (folder / "test_other.py").write_text(GOOD)
    (folder / "pytest.ini").write_text("[pytest]\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests", *arguments],
        cwd=folder,
        # In each of a run's processes, loading the plugins would take longer than everything else
        env={**env, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # In a background job these tests ignore SIGINT, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder: Path, source: str, *arguments: str) -> tuple[int, str]:
    """Run `python -m tests` on this source. Returns its exit code and its output."""
    process = start(folder, source, *arguments)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def test_all_pass(tmp_path: Path) -> None:
    """A run without a failure passes, and repeats nothing."""
    code, out = run(tmp_path, GOOD, *WORKERS)
    assert code == 0, out
    assert "again" not in out


def test_passes_when_repeated(tmp_path: Path) -> None:
    """A test that fails once is run again by itself, and named and counted at the end."""
    code, out = run(tmp_path, "def test_wobbles(): assert not first()\n" + GOOD, *WORKERS)
    assert code == 0, out
    end = out.rpartition("PASSED when run again: 1")[2]
    assert "test_it.py::test_wobbles" in end
    assert "test_good" not in end


@pytest.mark.parametrize(
    "source",
    [
        "def test_fails(): assert False\n",
        "def test_wobbles(): assert not first()\ndef test_fails(): assert False\n",
        "import pytest\n@pytest.fixture\ndef bad():\n    yield\n    assert False\ndef test_fails(bad): 0\n",
    ],
    ids=["alone", "beside one that wobbles", "in its teardown"],
)
def test_fails_twice(tmp_path: Path, source: str) -> None:
    """A test that fails twice fails the run."""
    code, out = run(tmp_path, source, *WORKERS)
    assert code == pytest.ExitCode.TESTS_FAILED, out
    assert "test_it.py::test_fails" in out.rpartition("NOT ALL PASSED when run again: ")[2]


def test_fails_in_two_of_ten_runs(tmp_path: Path) -> None:
    """A test that passes when repeated still fails the run if it failed in another of the last ten runs, but
    not after ten runs in which it passed. Runs of other tests are counted separately."""

    def wobbles() -> tuple[int, str]:
        (tmp_path / "mark").unlink(missing_ok=True)
        return run(tmp_path, "def test_wobbles(): assert not first()\n")

    memory = tmp_path / ".pytest_cache" / "failed_in_last_runs.json"
    assert wobbles()[0] == 0
    of_all = json.loads(memory.read_text())
    memory.write_text(json.dumps({**of_all, "-k another": [[]] * 10}))
    assert run(tmp_path, GOOD)[0] == 0
    code, out = wobbles()
    assert code == pytest.ExitCode.TESTS_FAILED, out
    assert "test_it.py::test_wobbles" in out.rpartition("Failed in two or more of the last 10 runs")[2]
    (selection,) = of_all
    memory.write_text(json.dumps({selection: [["test_it.py::test_wobbles"], *[[]] * 9]}))
    assert wobbles()[0] == 0


@pytest.mark.parametrize("workers", [WORKERS, []], ids=["workers", "alone"])
@pytest.mark.parametrize(
    "source",
    [
        "if first(): raise RuntimeError\n" + GOOD,
        "def test_kills():\n    if first(): os.kill(os.getpid(), signal.SIGKILL)\n",
        "def test_ends():\n    if first(): os._exit(1)\n",
        "import pytest\ndef test_ends():\n    if first(): pytest.exit('enough')\n",
    ],
    ids=["collection error", "killed", "exit", "pytest.exit"],
)
def test_what_is_no_failed_test_is_not_repeated(tmp_path: Path, source: str, workers: list[str]) -> None:
    """A run fails without a repeat if a file cannot be collected, or if its process or a worker ends."""
    code, out = run(tmp_path, source, *workers)
    assert code != 0, out
    assert "Running again" not in out


def test_no_tests(tmp_path: Path) -> None:
    """A run without tests fails."""
    code, out = run(tmp_path, "", *WORKERS, "-k", "nothing")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED, out


def test_internal_error(tmp_path: Path) -> None:
    """An internal error of pytest fails the run."""
    (tmp_path / "conftest.py").write_text("def pytest_runtest_protocol(item):\n    raise RuntimeError\n")
    code, out = run(tmp_path, GOOD)
    assert code == pytest.ExitCode.INTERNAL_ERROR, out


@pytest.mark.parametrize("workers", [WORKERS, []], ids=["workers", "alone"])
def test_interrupted(tmp_path: Path, workers: list[str]) -> None:
    """An interrupted run fails and repeats nothing, even if a test had failed before."""
    source = (
        "def test_fails(): assert not first()\n"
        "def test_long():\n    pathlib.Path('long').touch()\n    time.sleep(300)\n"
    )
    process = start(tmp_path, source, *workers)
    try:
        until((tmp_path / "long").exists, 60)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, out
    assert "Running again" not in out


def test_many_failures_are_not_repeated(tmp_path: Path) -> None:
    """If more tests fail than load explains, none is repeated."""
    source = "import pytest\n@pytest.mark.parametrize('i', range(31))\ndef test_fails(i): assert False\n"
    code, out = run(tmp_path, source, *WORKERS)
    assert code == pytest.ExitCode.TESTS_FAILED, out
    assert "Not repeated: 31 tests failed" in out


@pytest.mark.parametrize("target", ["test", "test-all"])
def test_make_uses_it(target: str) -> None:
    """`make test` and `make test-all` repeat failed tests in no other way."""
    output = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True).stdout
    assert "-m tests " in output
    assert "||" not in output
    assert "last-failed" not in output


def test_all_are_run_before_a_change_lands() -> None:
    """`make test` leaves out only tests marked slow; `make test-all` and the CI leave out nothing."""
    commands = {
        target: subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True).stdout
        for target in ("test", "test-all")
    }
    assert commands["test"].replace(' -m "not slow"', "").replace("-n 6", "-n 4") == commands["test-all"]
    assert "make test-all" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_slow_files_say_why() -> None:
    """The docstring of each file that takes long gives the reason."""
    for name in (*SLOW, *LONG):
        said = ast.get_docstring(ast.parse((ROOT / "tests" / name).read_text()))
        assert said is not None, name
        assert "Slow, because" in said, name


def test_one_test_in_a_browser_is_left() -> None:
    """Of a file with browser tests, `make test` runs the first one, and all tests without a browser."""
    options = ["-m", "not slow", "--collect-only", "-q"]
    names = ["tests/app/test_clock.py", "tests/app/test_leaks.py"]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", *options, *names]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert "test_clock.py::test_choosing\n" in out
    assert "test_clock.py::test_all_reads_obey" in out
    assert "test_clock.py::test_viewers_at_different_times" not in out
    assert "test_leaks.py" not in out


def test_a_worker_that_ends_late_is_measured(tmp_path: Path) -> None:
    """A worker's coverage counts even if the worker takes so long to end that pytest-xdist kills it."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "part.py").write_text("def work():\n    return 1\n")
    (tmp_path / "test_it.py").write_text(
        "import atexit, time\nfrom part import work\n"
        "def test_it():\n    atexit.register(time.sleep, 600)\n    assert work()\n"
    )
    # Under `make coverage` this process is itself measured, and its environment makes its children so.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-p", "tests.conftest", "-n", "1"]
    subprocess.run(
        [*command, "test_it.py"], cwd=tmp_path, env=env | {"PYTHONPATH": str(ROOT)}, check=True, timeout=120
    )
    found, _ = measured(tmp_path / ".coverage" / "data")
    _, statements, _, missing, _ = found.analysis2(str(tmp_path / "part.py"))
    assert (statements, missing) == ([1, 2], [])
