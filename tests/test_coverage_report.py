"""`make coverage`: lines count however a process ends, and each exclusion has a reason."""

import os
import subprocess
import sys
from pathlib import Path

from tests.coverage_report import ROOT, Covered, left_out, measured, report, sources

PARENT = """
import subprocess, sys
from pathlib import Path

for end in ("returns", "exits", "terminates"):
    subprocess.run([sys.executable, str(Path("part/child.py").resolve()), end], cwd="/")
"""
CHILD = """
import os, signal, sys, threading

def work():
    return 1 + 1

def returns():
    return None

def exits():
    os._exit(0)

def terminates():
    os.kill(os.getpid(), signal.SIGTERM)

thread = threading.Thread(target=work)
thread.start()
thread.join()
globals()[sys.argv[1]]()
"""


def test_every_process_counts(tmp_path: Path) -> None:
    """The lines of a child process and its threads count if it returns, exits at once or is terminated,
    wherever it was started."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "part").mkdir()
    child = tmp_path / "part" / "child.py"
    child.write_text(CHILD)
    # Under `make coverage` this process is itself measured, and its environment makes its children so.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    subprocess.run([sys.executable, "-m", "coverage", "run", "parent.py"], cwd=tmp_path, env=env, check=True)
    data = tmp_path / ".coverage" / "data"
    data.with_name("data.killed").write_bytes(b"")
    for _ in range(2):  # the report may be requested again
        found, unreadable = measured(data)
        assert unreadable == 1
        _, statements, _, missing, _ = found.analysis2(str(child))
        assert len(statements) > 10
        assert missing == []


def test_what_is_left_out_has_a_reason() -> None:
    """Every excluded line of the app has a reason."""
    files = sources()
    assert {"app.py", "frame.py", "guard.py"} <= {file.name for file in files}
    for file in files:
        assert all(why for _, why in left_out(file.read_text("utf-8"))), file


def test_report_says_what_and_why() -> None:
    """The report sums up folders, names lines that were not run, and gives the reasons for exclusions."""
    source = "def a():  # pragma: no cover: another system\n    pass\nb = 1  # pragma: no cover\n"
    assert left_out(source) == [(1, "another system"), (3, "")]
    whole = Covered("pages/a.py", 10, "", 0)
    part = Covered("pages/b.py", 30, "3-7, 12", 6, [(9, "another system")])
    lines = report([whole, part, Covered("app.py", 60, "", 0)]).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["pages", "40", "6", "85.0%"],
        ["app.py", "60", "0", "100.0%"],
        ["all", "100", "6", "94.0%"],
    ]
    assert "pages/b.py: 3-7, 12" in lines
    assert "pages/b.py:9: another system" in lines
    assert not [line for line in lines if "pages/a.py" in line]
