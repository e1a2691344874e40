"""Every example of docs/connecting.md connects to a server that is set up for it."""

import asyncio
import re
import shlex
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Settings
from services.accounts.claims import Key
from tests.certificates import Certificates
from tests.logins import Login, operator
from tests.nats import connect_nats, numbered, running_server
from tests.running import ROOT, free_port
from tests.waiting import until

USERS = 'authorization { users: [ { user: dashboard, password: "change-me" } ] }'


@dataclass(frozen=True)
class Place:
    """The folder and certificates from which a server is set up."""

    folder: Path
    certificates: Certificates


@dataclass(frozen=True)
class Ready:
    """A running server."""

    words: dict[str, str] = field(default_factory=dict)
    """Replacements for the placeholders of an example."""
    streams: Settings | None = None
    """The login that creates the streams; None for that of the example."""
    services: Settings | None = None
    """The login that runs the services; None for that of the example."""


Way = Callable[[Place], AbstractContextManager[Ready]]
WAYS: dict[str, Way] = {}


def way(heading: str) -> Callable[[Callable[[Place], Iterator[Ready]]], Way]:
    """Register a function as the server for the section `heading`."""

    def note(start: Callable[[Place], Iterator[Ready]]) -> Way:
        WAYS[heading] = contextmanager(start)
        return WAYS[heading]

    return note


def examples() -> dict[str, dict[str, dict[str, Any]]]:
    """The examples by section and kind of block, as `Settings.load` accepts them: a mapping or an
    environment."""
    sections = re.split(r"^## ", (ROOT / "docs" / "connecting.md").read_text(), flags=re.MULTILINE)[1:]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for section in sections:
        heading, _, text = section.partition("\n")
        for kind, block in re.findall(r"```(toml|sh)\n(.*?)```", text, re.DOTALL):
            if kind == "toml":
                read = tomllib.loads(block)["connections"]["nats"]
            else:
                read = dict(word.split("=", 1) for word in shlex.split(block))
            found.setdefault(heading, {})[kind] = read
    return found


EXAMPLES = examples()


def settings_of(heading: str, kind: str, words: dict[str, str]) -> Settings:
    """The settings of an example with `words` replaced. Fails if a host, path or secret of the document is
    left."""
    values = EXAMPLES[heading][kind]
    for old, new in words.items():
        values = {
            key: [part.replace(old, new) for part in value]
            if isinstance(value, list)
            else value.replace(old, new)
            if isinstance(value, str)
            else value
            for key, value in values.items()
        }
    left = re.findall(
        r"[\w.-]*example\.com\S*|/run/\S*|/etc/\S*|\S*yours|\S*YOUROWN\S*|\S*ngs\S*", str(values)
    )
    assert not left
    return Settings.load(values, {}) if kind == "toml" else Settings.load({}, values)


@contextmanager
def running(place: Place, config: str, host: str = "nats.example.com:4222", **words: str) -> Iterator[Ready]:
    """Run a server with `config` that stands in for `host`."""
    with running_server(place.folder / "nats", config) as server:
        yield Ready({host: f"127.0.0.1:{server.port}", **words})


@contextmanager
def filled(streams: Settings, services: Settings) -> Iterator[None]:
    """Provide a stream S with five messages and a bucket B with a key, created with the login `streams`, and
    a service `echo` that runs with the login `services`."""

    async def connect(settings: Settings) -> Any:
        options = settings.login()
        if context := settings.ssl_context():
            options |= {"tls": context, "tls_handshake_first": settings.tls_handshake_first}
        if settings.tls_hostname:
            options["tls_hostname"] = settings.tls_hostname
        options["inbox_prefix"] = settings.inbox_prefix
        return await connect_nats([settings.servers[-1]], allow_reconnect=False, connect_timeout=5, **options)

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    async def serve() -> None:
        stop = asyncio.Event()
        asked.append((asyncio.get_running_loop(), stop))
        client, service = await connect(streams), await connect(services)
        try:
            jetstream = client.jetstream(domain=streams.domain)
            await jetstream.add_stream(name="S", subjects=["s.>"])
            for payload in numbered(5):
                await jetstream.publish("s.a", payload)
            await (await jetstream.create_key_value(bucket="B")).put("key", b"1")
            await service.subscribe("echo", cb=echo)
            await service.flush()
            ready.set()
            await stop.wait()
        finally:
            await client.close()
            await service.close()
            await asyncio.sleep(0.5)  # aiohttp does not wait for the end of TLS

    asked: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: asyncio.run(serve()))
        until(lambda: ready.is_set() or done.done())
        try:
            if not done.done():
                yield
        finally:
            loop, stop = asked[0]
            if not done.done():
                loop.call_soon_threadsafe(stop.set)
            done.result()


def check(settings: Settings) -> None:
    """Check that a client with these settings lists and replays the stream, watches the key and calls the
    service."""
    with Client(settings) as client:
        feed, watch = client.feed("S", look_back="PT1H"), client.values("B")
        until(lambda: len(feed.snapshot()) == 5)
        until(lambda: watch.snapshot().get("key") == 1)
        assert client.request("echo", "hello", timeout=10).data == b"hello"
        assert [stream.name for stream in client.streams()] == ["S"]
        assert feed.health.phase == watch.health.phase == "following"
        assert client.state.error is None


@way("No login")
def no_login(place: Place) -> Iterator[Ready]:
    """A server without logins."""
    with running(place, "") as ready:
        yield ready


@way("User and password")
def user_and_password(place: Place) -> Iterator[Ready]:
    """A server with users."""
    with running(place, USERS) as ready:
        yield ready


@way("Token")
def token(place: Place) -> Iterator[Ready]:
    """A server with a token."""
    with running(place, 'authorization { token: "change-me" }') as ready:
        yield ready


@way("Nkey")
def nkey(place: Place) -> Iterator[Ready]:
    """A server with a user's public key."""
    user = Key.new("user")
    public, seed = user.public, user.seed
    file = place.folder / "dashboard.nk"
    file.write_text(f"{seed}\n")
    with running(place, f"authorization {{ users: [ {{ nkey: {public} }} ] }}") as ready:
        ready.words.update({"/run/secrets/dashboard.nk": str(file), "SUAGETYOUROWNSEED": seed})
        yield ready


def files(login: Login) -> dict[str, str]:
    """Write the files of a user JWT; return the replacements for the placeholders of its examples."""
    creds, jwt, seed = (login.folder / f"dashboard.{end}" for end in ("creds", "jwt", "nk"))
    login.write(None, creds.name)
    text = creds.read_text().splitlines()[1]
    jwt.write_text(f"{text}\n")
    seed.write_text(login.user.seed)
    return {
        "/run/secrets/dashboard.creds": str(creds),
        "/run/secrets/dashboard.jwt": str(jwt),
        "/run/secrets/dashboard.nk": str(seed),
        "eyJ0eXAiOiJKV1QifQ.get.yours": text,
        "SUAGETYOUROWNSEED": login.user.seed,
    }


@way("Credentials file")
def credentials_file(place: Place) -> Iterator[Ready]:
    """A server in operator mode."""
    login = operator(place.folder)
    with running(place, login.config) as ready:
        ready.words.update(files(login))
        yield ready


WAYS["JWT and seed"] = credentials_file


def tls_words(certificates: Certificates) -> dict[str, str]:
    """Replacements for the placeholders of the examples with certificates."""
    return {
        "/etc/nats/ca.pem": certificates.path("ca.pem"),
        "/etc/nats/dashboard.pem": certificates.path("client.pem"),
        "/etc/nats/dashboard-key.pem": certificates.path("client.key"),
    }


@way("TLS with a CA of your own")
def own_ca(place: Place) -> Iterator[Ready]:
    """A server whose certificate no system CA has signed."""
    with running(place, f"{USERS}\n{place.certificates.tls()}") as ready:
        ready.words.update(tls_words(place.certificates))
        yield ready


@way("Client certificate")
def client_certificate(place: Place) -> Iterator[Ready]:
    """A server that requires a client certificate and a password."""
    with running(place, f"{USERS}\n{place.certificates.tls(more='verify: true')}") as ready:
        ready.words.update(tls_words(place.certificates))
        yield ready


@way("Login by certificate")
def login_by_certificate(place: Place) -> Iterator[Ready]:
    """A server that accepts the client certificate as the login."""
    users = 'authorization { users: [ { user: "dashboard@example.com" } ] }'
    with running(place, f"{users}\n{place.certificates.tls(more='verify_and_map: true')}") as ready:
        ready.words.update(tls_words(place.certificates))
        yield ready


@way("TLS first")
def tls_first(place: Place) -> Iterator[Ready]:
    """A server that sends nothing before the TLS handshake."""
    with running(place, place.certificates.tls(more="handshake_first: true")) as ready:
        ready.words.update(tls_words(place.certificates))
        yield ready


@way("Websocket")
def websocket(place: Place) -> Iterator[Ready]:
    """A websocket listener."""
    port = free_port()
    config = f'{USERS}\nwebsocket {{ listen: "127.0.0.1:{port}", no_tls: true }}'
    with running(place, config) as ready:
        yield replace(ready, words={"nats.example.com:8080": f"127.0.0.1:{port}"})


@way("Websocket with TLS")
def websocket_with_tls(place: Place) -> Iterator[Ready]:
    """A websocket listener with a certificate, on a server in operator mode."""
    port, login = free_port(), operator(place.folder)
    config = f'{login.config}\nwebsocket {{ listen: "127.0.0.1:{port}", {place.certificates.tls()} }}'
    with running(place, config) as ready:
        words = {"nats.example.com:8443": f"127.0.0.1:{port}"}
        yield replace(ready, words=words | files(login) | tls_words(place.certificates))


@way("Several servers")
def several_servers(place: Place) -> Iterator[Ready]:
    """Three servers, of which two are down."""
    with running(place, USERS) as ready:
        ready.words.update({f"nats-{i}.example.com:4222": f"127.0.0.1:{free_port()}" for i in (1, 2)})
        yield ready


@way("Managed service")
def managed_service(place: Place) -> Iterator[Ready]:
    """A server in operator mode with a certificate that the system's CAs, here our own, have signed."""
    login = operator(place.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", place.certificates.path("ca.pem"))
        with running(place, f"{login.config}\n{place.certificates.tls()}", "connect.ngs.global") as ready:
            ready.words.update(files(login))
            yield ready


@way("Leaf node")
def leaf_node(place: Place) -> Iterator[Ready]:
    """A leaf node with a JetStream of its own, and a hub with the streams."""
    port = free_port()
    jetstream = 'jetstream {{ store_dir: "{}", domain: {} }}'
    hub = f'{jetstream.format(place.folder / "hub", "hub")}\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n'
    leaf = (
        f"{USERS}\n{jetstream.format(place.folder / 'leaf', 'leaf')}\n"
        f'leafnodes {{ reconnect: 1, remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}\n'
    )
    with (
        running_server(place.folder / "h", hub) as server,
        running(place, leaf, "leaf.example.com:4222") as ready,
    ):
        yield replace(ready, streams=Settings(url=server.url))


ACCOUNTS = """
jetstream { store_dir: "%s" }
accounts {
  DATA {
    jetstream: enabled
    users: [ { user: data, password: x } ]
    exports: [
      { service: "$JS.API.>", response_type: stream }
      { service: "$JS.FC.>" }
      { stream: "_INBOX_dashboard.>" }
    ]
  }
  APP {
    users: [ { user: dashboard, password: "change-me" } ]
    imports: [
      { service: { account: DATA, subject: "$JS.API.>" }, to: "data.api.>" }
      { service: { account: DATA, subject: "$JS.FC.>" } }
      { stream: { account: DATA, subject: "_INBOX_dashboard.>" } }
    ]
  }
}
"""


@way("Streams of another account")
def other_account(place: Place) -> Iterator[Ready]:
    """Two accounts: one has the streams, and the other imports their API."""
    with running(place, ACCOUNTS % (place.folder / "store")) as ready:
        url = f"nats://{ready.words['nats.example.com:4222']}"
        yield replace(ready, streams=Settings(url=url, user="data", password="x"))


@way("Private inbox")
def own_inbox(place: Place) -> Iterator[Ready]:
    """A user who may subscribe only to a private inbox."""
    config = """authorization { users: [
        { user: admin, password: x }
        { user: dashboard, password: "change-me", permissions: {
            publish: ["$JS.API.>", "$JS.FC.>", "echo"], subscribe: "_INBOX_dashboard.>" } } ] }"""
    with running(place, config) as ready:
        admin = Settings(url=f"nats://{ready.words['nats.example.com:4222']}", user="admin", password="x")
        yield replace(ready, streams=admin, services=admin)


def test_each_section_has_a_server() -> None:
    """Every example of the document is tested, and each has both forms, toml and sh."""
    assert set(EXAMPLES) == set(WAYS)
    assert all(set(forms) == {"toml", "sh"} for forms in EXAMPLES.values())


@pytest.mark.parametrize("heading", EXAMPLES)
def test_way_in(tmp_path: Path, certificates: Certificates, heading: str) -> None:
    """Both forms of the document's example log in, replay a stream, watch a key and call a service."""
    with WAYS[heading](Place(tmp_path, certificates)) as ready:
        ways = [settings_of(heading, kind, ready.words) for kind in EXAMPLES[heading]]
        with filled(ready.streams or ways[0], ready.services or ways[0]):
            for settings in ways:
                check(settings)


def test_leaf_node_of_an_operator(tmp_path: Path) -> None:
    """Through a leaf node in operator mode, a login with a user JWT reads the streams of the hub."""
    login, port = operator(tmp_path), free_port()
    creds = login.write(None)
    hub = (
        f'{login.config}\njetstream {{ store_dir: "{tmp_path / "hub"}", domain: hub }}\n'
        f'leafnodes {{ listen: "127.0.0.1:{port}" }}\n'
    )
    remote = f'url: "nats-leaf://127.0.0.1:{port}", account: {login.account.public}, credentials: "{creds}"'
    leaf = f"{login.config}\n# no jetstream\nleafnodes {{ reconnect: 1, remotes: [ {{ {remote} }} ] }}\n"
    with (
        running_server(tmp_path / "h", hub) as server,
        running_server(tmp_path / "l", leaf) as edge,
    ):
        here = Settings(url=edge.url, credentials=str(creds), domain="hub")
        with filled(Settings(url=server.url, credentials=str(creds)), here):
            check(here)


def test_example_of_the_secrets_file() -> None:
    """Every line of secrets.toml.example, commented out or not, is valid TOML and names a setting that
    exists."""
    text = (ROOT / ".streamlit" / "secrets.toml.example").read_text().partition("# [auth]")[0]
    lines = [line.removeprefix("# ") for line in text.splitlines() if re.match(r"(# )?\w+ = ", line)]
    known = set(Settings.__dataclass_fields__)
    assert {line.partition(" = ")[0] for line in lines} <= known
    assert all(tomllib.loads(line) for line in lines)
