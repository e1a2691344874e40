"""The embedded server, with real processes that are killed.

Slow, because each test starts all of the app's programs, to kill some of them.
"""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from nats.js import JetStreamContext

from services.embedded import ServerError, embedded
from services.nats_server import server as nats_server
from tests.embedded import login
from tests.nats import connect_nats
from tests.running import free_port
from tests.services.stand_ins import App, is_alive, wait_for

T = TypeVar("T")
RunApp = Callable[[], App]


def ask(data_dir: Path, question: Callable[[JetStreamContext], Awaitable[T]]) -> T:
    """The reply of the server's JetStream, over a separate connection."""

    async def main() -> T:
        nc = await connect_nats(**login(data_dir), connect_timeout=5)
        try:
            return await question(nc.jetstream())
        finally:
            await nc.close()

    return asyncio.run(main())


def serves(url: str) -> bool:
    """True if a client can connect to the URL."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def test_disk_and_memory_are_settings(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings limit what the server may store on disk and in memory."""
    monkeypatch.setenv("LOOKBACK_SERVER_DISK", "2 GiB")
    monkeypatch.setenv("LOOKBACK_SERVER_MEMORY", "32 MiB")
    config = nats_server._config(data_dir, 1, 2)["jetstream"]
    assert (config["max_file_store"], config["max_memory_store"]) == (2 << 30, 32 << 20)


def test_serves_jetstream_on_loopback_only(run_app: RunApp, data_dir: Path) -> None:
    """The server stores a message, and all its processes listen on loopback only."""
    app = run_app()
    app.url()

    async def store(js: JetStreamContext) -> int:
        await js.add_stream(name="S", subjects=["s"])
        return (await js.publish("s", b"1")).seq

    assert ask(data_dir, store) == 1
    listening = [
        connection.laddr.ip
        for process in app.below().values()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1", "127.0.0.1"]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "nats-server.conf").stat().st_mode) == 0o600


def test_nothing_outlives_a_killed_app(run_app: RunApp) -> None:
    """After kill -9 of the app, its server, the programs beside it and their guards end by themselves."""
    app = run_app()
    app.url()
    below = app.below()
    app.kill()
    wait_for(lambda: not any(map(is_alive, below.values())), "an end of the app's children")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_killed_guard_leaves_no_server_and_the_owner_starts_another(run_app: RunApp) -> None:
    """After kill -9 of the guard, the server ends without the owner's help, and the owner starts another
    one."""
    app = run_app()
    url = app.url()
    below = app.below()
    app.popen.send_signal(signal.SIGSTOP)
    below["server's guard"].kill()
    wait_for(lambda: not is_alive(below["server"]), "an end of the server")
    app.popen.send_signal(signal.SIGCONT)
    wait_for(lambda: serves(url), "another server")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_url_stays_when_its_port_is_taken_meanwhile(run_app: RunApp) -> None:
    """If another program takes a crashed server's port, the owner waits for that port and uses no other."""
    app = run_app()
    url = app.url()
    server = app.below()["server"]
    app.popen.send_signal(signal.SIGSTOP)
    server.kill()
    wait_for(lambda: not serves(url), "an end of the server")
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        app.popen.send_signal(signal.SIGCONT)
        assert app.popen.stderr
        assert any("used by another program" in line for line in app.popen.stderr)
    wait_for(lambda: serves(url), "the same port, once it is free")


def test_crashed_server_and_publisher_are_started_again(run_app: RunApp) -> None:
    """When the server or the publisher is killed, the owner starts another; the server's URL stays."""
    app = run_app()
    url = app.url()
    before = app.below()
    before["server"].kill()
    before["publisher"].kill()
    wait_for(lambda: not is_alive(before["server"]), "an end of the server")
    wait_for(lambda: serves(url), "another server")
    after = app.below()
    assert after["server"].pid != before["server"].pid
    assert after["publisher"].pid != before["publisher"].pid


def test_second_process_joins_and_takes_over(run_app: RunApp) -> None:
    """Apps started at the same time share one server. When its owner is killed, another app takes over on the
    same URL."""
    apps = [run_app(), run_app(), run_app()]
    urls = [app.url() for app in apps]
    assert len(set(urls)) == 1

    def owners() -> list[App]:
        return [app for app in apps if app.popen.poll() is None and psutil.Process(app.popen.pid).children()]

    (owner,) = owners()
    below = owner.below()
    owner.kill()
    wait_for(lambda: not is_alive(below["server"]), "an end of the owner's server")
    wait_for(owners, "another owner")
    wait_for(lambda: serves(urls[0]), "the same URL")
    (heir,) = owners()
    heir.close()
    wait_for(owners, "an owner after the heir has left")
    wait_for(lambda: serves(urls[0]), "the same URL again")


def test_history_survives_a_restart(run_app: RunApp, data_dir: Path) -> None:
    """Messages stored before a stop are there after the next start, at the same URL."""

    async def store(js: JetStreamContext) -> None:
        await js.add_stream(name="S", subjects=["s"])
        await js.publish("s", b"kept")

    async def read(js: JetStreamContext) -> bytes | None:
        return (await js.get_last_msg("S", "s")).data

    first = run_app()
    url = first.url()
    ask(data_dir, store)
    first.close()
    assert first.popen.returncode == 0
    assert not serves(url)
    again = run_app()
    assert again.url() == url
    assert ask(data_dir, read) == b"kept"


@pytest.mark.parametrize(
    "garbage", [b"\xff\x00{", b"[]", b'{"client": "x", "monitoring": -1}', b'{"client": 1e9}']
)
def test_leftovers_do_no_harm(run_app: RunApp, data_dir: Path, garbage: bytes) -> None:
    """The server starts despite garbage in server.json, in the lock, and in the files of a crashed server."""
    data_dir.mkdir()
    for name in ("server.json", "lock", "nats-server.pid", "nats-server_1.ports"):
        (data_dir / name).write_bytes(garbage)
    assert serves(run_app().url())


def test_number_of_a_stranger_is_not_its_server(run_app: RunApp, data_dir: Path) -> None:
    """Another process that now has a crashed server's process ID is not killed."""
    data_dir.mkdir()
    (data_dir / "nats-server.pid").write_text(str(os.getpid()))
    assert serves(run_app().url())


def test_taken_port_is_left_alone(run_app: RunApp, data_dir: Path) -> None:
    """If another program uses the port of the last run, the server takes a free one."""
    data_dir.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        (data_dir / "server.json").write_text(json.dumps({"client": port, "monitoring": port}))
        url = run_app().url()
    assert url != f"nats://127.0.0.1:{port}"
    assert serves(url)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_left_over_server_is_ended(run_app: RunApp) -> None:
    """A server that has lost both app and guard is ended before another one opens the store."""
    first = run_app()
    url = first.url()
    server = first.below()["server"]
    server.send_signal(signal.SIGSTOP)  # so that it cannot end on SIGTERM
    first.popen.kill()
    second = run_app()
    assert second.url() == url
    assert not is_alive(server)


def test_ended_server_holds_nothing(tmp_path: Path) -> None:
    """A killed server counts as alive until its port is free, even while it is a zombie with threads left."""
    for number in range(20):
        port = free_port()
        store = f'jetstream {{ store_dir: "{tmp_path / str(number)}" }}'
        (tmp_path / "conf").write_text(f"listen: 127.0.0.1:{port}\n{store}")
        command = [nats_server.find_binary(), "-c", str(tmp_path / "conf")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            wait_for(lambda: serves(f"nats://127.0.0.1:{port}"), "a server")
            process = psutil.Process(server.pid)
            server.kill()
            while nats_server._is_alive(process):
                pass
            assert nats_server._is_free(port)


def test_missing_binary_is_told(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """If NATS_SERVER_BIN is no program, the error names it."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))
    monkeypatch.setenv("NATS_SERVER_BIN", "/no/such/program")

    async def main() -> None:
        async with embedded():
            pass

    with pytest.raises(ServerError, match="/no/such/program"):
        asyncio.run(main())


def test_failing_server_is_told_with_its_log(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """If the server does not start, the error has the end of its log and the path of the data."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))
    data_dir.mkdir()
    (data_dir / "jetstream").write_text("a file where the store should be")

    async def main() -> None:
        async with embedded():
            pass

    with pytest.raises(ServerError, match=r"(?s)ended while starting.*data:.*\[FTL\]"):
        asyncio.run(main())


def test_start_that_is_cancelled_leaves_nothing(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """If the app is stopped while its server starts, no process is left, and the lock is free."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))

    async def main(patience: float) -> None:
        async with asyncio.timeout(patience), embedded():
            await asyncio.sleep(60)

    before = set(psutil.Process().children(recursive=True))  # children of other tests
    for patience in (0.0, 0.02, 0.05):
        with pytest.raises(TimeoutError):
            asyncio.run(main(patience))
        left = set(psutil.Process().children(recursive=True)) - before
        assert [process for process in left if process.name() != "postgres"] == []  # other tests' database


def test_strange_directory_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Spaces, quotes and non-ASCII letters in the data directory's name reach the server intact."""
    directory = tmp_path / 'my "dätä" $HOME #1'
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(directory))

    async def main() -> None:
        async with embedded() as logins:
            assert serves(logins["dashboard"]["url"])
            assert (directory / "jetstream").is_dir()

    asyncio.run(main())


def test_server_name_differs_by_directory(tmp_path: Path) -> None:
    """Servers of different data directories have different names."""
    assert nats_server.server_name(tmp_path / "a") != nats_server.server_name(tmp_path / "b")
