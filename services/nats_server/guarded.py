"""The starter's side of guard.py: a child process that ends with this process, however it ends."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
KILL_WAIT = 2.0  # seconds for the kernel to end a killed process


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Guarded:
    """A program running under a guard."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        output: Path,
        grace: float,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start `command` in `cwd`, with the environment `env` or ours. Its output replaces the file
        `output`.

        `grace`: seconds it gets to stop by itself before it is killed. Raises OSError if the output file
        cannot be written. If `command` cannot be started, the output file says so.
        """
        self.started = time.monotonic()
        self._grace = grace
        with open(output, "wb", opener=_privately) as file:
            self._guard = subprocess.Popen(
                # -S and -E: neither site packages nor the environment may slow or break the guard
                [sys.executable, "-S", "-E", str(GUARD), str(grace), *command],
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches the whole group; the app decides when its children stop.
                start_new_session=True,
                umask=0o077,  # its files are readable only by their owner
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    @property
    def pid(self) -> int:
        """The guard's process id. Its only child is the program."""
        return self._guard.pid

    @property
    def running(self) -> bool:
        """True while guard and program run; the guard ends as soon as its program does."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """End the program: terminate it, kill it after its grace. Returns when it is gone."""
        if self._guard.stdin:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
        try:
            self._guard.wait(self._grace + KILL_WAIT)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait(KILL_WAIT)
