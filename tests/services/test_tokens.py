"""The token service over a real server: the tokens it issues, and the requests it refuses.

Slow, because each test starts a server and a token service.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import RawCredentials

from nats_client import Client, Settings
from nats_client.connection.credentials import UserLogin, claims_of
from nats_client.errors import RequestRefused, SettingsError
from services.accounts.claims import Key
from services.accounts.roles import Role, load_roles
from services.embedded import embedded
from services.tokens import Tokens, check_key, mint
from tests.nats import NatsPy, NatsServer, end, numbered
from tests.node import node
from tests.realm import ROLES, Realm, TokenService
from tests.waiting import until


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    """An account with the roles "all" and "viewer"."""
    return Realm(tmp_path / "realm")


@pytest.fixture
def server(realm: Realm) -> Iterator[NatsServer]:
    """The server of the account."""
    with realm.server() as server:
        yield server


@pytest.fixture
def service(realm: Realm, server: NatsServer) -> Iterator[TokenService]:
    """The token service."""
    with realm.service(server) as service:
        yield service


def ask(realm: Realm, server: NatsServer, request: Any) -> dict[str, Any]:
    """The reply to the broker's request; for an error its "code" and "error"."""
    payload = request if isinstance(request, bytes) else json.dumps(request).encode()

    async def work(nc: Any) -> dict[str, Any]:
        reply = await nc.request("tokens.mint", payload, timeout=10)
        headers = reply.headers or {}
        if "Nats-Service-Error-Code" in headers:
            return {"code": headers["Nats-Service-Error-Code"], "error": headers["Nats-Service-Error"]}
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    return dict(as_user(server, realm.broker, work, "_INBOX_app.broker")[0])


def as_user(server: NatsServer, credentials: Any, work: Any, inbox_prefix: str) -> Any:
    """The result of `work`, called with a connection with `credentials`, and the errors that the server
    reported."""

    async def main() -> Any:
        errors: list[str] = []

        async def note(error: Exception) -> None:
            errors.append(str(error).lower())

        nc = NatsPy()
        try:
            await nc.connect(
                server.url,
                user_credentials=credentials,
                inbox_prefix=inbox_prefix,
                allow_reconnect=False,
                error_cb=note,
            )
            done = await work(nc)
            count = -1
            while count != len(errors):  # errors may arrive a little after the reply to a flush
                count = len(errors)
                await asyncio.sleep(0.5)
            return done, "\n".join(errors)
        finally:
            await end(nc)

    return asyncio.run(main())


def test_mint_carries_no_rights() -> None:
    """The JWT names account, user and expiry, is signed by the role's key, and permits nothing by itself."""
    signing, account, user = Key.new("account"), Key.new("account").public, Key.new("user").public
    before = time.time()
    minted = mint(Role("viewer", streams=("S",), services=("*",)), user, signing, account, 60)
    claims = claims_of(minted.jwt)
    assert claims["nats"] == {"version": 2, "type": "user", "issuer_account": account}
    assert (claims["iss"], claims["sub"], claims["name"]) == (signing.public, user, minted.name)
    assert before + 60 <= claims["exp"] <= time.time() + 61
    assert claims["exp"] == minted.expires
    assert 60 <= minted.lives <= 61
    reply = minted.reply()
    assert reply["inbox_prefix"] == f"_INBOX_app.{minted.name}"
    assert (reply["streams"], reply["services"], reply["pages"]) == (["S"], None, None)
    assert minted.jwt not in repr(minted)


def test_names_cannot_be_guessed() -> None:
    """Names have no common parts, so that a user cannot guess another user's inbox from its own."""
    arguments = (Role("a"), Key.new("user").public, Key.new("account"), Key.new("account").public, 60)
    names = [mint(*arguments).name for _ in range(50)]
    assert len({name[:8] for name in names}) == len({name[-8:] for name in names}) == 50


def test_only_a_public_user_key_is_signed() -> None:
    """Seeds, keys of other kinds, and keys with a wrong character are refused."""
    user = Key.new("user")
    assert check_key(user.public, "user") == user.public
    wrong = user.public[:10] + ("A" if user.public[10] != "A" else "B") + user.public[11:]
    for key in (wrong, user.seed, Key.new("account").public, user.public.lower(), "", "U", "Ü" * 56,
                user.public + " ", user.public[:-1]):  # fmt: skip
        with pytest.raises(SettingsError, match="is not the public key of a user"):
            check_key(key, "user")


def test_token_logs_in(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """With the key of the request, the token logs in, and has only the role's rights and its own inbox."""
    user = Key.new("user")
    token = ask(realm, server, {"role": "viewer", "key": user.public})
    assert (token["streams"], token["services"], token["pages"]) == (["S", "KV_b"], ["tester"], ["overview"])

    published = ["$JS.API.STREAM.INFO.OTHER", "$JS.API.STREAM.LIST", "tokens.mint", "s.a"]
    subscribed = ["_INBOX_app.>", "_INBOX_app.broker.>", "_INBOX.>", "s.>"]

    async def work(nc: Any) -> None:
        answer = await nc.request("$JS.API.STREAM.INFO.S", b"", timeout=5)
        assert json.loads(answer.data)["config"]["name"] == "S"
        for subject in published:
            await nc.publish(subject, b"")
        for subject in subscribed:
            await nc.subscribe(subject)
        await nc.flush()

    login = RawCredentials(UserLogin(token["jwt"], user.seed).text)
    errors = as_user(server, login, work, token["inbox_prefix"])[1]
    for what, subjects in (("publish", published), ("subscription", subscribed)):
        for subject in subjects:
            assert f'permissions violation for {what} to "{subject.lower()}"' in errors
    stolen = RawCredentials(UserLogin(token["jwt"], Key.new("user").seed).text)
    with pytest.raises(nats.errors.Error, match="Authorization"):
        as_user(server, stolen, work, token["inbox_prefix"])


REFUSED = [
    (b"", "400", "The request is not JSON."),
    (b"[" * 900, "400", "The request is not JSON."),
    (b"x" * 2000, "400", "The request has 2,000 bytes; 1,024 are allowed."),
    ([], "400", 'The request must be an object with the texts "role" and "key".'),
    ({"role": "viewer"}, "400", 'The request must be an object with the texts "role" and "key".'),
    ({"role": 5, "key": "U"}, "400", 'The request must be an object with the texts "role" and "key".'),
    ({"role": "viewer", "key": "U"}, "400", "'key' is not the public key of a user."),
    ({"role": "viewer", "key": "SUA"}, "400", "'key' is not the public key of a user."),
    ({"role": "boss", "key": "KEY"}, "403", "There is no role 'boss'."),
    ({"role": "../app", "key": "KEY"}, "403", "There is no role '../app'."),
    ({"role": "viewer", "key": "KEY", "expires": 9e9}, "400", "The keys are 'key', 'role'."),
    ({"role": "viewer", "key": "KEY", "name": "me"}, "400", "The keys are 'key', 'role'."),
    ({"role": "viewer", "key": "KEY", "pub": {"allow": [">"]}}, "400", "The keys are 'key', 'role'."),
]


def test_what_is_refused(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """Each refusal has its code and its message, and is logged."""
    for request, code, sentence in REFUSED:
        if isinstance(request, dict) and request.get("key") == "KEY":
            request = {**request, "key": Key.new("user").public}
        answer = ask(realm, server, request)
        assert answer["code"] == code, request
        assert sentence in answer["error"], request
        assert sentence in service.log()


def test_missing_signing_key(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """A role without a signing key gets no token, and the log says what to do; other roles get theirs."""
    file = realm.keys / "role-viewer.nk"
    seed = file.read_text()
    key = Key.new("user").public
    for wrong in (None, "", "SUAIBNOTASEED", realm.broker_key.seed):
        file.unlink() if wrong is None else file.write_text(wrong)
        answer = ask(realm, server, {"role": "viewer", "key": key})
        assert answer["code"] == "503"
        assert "There is no signing key for the role 'viewer'" in answer["error"]
        assert str(realm.keys) not in answer["error"]
        assert "jwt" in ask(realm, server, {"role": "all", "key": key})
    assert "role-viewer.nk' cannot be read (FileNotFoundError)." in service.log()
    assert "role-viewer.nk' is not the seed of an account (SA…)." in service.log()
    assert "Put the seed of the role's scoped signing key there" in service.log()
    file.write_text(seed)
    assert "jwt" in ask(realm, server, {"role": "viewer", "key": key})


def test_roles_are_read_anew(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """A removed role is refused at the next request; a broken file changes nothing, and the log says so."""
    wanted = {"role": "viewer", "key": Key.new("user").public}
    assert "jwt" in ask(realm, server, wanted)
    table = realm.roles.read_text()
    realm.roles.write_text("[roles.all]\n")
    assert ask(realm, server, wanted)["code"] == "403"
    realm.roles.write_text("[roles.viewer]\nstreams = 5\n")
    assert ask(realm, server, wanted)["code"] == "403"
    assert "must be a list of texts. The roles stay as they were." in service.log()
    realm.roles.unlink()
    assert ask(realm, server, wanted)["code"] == "403"
    assert "cannot be read (FileNotFoundError). The roles stay as they were." in service.log()
    realm.roles.write_text(table.replace("minutes = 5", "minutes = 1"))
    token = ask(realm, server, wanted)
    assert 60 <= token["lives"] <= 61


def test_log_tells_each_token_and_no_secret(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """The log has role, name and expiry of each token, and its public key, but no JWT and no seed."""
    user = Key.new("user")
    token = ask(realm, server, {"role": "viewer", "key": user.public})
    ask(realm, server, {"role": "viewer", "key": user.seed})
    name = token["inbox_prefix"].rpartition(".")[2]
    assert f"A token of the role viewer for {name}, key {user.public}, until 20" in service.log()
    secrets = [token["jwt"], user.seed, realm.account.seed, *(key.seed for key in realm.signing.values())]
    for secret in secrets:
        assert secret not in service.log()
        assert secret[-20:] not in service.log()


def test_comes_back(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """The service answers again after the server was down, ends on SIGTERM, and starts without the account's
    seed if it gets the account's public key."""
    wanted = {"role": "viewer", "key": Key.new("user").public}
    server.kill()
    server.start()
    service.wait()
    assert "jwt" in ask(realm, server, wanted)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    (realm.keys / "app.nk").unlink()
    service.start()
    assert service.process.wait(30) == 1
    assert "app.nk' cannot be read (FileNotFoundError)." in service.log().splitlines()[-1]
    service.start(realm.account.public)
    service.wait()
    assert "jwt" in ask(realm, server, wanted)


def test_broken_roles_at_the_start(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a broken roles file at the start, the service reports the error and does not start."""
    monkeypatch.setitem(os.environ, "LOOKBACK_ROLES", str(realm.roles))
    realm.roles.write_text("[roles.viewer]\nstreams = 5\n")
    with pytest.raises(SettingsError, match="must be a list of texts"):
        Tokens(realm.keys)
    realm.roles.write_text(ROLES.replace("{minutes}", "5"))
    assert load_roles(realm.roles).roles.keys() == {"all", "viewer"}
    with pytest.raises(SettingsError, match="is not the public key of an account"):
        Tokens(realm.keys, "SOMETHING")


def test_login_is_revoked_and_given_back(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """A service whose login was revoked answers again once the revocation is lifted."""
    server.configure(realm.config({"*": int(time.time()) + 1}))
    until(lambda: "Disconnected" in service.log() or "has ended" in service.log())
    server.configure(realm.config())
    service.wait()
    assert "jwt" in ask(realm, server, {"role": "viewer", "key": Key.new("user").public})
    assert service.process.poll() is None


def test_another_client_takes_on_a_role(realm: Realm, server: NatsServer, service: TokenService) -> None:
    """The npm client requests a token with its own key, and may do exactly what the role may."""
    server.publish("s.a", *numbered(3))
    with node("role.mjs", server.url, str(realm.broker), "viewer") as script:
        assert [script.line() for _ in range(3)] == ['{"n": 0}', '{"n": 1}', '{"n": 2}']
        assert [script.line() for _ in range(4)] == [
            "$JS.API.STREAM.INFO.OTHER: PermissionViolationError",
            "$JS.API.STREAM.PURGE.S: PermissionViolationError",
            "tokens.mint: PermissionViolationError",
            "_INBOX_app.>: PermissionViolationError",
        ]
    with node("role.mjs", server.url, str(realm.broker), "boss") as script:
        assert script.line() == "refused: There is no role 'boss'."


def test_embedded_server_hands_out_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the embedded server each role gets its token, and may list, read and find what it names."""
    monkeypatch.setenv("LOOKBACK_DATA_DIR", str(tmp_path / "data"))
    roles = tmp_path / "roles.toml"
    roles.write_text(
        '[roles.analyst]\nstreams = ["*"]\nservices = ["*"]\npublish = ["history.>"]\n'
        '[roles.viewer]\nstreams = ["METRICS"]\nbuckets = ["host"]\n'
    )
    monkeypatch.setenv("LOOKBACK_ROLES", str(roles))

    async def main() -> None:
        async with embedded() as logins:
            await asyncio.to_thread(check_roles, logins["broker"])

    asyncio.run(main())


def check_roles(broker: dict[str, str]) -> None:
    """Check the permissions of the roles, and of the broker itself."""
    with Client(Settings.load({**broker, "role": "viewer"})) as viewer:
        until(lambda: viewer.state.status == "connected", 60)
        until(lambda: [stream.name for stream in viewer.streams()] == ["METRICS"])
        until(lambda: [bucket.name for bucket in viewer.buckets()] == ["host"])
        feed = viewer.feed("METRICS", look_back="PT1M")
        until(lambda: len(feed.snapshot()) > 0)
        assert viewer.services().names == []
        with pytest.raises(RequestRefused):
            viewer.request("history.tables")
        assert viewer.rights.streams == ("METRICS", "KV_host")
    with Client(Settings.load({**broker, "role": "analyst"})) as analyst:
        until(lambda: analyst.state.status == "connected")
        until(lambda: {"history", "tokens"} <= set(analyst.services().names))
        assert "tables" in analyst.request("history.tables", timeout=30).value()
        with pytest.raises(RequestRefused):
            analyst.request("tokens.mint")
    with Client(Settings.load(broker)) as asking:
        until(lambda: asking.state.status == "connected")
        for ask_for in (asking.streams, lambda: asking.request("history.tables")):
            with pytest.raises(RequestRefused):
                ask_for()
