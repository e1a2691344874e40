"""A disk that fills up under the embedded server.

Slow, because a disk is filled, and its server has to recover.
"""

import subprocess
import sys

from tests.running import ROOT


def test_full_disk() -> None:
    """Pages say that nothing is stored and why, and new figures appear once there is room again. The check is
    in tests/full_disk.py."""
    ran = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-m", "tests.full_disk"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout
