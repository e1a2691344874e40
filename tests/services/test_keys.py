"""The keys of the accounts, who may read them, and which logins the server accepts.

Slow, because servers and the app start with keys of their own.
"""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client

from nats_client.connection.credentials import claims_of
from services.accounts.claims import Key
from services.accounts.roles import load_roles
from services.embedded import ServerError, embedded
from services.nats_server import server as nats_server
from tests.embedded import login, server_with_accounts, vended, vended_login
from tests.nats import NatsPy, connect_nats, end, running_server
from tests.node import node
from tests.running import ROOT, app
from tests.services.stand_ins import App
from tests.waiting import until

ORIGIN = "http://127.0.0.1:8501"
ROLES = '[roles.{}]\ngroups = ["*"]\nstreams = ["*"]\n'


def talk(options: dict[str, Any], subject: str) -> bytes:
    """The reply to a request. Raises nats-py's error if the login is refused."""

    async def main() -> bytes:
        client = NatsPy()
        try:
            await client.connect(**options, allow_reconnect=False, error_cb=quiet)
            return (await client.request(subject, timeout=30)).data
        finally:
            await end(client)

    return asyncio.run(main())


async def quiet(_: Exception) -> None:
    pass


def is_let_in(options: dict[str, Any]) -> bool:
    """True if the server accepts the login, which may then request METRICS, even if there is no such
    stream."""
    try:
        return b"stream" in talk(options, "$JS.data.API.STREAM.INFO.METRICS")
    except nats.errors.Error as error:
        if "Authorization Violation" not in str(error):
            raise
        return False


def public_keys(data_dir: Path) -> dict[str, str]:
    """The public keys in the files of a data directory."""
    return {file.stem: Key(file.read_text().strip()).public for file in (data_dir / "keys").glob("*.nk")}


def modes(data_dir: Path) -> Iterator[tuple[str, int]]:
    """The permissions of keys, credentials and configuration."""
    for pattern in ("keys", "keys/*", "creds", "creds/*", "nats-server.conf", "server.json"):
        for file in data_dir.glob(pattern):
            yield file.name, stat.S_IMODE(file.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="needs rights of files")
def test_directory_that_others_could_read(data_dir: Path, run_app: Callable[[], App]) -> None:
    """A data directory that existed before and was open to all is closed when the app starts, with all of the
    app's files in it, whatever the umask. The folder above it and another program's file keep their
    permissions."""
    data_dir.parent.chmod(0o755)
    (data_dir / "jetstream").mkdir(parents=True)
    before = os.umask(0)
    try:
        for name in ("server.json", "metrics.out", "jetstream/old", "notes.txt"):
            (data_dir / name).touch()
            (data_dir / name).chmod(0o644)
        data_dir.chmod(0o777)
        running = run_app()
        assert running.url()
        running.below()
        until((data_dir / "history.duckdb").exists)
    finally:
        os.umask(before)
    found = {file: stat.S_IMODE(file.lstat().st_mode) for file in (data_dir, *data_dir.rglob("*"))}
    assert found.pop(data_dir / "notes.txt") == 0o644
    assert {str(file): oct(mode) for file, mode in found.items() if mode & 0o077} == {}
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o755


def test_directory_of_everybody_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The permissions of a directory with the sticky bit, such as /tmp, are not changed; the log says so."""
    tmp_path.chmod(0o1777)
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(tmp_path))
    assert nats_server.data_dir() == tmp_path
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert "Set LOOKBACK_DATA_DIR" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="needs rights of files")
def test_made_once_for_their_user_alone(data_dir: Path) -> None:
    """Keys and credentials stay the same from start to start, and only their owner may read them."""
    with server_with_accounts(data_dir):
        before = public_keys(data_dir)
        users = {file.name: file.read_text().splitlines()[-2] for file in (data_dir / "creds").iterdir()}
    roles = {f"role-{name}" for name in load_roles().roles}
    assert before.keys() == {"operator", "sys", "data", "services", "app"} | roles
    with server_with_accounts(data_dir):
        assert public_keys(data_dir) == before
        after = {file.name: file.read_text().splitlines()[-2] for file in (data_dir / "creds").iterdir()}
        assert after == users
        for name, mode in modes(data_dir):
            assert mode == (0o700 if name in ("keys", "creds") else 0o600), name


def test_two_who_start_at_once_make_one_set(data_dir: Path) -> None:
    """Processes that create the keys at the same time all use the same ones."""
    data_dir.mkdir()
    code = (
        "import sys, pathlib; from services.accounts import configuration as accounts\n"
        "d = pathlib.Path(sys.argv[1])\n"
        "print(flush=True); sys.stdin.read()\n"
        "with accounts.locked(d): keys = accounts.Keys.load(d, ['viewer'])\n"
        "print(keys.operator.public, *[k.public for k in [*keys.accounts.values(), *keys.roles.values()]])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(data_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout
        process.stdout.readline()
    for process in processes:  # all are ready
        assert process.stdin
        process.stdin.close()
    outputs = set()
    for process in processes:
        assert process.stdout
        outputs.add(process.stdout.read())
        process.stdout.close()
        assert process.wait(30) == 0
    assert len(outputs) == 1
    assert not list(data_dir.glob("keys/*.new"))


def test_role_of_later(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new role gets a key at the next start; a removed role is refused."""
    roles = tmp_path / "roles.toml"
    monkeypatch.setenv("LOOKBACK_ROLES", str(roles))
    roles.write_text(ROLES.format("first"))
    with server_with_accounts(data_dir):
        first = vended_login(data_dir, "first")
        assert is_let_in(first)
    roles.write_text(ROLES.format("second"))
    with server_with_accounts(data_dir):
        assert is_let_in(vended_login(data_dir, "second"))
        assert not is_let_in(first)


def test_roles_change_while_the_server_runs(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights that a role loses end at once, even for connected clients, and a new role is accepted. A file
    with a mistake changes nothing."""
    roles = tmp_path / "roles.toml"
    roles.write_text(ROLES.format("first"))
    monkeypatch.setenv("LOOKBACK_ROLES", str(roles))
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))
    subject = "$JS.data.API.STREAM.INFO.METRICS"

    async def connected(options: dict[str, Any]) -> tuple[Client, list[str], asyncio.Event]:
        client, errors, gone = NatsPy(), [], asyncio.Event()

        async def tell(error: Exception) -> None:
            errors.append(str(error))

        async def closed() -> None:
            gone.set()

        await client.connect(**options, allow_reconnect=False, error_cb=tell, closed_cb=closed)
        return client, errors, gone

    async def main() -> None:
        async with asyncio.timeout(90), embedded():
            mine = vended_login(data_dir, "first")
            client, _, gone = await connected(mine)
            assert b"stream" in (await client.request(subject, timeout=30)).data
            roles.write_text("[roles.first")
            await asyncio.sleep(2)
            assert not gone.is_set()
            roles.write_text('[roles.first]\ngroups = ["*"]\n' + ROLES.format("second"))
            await gone.wait()
            client, errors, _ = await connected(mine)
            await client.publish(subject, reply=client.new_inbox())
            while not any("permissions violation" in text for text in errors):
                await client.flush(30)
            await client.close()
            client, _, _ = await connected(vended_login(data_dir, "second"))
            assert b"stream" in (await client.request(subject, timeout=30)).data
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("keys/data.nk", "SANONSENSE", r"data\.nk cannot be read"),
        ("keys/data.nk", Key.new("user").seed, "another kind"),
        ("keys/revoked.json", "[1]", r"revoked\.json"),
    ],
    ids=["no key", "key of a user", "no table"],
)
def test_unreadable_keys_are_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, expected: str
) -> None:
    """A key that cannot be read stops the server from starting, because with a new one the streams would be
    gone."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))
    (data_dir / "keys").mkdir(parents=True)
    (data_dir / file).write_text(text)

    async def main() -> None:
        async with embedded():
            pass

    with pytest.raises(ServerError, match=expected) as error:
        asyncio.run(main())
    assert text not in str(error.value)
    assert (data_dir / file).read_text() == text


def test_unreadable_roles_are_told(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A roles file with a mistake stops the server from starting, with an error that names the mistake."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(data_dir))
    monkeypatch.setenv("LOOKBACK_ROLES", str(tmp_path / "roles.toml"))
    (tmp_path / "roles.toml").write_text("[roles.viewer]\nstream = []\n")

    async def main() -> None:
        async with embedded():
            pass

    with pytest.raises(ServerError, match="'stream'"):
        asyncio.run(main())


def test_store_from_before_there_were_accounts(data_dir: Path) -> None:
    """Streams of a server without accounts move to DATA at the first start with accounts, and stay there."""
    with running_server(data_dir) as before:
        before.add_stream("OLD", ["old.>"])
        before.publish("old.a", b"kept")
        before.stop()
    for _ in range(2):
        with server_with_accounts(data_dir):
            kept = json.loads(talk(login(data_dir), "$JS.API.STREAM.INFO.OLD"))
            assert kept["state"]["messages"] == 1
    assert not (data_dir / "jetstream" / "$G").exists()


def test_revoked_user_is_out_at_once(data_dir: Path) -> None:
    """Revoking a user of APP ends its connections and refuses its JWT, even after a restart, and affects no
    other user. A JWT of another user of the role is still accepted."""

    def revoke(user: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "services.accounts", "revoke", user],
            cwd=ROOT,
            env=os.environ | {"LOOKBACK_DATA_DIR": str(data_dir)},
            capture_output=True,
            text=True,
        )

    async def main(mine: dict[str, Any], user: str) -> None:
        gone = asyncio.Event()

        async def closed() -> None:
            gone.set()

        me, other = NatsPy(), await connect_nats(**vended_login(data_dir, "viewer"), allow_reconnect=False)
        await me.connect(**mine, allow_reconnect=False, closed_cb=closed, error_cb=quiet)
        done = await asyncio.to_thread(revoke, user)
        assert (done.returncode, done.stdout) == (0, "Revoked.\n"), done.stderr
        async with asyncio.timeout(30):
            await gone.wait()
        assert other.is_connected
        await other.flush()
        await other.close()

    with server_with_accounts(data_dir, [ORIGIN]):
        mine = vended_login(data_dir, "viewer")
        asyncio.run(main(mine, claims_of(mine["user_jwt_cb"]().decode())["sub"]))
        assert not is_let_in(mine)
    with server_with_accounts(data_dir, [ORIGIN]):
        assert not is_let_in(mine)
        assert is_let_in(vended_login(data_dir, "viewer"))
    assert revoke(Key.new("user").public).stdout == "Revoked from the next start on: no server is running.\n"
    assert "not a user's public key" in revoke("me").stderr


def test_nothing_listens_but_on_loopback(data_dir: Path) -> None:
    """Clients, browsers and monitoring reach the server on loopback; the programs beside it do not listen."""
    running = App(data_dir, ORIGIN)
    try:
        running.url()
        below = running.below()
        listening = {
            kind: [
                connection.laddr.ip
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]
            for kind, process in below.items()
        }
        assert listening.pop("server") == ["127.0.0.1"] * 3
        assert not any(listening.values())
        assert not any(
            c.status == psutil.CONN_LISTEN for c in psutil.Process(running.popen.pid).net_connections()
        )
    finally:
        running.kill()


def test_seeds_stay_in_their_files(data_dir: Path) -> None:
    """No seed and no user's JWT is in a log, an argument, an environment, or the configuration."""
    running = App(data_dir, ORIGIN)
    try:
        running.url()
        below = running.below()
        asyncio.run(refused(nats_server.last_ports(data_dir)))
        shown = "".join(
            "\n".join([*process.cmdline(), *process.environ().values()]) for process in below.values()
        )
    finally:
        running.kill()
    assert running.popen.returncode is not None
    seeds = [file.read_text().strip() for file in data_dir.glob("keys/*.nk")]
    users = [line for file in data_dir.glob("creds/*") for line in file.read_text().splitlines()]
    jwts = [line for line in users if line.startswith("ey")]
    seeds += [line for line in users if line.startswith("SU")]
    assert (len(seeds), len(jwts)) == (5 + len(load_roles().roles) + 4, 4)
    config = (data_dir / "nats-server.conf").read_text()
    logs = "".join(
        file.read_text(errors="replace")
        for file in data_dir.iterdir()
        if file.is_file() and file.suffix in (".log", ".out", ".json", ".pid")
    )
    assert "creds/services.creds" in shown
    for secret in (*seeds, *jwts):
        assert secret not in shown + logs + config


async def refused(ports: nats_server.Ports | None) -> None:
    """Try to log in with an unknown key, so that the server logs the refusal."""
    assert ports is not None
    key = Key.new("user")
    client = NatsPy()
    with pytest.raises(nats.errors.Error):
        await client.connect(ports.url, nkeys_seed_str=key.seed, allow_reconnect=False, error_cb=quiet)
    await client.close()


def test_app_tells_where_its_pages_are(tmp_path: Path) -> None:
    """Browsers may connect from the app's own pages, under both names of this machine, and from no others."""
    with app(tmp_path) as running:
        config = json.loads((tmp_path / "data" / "nats-server.conf").read_text())
        port = running.url.rpartition(":")[2]
        assert config["websocket"]["allowed_origins"] == [
            f"http://127.0.0.1:{port}",
            f"http://localhost:{port}",
        ]


def test_no_port_for_browsers_without_an_origin(data_dir: Path) -> None:
    """A server without an origin for pages has no websocket listener."""
    with server_with_accounts(data_dir) as ports:
        assert ports.websocket is None
        assert "websocket" not in json.loads((data_dir / "nats-server.conf").read_text())


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a server with a websocket listener, a stream and a bucket."""
    data_dir = tmp_path_factory.mktemp("browsers") / "data"

    async def fill() -> None:
        client = await connect_nats(**login(data_dir))
        await client.jetstream().add_stream(name="METRICS", subjects=["metrics.>"])
        await client.jetstream().create_key_value(bucket="thresholds")
        await client.close()

    with server_with_accounts(data_dir, [ORIGIN]):
        asyncio.run(fill())
        yield data_dir


def browser(data_dir: Path, role: str, origin: str = ORIGIN, *, cookie: bool = True) -> dict[str, Any]:
    """What the npm client may do with a role's JWT in its cookie, from a page of `origin`."""
    ports = nats_server.last_ports(data_dir)
    assert ports is not None
    jwt, key, inbox = vended(data_dir, role)
    url = f"ws://127.0.0.1:{ports.websocket}"
    with node("account.mjs", url, origin, jwt if cookie else "", key.seed, inbox) as script:
        found: dict[str, Any] = json.loads(script.line())
        return found


def test_browser(browsers: Path) -> None:
    """Over the websocket a role has the same permissions as elsewhere."""
    viewer = {"connected": True, "look": True, "list": False, "put": False, "purge": False}
    operator = {"connected": True, "look": True, "list": True, "put": True, "purge": True}
    never = {"everything": False, "inboxes": False}
    assert browser(browsers, "viewer") == viewer | never
    assert browser(browsers, "operator") == operator | never


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:8501", "http://127.0.0.1:8502", "https://127.0.0.1:8501", "https://evil.example"],
)
def test_page_from_elsewhere(browsers: Path, origin: str) -> None:
    """A page of another origin is refused, although the browser would send the cookie."""
    assert not browser(browsers, "operator", origin)["connected"]


def test_browser_without_a_cookie(browsers: Path) -> None:
    """A browser without the cookie is refused."""
    answer = browser(browsers, "viewer", cookie=False)
    assert not answer["connected"]
    assert "Authorization Violation" in answer["error"]
