"""The environment of both sides: a real nats-server, a publisher of ten series, and a Streamlit server each.

Everything listens on loopback, on free ports, and ends with the benchmark, however that ends.
"""

import asyncio
import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import psutil
from nats.aio.client import Client
from nats.js.client import JetStreamContext

ROOT = Path(__file__).resolve().parent.parent
SERIES = 10
EPOCH = time.time() // 86400 * 86400
"""The origin of publishing times that are drawn as values, in seconds: the beginning of this day, UTC."""
HISTORY = timedelta(minutes=5)

SERVER_CONFIG = """
listen: "127.0.0.1:-1"
ports_file_dir: "{folder}"
jetstream {{ store_dir: "{folder}/store", max_mem: 512M, max_file: 4G }}
websocket {{ listen: "127.0.0.1:-1", no_tls: true, compression: {compression} }}
"""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the programs that are compared, and how it is started."""

    name: str
    script: Path
    folder: Path
    environment: dict[str, str]


OURS = Side(
    "ours", ROOT / "app.py", ROOT, {"LOOKBACK_PAGES": str(ROOT / "bench" / "pages"), "LOOKBACK_BUILT_IN": "0"}
)
# Its own folder is the working directory: it runs with Streamlit's defaults, not with our config.toml.
PLAIN_RECIPE = Side(
    "plain recipe", ROOT / "bench/plain_recipe/app.py", ROOT / "bench/plain_recipe", environment={}
)

NODE = Side("node client", ROOT / "tests/node/replay.mjs", ROOT / "tests/node", environment={})
CLIENT_PAGE = ROOT / "bench" / "websocket_client"
WEBSOCKET_CLIENT = Side("websocket client", CLIENT_PAGE / "page.js", CLIENT_PAGE, environment={})
PUBLISHER = Side("publisher", ROOT / "bench/burst.py", ROOT, environment={})
PANDAS = Side("pandas", ROOT / "bench/sql_refresh.py", ROOT, environment={})
AT_REST = Side("at rest", OURS.script, OURS.folder, OURS.environment)
UNFILTERED = Side("all rows", OURS.script, OURS.folder, OURS.environment)


# -- processes ----------------------------------------------------------------------------------------------


def end_with_parent() -> None:
    """Ask Linux to end this child when the benchmark is killed; elsewhere `running` alone cleans up."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


@contextlib.contextmanager
def running(
    command: list[str], *, log: Path, cores: set[int] | None = None, **options: object
) -> Iterator[psutil.Popen]:
    """Run a program for the length of the block, with its output in `log`."""
    with log.open("wb") as words:
        process = psutil.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its children in order
            preexec_fn=end_with_parent,
            **options,
        )
    if cores and hasattr(process, "cpu_affinity"):
        process.cpu_affinity(sorted(cores))
    try:
        yield process
    finally:
        family = [process, *descendants(process)]
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        _, alive = psutil.wait_procs(family, timeout=5)
        for left in alive:
            left.kill()
        psutil.wait_procs(alive, timeout=5)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """The programs that a program has started; none if it has ended."""
    try:
        started: list[psutil.Process] = process.children(recursive=True)
        return started
    except psutil.NoSuchProcess:
        return []


def split_cores() -> tuple[set[int], set[int]]:
    """Cores of the app, and cores of the load: the viewers, the publisher and the nats-server.

    The load gets the last core, the app all others. Otherwise the viewers would take time from the server
    that they measure, and more of it on the side with more viewers. If there is only one core, or the system
    cannot pin, both sets are empty and all processes share the cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (set(cores[:-1]), {cores[-1]}) if len(cores) > 1 else (set(), set())


APP_CORES, LOAD_CORES = split_cores()


def pin_load() -> None:
    """Move this process, and the processes that it starts from now on, to the cores of the load."""
    if LOAD_CORES:
        os.sched_setaffinity(0, LOAD_CORES)


def allow_sockets() -> None:
    """Raise the limit of open files: a live viewer takes two, and there may be thousands."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def python(module: str, *arguments: str) -> str:
    """Run one of the benchmark's modules to its end on the app's cores; returns its output."""
    return await finished([sys.executable, "-m", module, *arguments], ROOT)


async def finished(command: list[str], cwd: Path, patience: float = 180) -> str:
    """Run a program to its end on the app's cores; returns its output.

    Raises RuntimeError if it fails, or has not ended after `patience` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as folder:
        log = Path(folder) / "output.log"
        with running(command, log=log, cores=APP_CORES, cwd=cwd) as process:
            await until(lambda: process.poll() is not None, patience, lambda: f"{command} is not ready")
            if process.returncode:
                raise RuntimeError(f"{command} failed:\n{log.read_text()}")
        return log.read_text()


# -- NATS ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def nats_server() -> AsyncIterator[str]:
    """Run a nats-server with JetStream in a temporary folder; yields its URL."""
    async with nats_servers() as addresses:
        yield addresses["nats"]


@contextlib.asynccontextmanager
async def nats_servers(*, compression: bool = False) -> AsyncIterator[dict[str, str]]:
    """Run a nats-server as nats_server() does; yields its URLs by protocol, "nats" and "websocket".

    `compression` is that of its websocket.
    """
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as name:
        folder = Path(name)
        config = folder / "nats.conf"
        config.write_text(SERVER_CONFIG.format(folder=folder, compression=str(compression).lower()))
        log = folder / "nats.log"
        with running([str(binary), "-c", str(config)], log=log) as process:
            ports = folder / f"nats-server_{process.pid}.ports"
            await until(ports.exists, 10, lambda: f"nats-server did not start:\n{log.read_text()}")
            # The file exists a moment before it is written.
            await until(lambda: ports.read_text().endswith("}"), 5, lambda: "empty ports file")
            yield {protocol: urls[0] for protocol, urls in json.loads(ports.read_text()).items() if urls}


def sample_at(series: int, seconds: float) -> bytes:
    """One message of about 80 bytes: a slow wave per series with a ripple of its own."""
    value = 20 + series + 5 * math.sin(seconds / 30 + series) + math.sin(seconds * 7.3 * (series + 1))
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return f'{{"t": "{at}", "value": {round(value, 6)}, "unit": "C"}}'.encode()


def clock_at(series: int, seconds: float, sent: float | None = None) -> bytes:
    """One message whose value is the time of its publishing, in seconds since EPOCH.

    `seconds` is the row's own time, in seconds since 1970. `sent` is the time of publishing, if it differs.
    """
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return (
        f'{{"t": "{at}", "sent": {(sent or seconds) - EPOCH:.4f}, "unit": "s", "series": {series}}}'.encode()
    )


@dataclass
class Pace:
    """The messages a second of each series."""

    hertz: int = 1


@contextlib.asynccontextmanager
async def ten_series(url: str) -> AsyncIterator[Pace]:
    """Fill the stream BENCH with five minutes of history at 1 Hz, then publish each series once a second.

    Yields the pace, which may be changed meanwhile.
    """
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name="BENCH", subjects=["bench.>"], max_age=3600)
    start = datetime.now(UTC).replace(microsecond=0)
    for ago in range(int(HISTORY.total_seconds()), 0, -1):
        await publish_second(jetstream, start - timedelta(seconds=ago))
    pace = Pace()
    live = asyncio.create_task(publish_live(connection, start, pace))
    try:
        yield pace
    finally:
        live.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await live
        await connection.close()


async def publish_second(jetstream: JetStreamContext, at: datetime) -> None:
    """Publish one message of each series, and wait until all are stored."""
    await asyncio.gather(
        *(jetstream.publish(f"bench.s{n}", sample_at(n, at.timestamp())) for n in range(SERIES))
    )


async def publish_live(connection: Client, start: datetime, pace: Pace) -> None:
    """Publish from `start` on. At more than 1 Hz it does not wait for the server's acknowledgements."""
    at = start
    while True:
        await asyncio.sleep((at - datetime.now(UTC)).total_seconds())
        if pace.hertz == 1:
            await publish_second(connection.jetstream(), at)
        else:
            for n in range(SERIES):
                await connection.publish(f"bench.s{n}", sample_at(n, at.timestamp()))
        at += timedelta(seconds=1 / pace.hertz)


# -- Streamlit ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class App:
    """A Streamlit server that answers."""

    port: int
    process: psutil.Popen
    log: Path

    @property
    def url(self) -> str:
        """The address for a browser."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its threads and of the programs that it started."""
        return sum(map(cpu_seconds, [self.process, *descendants(self.process)]))

    def memory(self) -> int:
        """Resident bytes, including those of the programs that it started."""
        family = [self.process, *descendants(self.process)]
        return sum(process.memory_info().rss for process in family)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process so far, in seconds: to the nanosecond on Linux, elsewhere to the
    hundredth of a second, as psutil returns it."""
    if sys.platform == "linux":
        scheduler = 2
        with contextlib.suppress(OSError):
            return time.clock_gettime(~process.pid << 3 | scheduler)  # clock_getcpuclockid(3)
    return float(sum(process.cpu_times()[:2]))


@contextlib.asynccontextmanager
async def streamlit(
    side: Side, nats_url: str, *, compress: bool = False, settings: Sequence[str] = ()
) -> AsyncIterator[App]:
    """Run one side's app in a fresh process, which has no state from earlier measurements."""
    with tempfile.TemporaryDirectory(prefix="lookback-bench-") as home:
        port, log = free_port(), Path(home) / "streamlit.log"
        command = [sys.executable, "-m", "streamlit", "run", str(side.script)]
        command += ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.headless", "true"]
        command += ["--browser.gatherUsageStats", "false"]
        command += settings
        if compress:
            command += ["--server.enableWebsocketCompression", "true"]
        environment = os.environ | {"HOME": home, "NATS_URL": nats_url} | side.environment
        with running(command, log=log, cores=APP_CORES, cwd=side.folder, env=environment) as process:
            app = App(port, process, log)
            await until(
                lambda: process.poll() is None and answers(f"{app.url}/_stcore/health"),
                30,
                lambda: f"{side.name} did not start:\n{log.read_text()}",
            )
            yield app


@dataclass
class Counter:
    """Bytes that went through a port: `down` to its clients, `up` from them."""

    port: int
    down: int = 0
    up: int = 0


@contextlib.asynccontextmanager
async def counted(port: int) -> AsyncIterator[Counter]:
    """Open another port that forwards to `port` and counts the bytes that TCP carries."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        ways = [carry(reader, there[1], "up"), carry(there[0], writer, "down")]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(*ways)

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        try:
            while data := await source.read(1 << 18):
                setattr(counter, way, getattr(counter, way) + len(data))
                target.write(data)
                await target.drain()
        finally:
            target.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    counter = Counter(server.sockets[0].getsockname()[1])
    try:
        yield counter
    finally:
        server.close()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """True if a GET of this loopback address succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False


async def until(condition: Callable[[], object], seconds: float, complaint: Callable[[], str]) -> None:
    """Poll until `condition()` is true. Raises RuntimeError with `complaint()` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint())
        await asyncio.sleep(0.05)
