"""Node programs with the NATS clients of npm, `tests/node/*.mjs`: other people's clients must work with
ours."""

import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

FOLDER = Path(__file__).parent / "node"
_INSTALL = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]


class Script:
    """A running script."""

    def __init__(self, process: subprocess.Popen[str], errors: Any) -> None:
        self.process = process
        self._errors = errors
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="node's output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, seconds: float = 30) -> str:
        """The next line of its stdout. Raises RuntimeError if there is none within `seconds`, or the script
        has ended."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            line = None
        if line is None:
            self._errors.seek(0)
            state = f"ended with {self.process.poll()}" if self.process.poll() is not None else "is silent"
            raise RuntimeError(f"the script {state}:\n{self._errors.read()}")
        return line

    def write(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def node(script: str, *arguments: str, options: Sequence[str] = ()) -> Iterator[Script]:
    """Run `tests/node/{script}` with `arguments`, and Node with `options`; killed at the end. Installs the
    packages if needed."""
    install()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            ["node", *options, script, *arguments],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        running = Script(process, errors)
        try:
            yield running
        finally:
            running.kill()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()


def install() -> None:
    """Install the packages in package-lock.json, unless they are there already."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise RuntimeError("Tests with other clients need node and npm on PATH: apt-get install nodejs npm.")
    done, wanted = FOLDER / "node_modules" / ".package-lock.json", FOLDER / "package-lock.json"
    with FileLock(FOLDER / ".install.lock"):
        if done.exists() and done.stat().st_mtime >= wanted.stat().st_mtime:
            return
        ended = subprocess.run(_INSTALL, cwd=FOLDER, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"npm ci failed:\n{ended.stderr}")
