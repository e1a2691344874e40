"""The whole app in its own process, for tests and screenshots."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_own_port = 0


def own_port() -> int:
    """The same port for one app after another, so that a browser need not compile the app again; another port
    while that one is taken."""
    global _own_port
    if _own_port:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", _own_port))
            except OSError:
                return free_port()
    else:
        _own_port = free_port()
    return _own_port


apps: list["App"] = []
"""The apps that are running."""
before_end: list[Callable[["App"], None]] = []
"""Called with each app at the end of its block, while it still runs."""


class App:
    """A running `streamlit run app.py`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log


@contextmanager
def app(folder: Path, root: Path = ROOT, /, **env: str) -> Iterator[App]:
    """Start the app of `root`, with its data in `folder`, in a clean environment plus `env`. It ends as with
    Ctrl-C."""
    port = env.get("STREAMLIT_SERVER_PORT") or str(own_port())
    log = folder / "app.log"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "LOOKBACK_", "STREAMLIT_"))}
    settings = {
        "LOOKBACK_DATA_DIR": str(folder / "data"),
        "STREAMLIT_SERVER_PORT": port,
        "STREAMLIT_SERVER_HEADLESS": "true",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py"],
            cwd=root,
            env={**clean, **settings, **env},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    scheme = "https" if "STREAMLIT_SERVER_SSL_CERT_FILE" in env else "http"
    url = f"{scheme}://127.0.0.1:{port}/{env.get('STREAMLIT_SERVER_BASE_URL_PATH', '')}".rstrip("/")
    try:
        _wait_for(url, process, log)
        running = App(process, url, log)
        apps.append(running)
        try:
            yield running
            for look in before_end:
                look(running)
        finally:
            apps.remove(running)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the app ended at once:\n{log.read_text()}")
        try:
            # No known CA has signed a test's own certificate.
            unchecked = ssl._create_unverified_context() if url.startswith("https") else None
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1, context=unchecked):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the app did not come up:\n{log.read_text()}")
