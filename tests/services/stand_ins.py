"""Stand-ins for the app in separate processes that can be killed, and the processes below them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
LONG = 30.0  # seconds after which something counts as never happening


def wait_for(happens: Callable[[], object], what: str) -> None:
    """Poll until `happens()` is true. Raises AssertionError with `what` if it never is."""
    deadline = time.monotonic() + LONG
    while not happens():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class App:
    """A running stand-in for the app."""

    def __init__(self, data_dir: Path, *origins: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stand_in.py")), *origins],
            env=os.environ | {"LOOKBACK_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """The URL that it prints once it has started or joined a server; empty if that failed."""
        assert self.popen.stdout
        return self.popen.stdout.readline().strip()

    def below(self) -> dict[str, psutil.Process]:
        """Wait for its guards, nats-server, publisher and services, and return them by kind."""
        found: dict[str, psutil.Process] = {}

        def all_there() -> bool:
            found.clear()
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                try:
                    line = process.cmdline()
                except psutil.Error:
                    continue
                kinds = {
                    "services.metrics": "publisher",
                    "services.history": "history",
                    "services.tokens": "tokens",
                    "services.comparison": "comparison",
                }
                kind = next((kinds[word] for word in line if word in kinds), "server")
                found[f"{kind}'s guard" if any(word.endswith("guard.py") for word in line) else kind] = (
                    process
                )
            return len(found) == 10

        wait_for(all_there, "ten processes below the app")
        return found

    def kill(self) -> None:
        self.popen.kill()
        self.close()

    def close(self) -> None:
        """Close its input, so that it ends, and free its pipes."""
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                stream.close()
        self.popen.wait(LONG)
        if self.popen.stderr:
            self.popen.stderr.close()
