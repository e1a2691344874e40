"""Several processes of the app behind nginx, on a JetStream cluster of three, all on loopback.

    python -m deploy.scale [--apps 3] [--port 8080]

Starts three nats-servers, the publisher of this machine's figures into a stream with three replicas, the
processes of the app, and nginx with sticky sessions. Prints where each listens. A process that ends or is
killed is restarted ten seconds later. Ctrl-C ends everything; no data is kept. There is no login between the
parts: anyone with an account on this machine can read the streams.
"""

import argparse
import contextlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from services.nats_server.guarded import Guarded
from services.nats_server.server import find_binary

ROOT = Path(__file__).parent.parent
RECIPES = Path(__file__).parent / "nginx"
HOST = "127.0.0.1"
NODES = 3
START_TIMEOUT = 60.0  # seconds
RESTART_PAUSE = 10.0  # seconds, so that a failure can be seen
GRACE = 5.0  # seconds
CHECK_EVERY = 0.5  # seconds

NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {recipes}/lookback.conf;
{upstreams}
    server {{
        listen {host}:{port};
        include {recipes}/proxy.conf;
    }}
}}
"""


class Part:
    """A program that is restarted when it has ended."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        where: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; its output goes into `folder`. `where` is the address that is printed."""
        self.name = name
        self.where = where
        self._command, self._folder, self._env = command, folder, env
        self._start()

    def _start(self) -> None:
        self._ended: float | None = None
        output = self._folder / f"{self.name.replace(' ', '-')}.log"
        self._guarded = Guarded(self._command, cwd=ROOT, output=output, grace=GRACE, env=self._env)

    def tend(self) -> None:
        """Restart it RESTART_PAUSE seconds after it has ended."""
        if self._guarded.running:
            return
        now = time.monotonic()
        if self._ended is None:
            self._ended = now
            say(f"{self.name:<8} ended; restart in {RESTART_PAUSE:g} s")
        elif now > self._ended + RESTART_PAUSE:
            self._start()
            self.report()

    def report(self) -> None:
        """Print its name, address and process."""
        program: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):  # ended at once
            while self._guarded.running and not (program := psutil.Process(self._guarded.pid).children()):
                time.sleep(0.02)
        say(f"{self.name:<8} {self.where:<24} process {program[0].pid if program else 'ended'}")

    def stop(self) -> None:
        """End it."""
        self._guarded.stop()


def nginx_config(folder: Path, port: int, apps: Sequence[int]) -> str:
    """nginx.conf for processes of the app at the ports `apps`, with its files in `folder`."""
    blocks = [_upstream("lookback", [f"{HOST}:{app}" for app in apps], [])]
    for app in apps:
        others = [f"{HOST}:{other}" for other in apps if other != app]
        blocks.append(_upstream(f"lookback_{apps.index(app) + 1}", [f"{HOST}:{app}"], others))
    numbers = range(1, len(apps) + 1)
    blocks.append(
        _map("$cookie_lookback $lookback_app", [(n, f"lookback_{n}") for n in numbers], "default lookback;")
    )
    answers = [(f'"~:{app}$"', n) for n, app in zip(numbers, apps, strict=True)]
    blocks.append(_map("$upstream_addr $lookback_answered", answers))
    # If root starts nginx, its workers run as another user by default, who cannot read this folder.
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    return NGINX.format(
        folder=folder, recipes=RECIPES, user=user, upstreams="\n".join(blocks), host=HOST, port=port
    )


def _upstream(name: str, servers: Iterable[str], backups: Iterable[str]) -> str:
    lines = [
        f"zone {name} 64k;",
        "least_conn;",
        *(f"server {server} max_fails=1 fail_timeout=5s;" for server in servers),
        *(f"server {server} backup;" for server in backups),
    ]
    return f"upstream {name} {{ {' '.join(lines)} }}"


def _map(variables: str, pairs: Iterable[tuple[object, object]], default: str = "") -> str:
    return f"map {variables} {{ {' '.join(f'{key} {value};' for key, value in pairs)} {default} }}"


def nats_config(folder: Path, name: str, client: int, route: int, routes: Sequence[int]) -> str:
    """The configuration of one node of the cluster."""
    others = ", ".join(f'"nats://{HOST}:{port}"' for port in routes)
    return (
        f'server_name: {name}\nlisten: "{HOST}:{client}"\njetstream {{ store_dir: "{folder}" }}\n'
        f'cluster {{ name: lookback, listen: "{HOST}:{route}", routes: [{others}], no_advertise: true }}\n'
    )


def start(folder: Path, port: int, count: int, parts: list[Part]) -> None:
    """Start all parts and add them to `parts`; their output and data go into `folder`. Raises OSError,
    ServerError, and SystemExit if one does not start."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        sys.exit("nginx was not found. Install the package nginx-light or nginx.")
    binary = find_binary()
    clients, routes, apps = _free_ports(NODES), _free_ports(NODES), _free_ports(count)
    for n, (client, route) in enumerate(zip(clients, routes, strict=True), 1):
        store = folder / f"nats-{n}"
        store.mkdir()
        config = store / "nats.conf"
        config.write_text(nats_config(store, f"nats-{n}", client, route, routes))
        parts.append(Part(f"nats {n}", [binary, "-c", str(config)], folder, f"nats://{HOST}:{client}"))
    # NATS_CREDS and other NATS_ variables are for another NATS server.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("NATS_")}
    urls = ",".join(f"nats://{HOST}:{client}" for client in clients)
    metrics = [sys.executable, "-m", "services.metrics", urls, "--replicas", str(NODES)]
    parts.append(Part("metrics", metrics, folder, env=clean))
    shared = {
        **clean,
        "NATS_URL": urls,
        "LOOKBACK_RELOAD": "0",
        "STREAMLIT_SERVER_HEADLESS": "true",
        # Each process must accept the cookies that another one has signed.
        "STREAMLIT_SERVER_COOKIE_SECRET": secrets.token_urlsafe(32),
    }
    for n, app in enumerate(apps, 1):
        env = {**shared, "STREAMLIT_SERVER_PORT": str(app)}
        command = [sys.executable, "-m", "streamlit", "run", "app.py"]
        parts.append(Part(f"app {n}", command, folder, f"http://{HOST}:{app}", env))
    config = folder / "nginx.conf"
    config.write_text(nginx_config(folder, port, apps))
    proxy = [nginx, "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx-error.log")]
    parts.append(Part("nginx", proxy, folder, f"http://{HOST}:{port}"))
    for part in parts:
        part.report()
    for app in apps:
        _wait_for(app, folder)
    _wait_for(port, folder)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not _is_healthy(port):
        if time.monotonic() > deadline:
            logs = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
            sys.exit(f"http://{HOST}:{port} did not answer within {START_TIMEOUT:g} s.\n{logs}")
        time.sleep(0.1)


def _is_healthy(port: int) -> bool:
    # not urllib: it would go through the environment's proxy
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def main() -> None:
    """Start everything, and run until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--apps", type=int, default=3, help="processes of the app")
    parser.add_argument("--port", type=int, default=8080, help="where nginx listens, on loopback")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="lookback-scale-") as name,
    ):
        parts: list[Part] = []
        try:
            start(Path(name), options.port, options.apps, parts)
            say(f"open     http://{HOST}:{options.port}")
            while True:
                time.sleep(CHECK_EVERY)
                for part in parts:
                    part.tend()
        finally:
            for part in reversed(parts):
                part.stop()


if __name__ == "__main__":
    main()
