"""A short soak: a few random faults, and the report on them.

Slow, because a cluster, an app and its viewers start, and each fault has to settle.
"""

import re
import subprocess
import sys

from tests.running import ROOT


def test_soak() -> None:
    """Nothing is lost or doubled; the first line names the seed, and the last line has the counts."""
    command = [sys.executable, "-m", "tests.soak", "--seed", "3", "--minutes", "0.3"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stdout + run.stderr
    assert lines[0] == "seed 3, 0.3 minutes"
    assert (counts := re.fullmatch(r"lost 0, doubled 0, wrong 0, faults (\d+), restarts \d+", lines[-1]))
    assert int(counts[1]) >= 1
