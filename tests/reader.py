"""A feed in its own process, which can be put to sleep or run with a wrong clock.

`python -m tests.reader URL STREAM LOOK_BACK SECONDS` connects as if its machine's clock were SECONDS ahead.
It opens a feed when it reads a line, and prints its state as a line of JSON five times a second.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Reader:
    """Runs one such process, and keeps its output."""

    def __init__(
        self, url: str, stream: str, look_back: str, ahead: float = 0, *, opens: bool = True
    ) -> None:
        """With `opens`, the feed is opened as soon as the process is connected; otherwise by open()."""
        command = [sys.executable, "-m", "tests.reader", url, stream, look_back, str(ahead)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.states: list[dict[str, Any]] = [{"phase": "", "seqs": [], "restarts": 0}]
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        if opens:
            self.open()

    def open(self) -> None:
        """Make the process open its feed."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.states.append(json.loads(line))

    @property
    def now(self) -> dict[str, Any]:
        """The newest state: phase ("connected" before there is a feed), restarts, and the stream sequences of
        its rows. The rows are at least as new as the phase."""
        return self.states[-1]


def main() -> None:
    """Print the feed's state until killed."""
    url, stream, look_back, ahead = sys.argv[1:]
    shift = float(ahead)
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + shift
    time.time_ns = lambda: real_ns() + int(shift * 1e9)

    from nats_client import Client, Settings  # imported after the clock was changed

    with Client(Settings(url=url)) as client:
        client.wait(30)
        print(json.dumps({"phase": "connected", "restarts": 0, "seqs": []}), flush=True)
        sys.stdin.readline()
        feed = client.feed(stream, look_back=look_back)
        while True:
            health, seqs = feed.health, feed.snapshot().seq.tolist()
            state = {"phase": health.phase, "restarts": health.restarts, "seqs": seqs, "why": str(health.why)}
            print(json.dumps(state), flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
