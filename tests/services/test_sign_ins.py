"""How long a sign-in is valid, and which rights it gives, with a real provider."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from nats_client.connection.credentials import claims_of
from services import sign_ins
from services.sign_ins import SignIn, SignIns
from tests.provider import CLIENT_SECRET, Provider, provider

ROLES = """
[roles.operator]
groups = ["operators"]
streams = ["*"]

[roles.viewer]
groups = ["viewers"]
streams = ["METRICS"]
"""
BACK = "http://127.0.0.1:1/oauth2callback"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider."""
    with provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A roles file. Checks that run every half minute run every fifth of a second here."""
    monkeypatch.setenv("LOOKBACK_SIGN_IN_CHECK", "0.2")
    monkeypatch.setattr(sign_ins, "ROUND", 0.02)
    monkeypatch.setattr(sign_ins, "LOOK_EVERY", 0.1)
    file = tmp_path / "roles.toml"
    file.write_text(ROLES)
    return file


def metadata(people: Provider) -> str:
    """The URL of the provider's metadata."""
    return f"{people.url}/.well-known/openid-configuration"


def signed_in(people: Provider, sub: str) -> tuple[dict[str, Any], str]:
    """The claims of an ID token of `sub`, and an access token, as a browser and an app get them."""
    asked = {
        "client_id": "lookback",
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": "openid profile",
    }
    answer = httpx.post(f"{people.url}/oauth2/authorize", params=asked, data={"sub": sub})
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    tokens = httpx.post(
        f"{people.url}/oauth2/token",
        data={"grant_type": "authorization_code", "code": code, "redirect_uri": BACK},
        auth=("lookback", CLIENT_SECRET),
    ).json()
    return claims_of(tokens["id_token"]), tokens["access_token"]


def watch(all_of_them: SignIns, work: Callable[[Callable[[Callable[[], Any]], Any]], Any]) -> None:
    """Run `work` while sign-ins are checked. Its argument waits for a condition."""

    async def until(holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            await asyncio.sleep(0.02)

    async def run() -> None:
        async with all_of_them.watched():
            await work(until)

    asyncio.run(run())


def role(all_of_them: SignIns, sign_in: SignIn) -> str | None:
    """The name of the role that a sign-in gives; None without a role."""
    found = all_of_them.standing(sign_in).role
    return found.name if found else None


def test_ended_before_it_was_seen(roles: Path) -> None:
    """A sign-in that was ended before this process first saw it is not valid."""
    here = SignIns(None, roles)
    here.end("key", "The end.")
    later = here.seen("key", lambda: {"groups": ["viewers"], "exp": time.time() + 60}, "token")
    assert here.standing(later).why == "The end."
    assert here.standing(later).rights is None


def test_groups_change_and_tokens_are_revoked(people: Provider, roles: Path) -> None:
    """The provider's current groups count, not those in the ID token. A refusal ends the sign-in, even if the
    same cookies come again."""
    people.person("ada", "operators")
    claims, token = signed_in(people, "ada")
    found = SignIns(metadata(people), roles)
    ada = found.seen("ada", lambda: claims, token)
    assert role(found, ada) == "operator"

    async def work(until: Any) -> None:
        people.person("ada", "viewers")
        await until(lambda: role(found, ada) == "viewer")
        people.person("ada")
        await until(lambda: role(found, ada) is None)
        assert found.standing(ada).why is None
        people.person("ada", "operators")
        await until(lambda: role(found, ada) == "operator")
        people.revoke("ada")
        await until(lambda: found.standing(ada).why == sign_ins.REVOKED)

    watch(found, work)
    assert found.seen("ada", lambda: claims, token) is ada
    assert found.standing(ada).rights is None
    assert "operator" not in repr(ada)
    assert token not in repr(ada)


def test_provider_that_is_away(people: Provider, roles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the provider does not answer, a sign-in stays valid for the grace period. Afterwards, the
    provider's next answer decides."""
    monkeypatch.setenv("LOOKBACK_SIGN_IN_GRACE", "2")
    people.person("bob", "viewers")
    claims, token = signed_in(people, "bob")
    found = SignIns(metadata(people), roles)
    bob = found.seen("bob", lambda: claims, token)

    async def work(until: Any) -> None:
        await until(lambda: bob.userinfo)
        people.stop()
        await until(lambda: bob.failed)
        confirmed = bob.confirmed
        while time.monotonic() < confirmed + 1.5:
            assert role(found, bob) == "viewer"
            await asyncio.sleep(0.05)
        await until(lambda: found.standing(bob).why == sign_ins.UNREACHABLE)
        assert found.standing(bob).passing
        await asyncio.to_thread(people.start)
        people.person("bob", "viewers")
        # After its restart the provider has no tokens, so it refuses this one.
        await until(lambda: found.standing(bob).why == sign_ins.REVOKED)

    watch(found, work)


def test_without_an_access_token(people: Provider, roles: Path) -> None:
    """Without an access token, the ID token is valid until it expires."""
    people.person("cleo", "viewers")
    claims, _ = signed_in(people, "cleo")
    found = SignIns(metadata(people), roles)
    assert role(found, found.seen("cleo", lambda: claims, None)) == "viewer"
    old = {**claims, "iat": claims["iat"] - 7200, "exp": time.time() - 1}
    assert found.standing(found.seen("old", lambda: old, None)).why == sign_ins.EXPIRED
    timeless = {name: value for name, value in claims.items() if name != "exp"}
    assert found.standing(found.seen("timeless", lambda: timeless, None)).why == sign_ins.EXPIRED


def test_groups_in_the_id_token_only(people: Provider, roles: Path) -> None:
    """Groups that are missing in userinfo are taken from the ID token until it expires."""
    people.person("dora", "viewers")
    claims, token = signed_in(people, "dora")
    people._call("PUT", "/users/dora", {"name": "Dora"})
    found = SignIns(metadata(people), roles)
    dora = found.seen("dora", lambda: claims, token)
    old = found.seen("old", lambda: {**claims, "exp": time.time() - 1}, token)

    async def work(until: Any) -> None:
        await until(lambda: dora.userinfo and old.userinfo)

    watch(found, work)
    assert role(found, dora) == "viewer"
    assert found.standing(old).why == sign_ins.EXPIRED


def test_somebody_elses_token(people: Provider, roles: Path) -> None:
    """An access token of another person than the ID token's gives no sign-in."""
    people.person("eva", "viewers")
    people.person("eve", "operators")
    claims, _ = signed_in(people, "eva")
    _, token = signed_in(people, "eve")
    found = SignIns(metadata(people), roles)
    eva = found.seen("eva", lambda: claims, token)

    async def work(until: Any) -> None:
        await until(lambda: found.standing(eva).why == sign_ins.OTHER_PERSON)

    watch(found, work)


def test_roles_file(people: Provider, roles: Path) -> None:
    """A changed file counts at once and gives other rights, and a broken one changes nothing. Without a file,
    nobody gets a role."""
    people.person("finn", "viewers")
    claims, _ = signed_in(people, "finn")
    found = SignIns(metadata(people), roles)
    finn = found.seen("finn", lambda: claims, None)
    before = found.standing(finn).rights
    write = roles.write_text
    assert before in found.in_force()

    async def work(until: Any) -> None:
        write("[roles.viewer")
        await asyncio.sleep(0.5)
        assert found.standing(finn).rights == before
        write(ROLES.replace("METRICS", "OTHERS"))
        await until(lambda: found.standing(finn).rights != before)
        assert role(found, finn) == "viewer"
        assert before not in found.in_force()
        write(ROLES.replace("viewer", "guest"))
        await until(lambda: role(found, finn) is None)

    watch(found, work)
    nothing = SignIns(metadata(people), roles.with_name("missing.toml"))
    assert nothing.standing(nothing.seen("finn", lambda: claims, None)).why == sign_ins.NO_ROLES
