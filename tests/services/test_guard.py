"""The guard, with programs that do not end or cannot start."""

import sys
from pathlib import Path

import psutil
import pytest

from services.nats_server.guarded import Guarded
from tests.services.stand_ins import is_alive, wait_for

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a program there cannot ignore its end")
def test_stubborn_program_is_killed_after_its_grace(tmp_path: Path) -> None:
    """A program that ignores SIGTERM is killed after the grace period."""
    output = tmp_path / "out"
    guarded = Guarded([sys.executable, "-c", STUBBORN], cwd=tmp_path, output=output, grace=0.3)
    wait_for(lambda: output.read_text() == "up\n", "a start")
    (program,) = [p for p in psutil.Process().children(recursive=True) if p.cmdline()[1:] == ["-c", STUBBORN]]
    guarded.stop()
    assert not guarded.running
    assert not is_alive(program)


def test_end_of_the_program_ends_its_guard(tmp_path: Path) -> None:
    """A program that has ended by itself is reported as not running, and stopping it is a no-op."""
    guarded = Guarded([sys.executable, "-c", ""], cwd=tmp_path, output=tmp_path / "out", grace=1)
    wait_for(lambda: not guarded.running, "an end")
    guarded.stop()


def test_program_that_cannot_start_is_told_in_the_output(tmp_path: Path) -> None:
    """A program that does not exist ends the guard, and the output says so."""
    output = tmp_path / "out"
    guarded = Guarded([str(tmp_path / "nothing")], cwd=tmp_path, output=output, grace=1)
    wait_for(lambda: not guarded.running, "an end")
    guarded.stop()
    assert "FileNotFoundError" in output.read_text()
