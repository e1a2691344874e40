"""Settings: errors name the setting that is wrong, and never contain a secret."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_client import Settings
from nats_client.connection.settings import login_in, without_credentials
from nats_client.errors import SettingsError
from services.accounts.claims import Key, signed

SECRET = "hush-hush"
SHOWN = "".join(map(chr, range(128)))
"""Characters of our own messages. Random secrets here contain none of them."""


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"ulr": "nats://a:1"}, "Did you mean 'url'?"),
        ({"url": ""}, None),
        ({"url": 4222}, "The setting 'url' must be a string"),
        ({"url": f"ftp://me:{SECRET}@host:1"}, "The setting 'url' contains 'ftp://host:1'"),
        ({"url": f"http://me:{SECRET}@host:8222"}, "'http://host:8222', an HTTP address"),
        ({"url": "https://host"}, "Use tls://host:4222, or wss://host:port"),
        ({"inbox_prefix": "_INBOX.>"}, "'inbox_prefix' is '_INBOX.>'. Set it to a subject"),
        ({"url": f"nats://me:{SECRET}@host:port"}, "invalid host or port"),
        ({"url": "nats://a:1, wss://b:2"}, "mixes websocket and TCP"),
        ({"password": SECRET}, "'password' also needs 'user'"),
        ({"user": "me", "password": SECRET, "token": SECRET}, "'token' and 'user' cannot be combined"),
        ({"credentials": "/nowhere/a.creds"}, "credentials: there is no file '/nowhere/a.creds'"),
        ({"tls_key": "/nowhere/key"}, "'tls_key' also needs 'tls_cert'"),
    ],
)
def test_what_is_wrong_is_named(mapping: dict[str, object], said: str | None) -> None:
    """Each mistake names its setting, and no message has a secret in it."""
    if said is None:
        assert Settings.load(mapping, {}).servers == ("nats://127.0.0.1:4222",)
        return
    with pytest.raises(SettingsError) as caught:
        Settings.load(mapping, {})
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_environment_wins() -> None:
    """The environment overrides the file."""
    settings = Settings.load(
        {"url": "nats://file:1", "user": "me"}, {"NATS_URL": "env:2", "NATS_PASSWORD": "x"}
    )
    assert settings.servers == ("nats://env:2",)
    assert settings.login() == {"user": "me", "password": "x"}


def test_several_servers() -> None:
    """Servers come as a list or separated by commas; ports are filled in."""
    assert Settings(url="a, tls://b:5").servers == ("nats://a:4222", "tls://b:5")
    assert Settings.load({"url": ["nats://a:1", "nats://b:2"]}, {}).servers == ("nats://a:1", "nats://b:2")


def test_nothing_secret_is_shown() -> None:
    """Neither repr nor the shown address carries user or password."""
    settings = Settings(url=f"nats://me:{SECRET}@host:1", password=SECRET, user="me")
    assert SECRET not in repr(settings)
    assert "nats://host:1" in repr(settings)
    assert settings.shown == "nats://host:1"
    assert without_credentials(f"nats://{SECRET}@host:1") == "nats://host:1"


@pytest.mark.parametrize(
    "password", ["p@ss/1", "a?b#c", "a:b://c", "50%", "100%zz", "[x]", "a b", "ü€", "@", "p@1.2.3.4/"]
)
@pytest.mark.parametrize("user", ["u", "me@here", "dom/me", "ü"])
def test_login_in_the_url(user: str, password: str) -> None:
    """A user and password in the URL are read correctly, plain or percent-encoded, and no part of them is
    shown."""
    for url in (
        f"nats://{user}:{password}@host:1",
        f"nats://{quote(user, safe='')}:{quote(password, safe='')}@host:1",
        f"tls://other:2, nats://{user}:{password}@host:1",
        f"{user}:{password}@host:1",
    ):
        settings = Settings(url=url)
        parts = urlsplit(settings.servers[-1])
        assert login_in(parts) == {"user": user, "password": password}
        assert (parts.hostname, parts.port) == ("host", 1)
        assert settings.shown.endswith("nats://host:1")
        assert without_credentials(url.rpartition(", ")[2]) == "nats://host:1"
        assert settings.login_setting == "url (user and password in it)"
    assert login_in(urlsplit(Settings(url=f"nats://{quote(password, safe='')}@host").servers[0])) == {
        "token": password
    }


@given(
    st.text(st.characters(exclude_characters=SHOWN, exclude_categories=["Cs"]), min_size=1), st.integers(0, 5)
)
def test_no_part_of_a_login_is_shown(secret: str, form: int) -> None:
    """No part of a login before an @ appears in an error, the shown address or repr()."""
    url = [
        f"nats://u:{secret}@host:1",
        f"nats://{secret}@host:1",
        f"nats://{secret}:x@host:1,nats://u:{secret}@host:1",
        f"{secret}://u@host:1",
        f"nats://u:{secret}@host:port",
        f"nats://u:{secret}@host:1/{secret}",
    ][form]
    try:
        settings = Settings(url=url)
        text = settings.shown + repr(settings) + without_credentials(url)
    except SettingsError as error:
        text = str(error)
    assert not set(secret) - {" ", ","} & set(text) - set(SHOWN)


@pytest.mark.parametrize(
    "url",
    [
        f"nats://u:a,{SECRET}@host:1",
        f"nats://u:1,{SECRET}@host:1",
        f"nats://u:{SECRET}",
        f"nats://host:1/{SECRET}",
        f"nats://host:1?{SECRET}",
        f"nats://host:1#{SECRET}",
        f"nats://u:%ff{SECRET}@host:1",
        f"{SECRET}://host:1",
        f"nats://u:x@[{SECRET}",
        f"nats://u:x@[{SECRET}]:1",
    ],
)
def test_what_cannot_be_read_is_not_shown(url: str) -> None:
    """A URL that cannot be parsed is refused, and the error shows no part of its secret."""
    with pytest.raises(SettingsError) as caught:
        Settings(url=url)
    assert SECRET not in str(caught.value)
    assert SECRET not in without_credentials(url)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("[connections.nats]", "is not a credentials file"),
        ("eyJ0eXAi.b.c", "It contains only a user JWT: set 'jwt' to it"),
        ("{seed}", "It contains only a seed: set 'nkey' to it"),
        ("{seed part}", "has no complete user JWT"),
        ("{jwt part}", "has no complete seed"),
        ("{jwt part}{cut seed}", "has no complete seed"),
        ("{jwt part}{other seed}", "the user JWT and the seed belong to different users"),
        ("{jwt part}{account seed}", "does not contain a valid user seed"),
        ("{account jwt}{seed part}", "contains a JWT of type 'account'"),
        ("{broken jwt}{seed part}", "does not contain a valid JWT"),
    ],
)
def test_credentials_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    """A mistake in a credentials file is reported before a connection is attempted, without its secrets."""
    account = Key.new("account")
    user = Key.new("user")
    public, seed = user.public, user.seed
    jwt = signed(account, public, "me", {"type": "user"})
    begin, end = "-----BEGIN {}-----\n", "\n------END {}------\n"

    def part(name: str, content: str) -> str:
        return begin.format(name) + content + end.format(name)

    parts = {
        "{seed}": seed,
        "{seed part}": part("USER NKEY SEED", seed),
        "{jwt part}": part("NATS USER JWT", jwt),
        "{cut seed}": part("USER NKEY SEED", seed)[:-30],
        "{other seed}": part("USER NKEY SEED", Key.new("user").seed),
        "{account seed}": part("USER NKEY SEED", account.seed),
        "{account jwt}": part("NATS USER JWT", signed(account, public, "x", {"type": "account"})),
        "{broken jwt}": part("NATS USER JWT", jwt.replace(".", "")),
    }
    for name, content in parts.items():
        text = text.replace(name, content)
    file = tmp_path / "me.creds"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings(credentials=str(file)).login()
    assert said in str(caught.value)
    assert str(caught.value).startswith("credentials: ")
    assert not any(secret in str(caught.value) for secret in (seed, jwt, account.seed))


def test_unreadable_credentials_file() -> None:
    """A file that cannot be read is reported as such."""
    with pytest.raises(SettingsError, match=r"credentials: cannot read the file '/proc/self/mem'"):
        Settings(credentials="/proc/self/mem").login()


def test_nkey_from_a_file(tmp_path: Path) -> None:
    """An nkey may be in a file, alone or as nsc writes it. Content that is not a seed is refused, and not
    shown."""
    seed = Key.new("user").seed
    file = tmp_path / "me.nk"
    for text in (f"{seed}\n", f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"):
        file.write_text(text)
        assert Settings(nkey=str(file)).login() == {"nkeys_seed_str": seed}
    file.write_text(SECRET)
    with pytest.raises(SettingsError) as caught:
        Settings(nkey=str(file)).login()
    assert SECRET not in str(caught.value)


def test_jwt_and_seed(tmp_path: Path) -> None:
    """A JWT is given as text or as a file, and needs its seed. The seed of another user is reported as
    such."""
    account = Key.new("account")
    user = Key.new("user")
    public, seed = user.public, user.seed
    jwt = signed(account, public, "me", {"type": "user"})
    file = tmp_path / "me.jwt"
    file.write_text(jwt + "\n")
    (tmp_path / "me.nk").write_text(seed)
    logins = [
        Settings(jwt=text, nkey=key).login()["user_credentials"]
        for text in (jwt, str(file))
        for key in (seed, str(tmp_path / "me.nk"))
    ]
    assert len({str(login) for login in logins}) == 1
    assert jwt in str(logins[0])
    assert Settings(jwt=jwt, nkey=seed).login_setting == "jwt"
    other = Key.new("user").seed
    with pytest.raises(SettingsError, match="jwt, nkey: the user JWT and the seed belong to different users"):
        Settings(jwt=jwt, nkey=other).login()
    with pytest.raises(SettingsError, match="'jwt' also needs 'nkey'"):
        Settings(jwt=jwt)
    with pytest.raises(SettingsError, match="'credentials' and 'jwt' cannot be combined"):
        Settings(jwt=jwt, nkey=seed, credentials=str(file))


@pytest.mark.parametrize("setting", ["credentials", "jwt", "tls_ca"])
def test_secret_in_the_wrong_place(setting: str) -> None:
    """A seed given where a path is expected is not shown."""
    seed = Key.new("user").seed
    given: dict[str, Any] = {setting: seed, **({"nkey": seed} if setting == "jwt" else {})}
    with pytest.raises(SettingsError) as caught:
        Settings(**given).login()
    assert seed not in str(caught.value)
    assert setting in str(caught.value)


def test_flag() -> None:
    """A boolean setting is read from a file or the environment; any other value is an error."""
    assert Settings.load({"tls_handshake_first": True}, {}).tls_handshake_first
    assert Settings.load({}, {"NATS_TLS_HANDSHAKE_FIRST": "true"}).tls_handshake_first
    assert not Settings.load({}, {"NATS_TLS_HANDSHAKE_FIRST": "0"}).tls_handshake_first
    with pytest.raises(SettingsError, match=r"'tls_handshake_first' is 'perhaps'\. Set it to true or false"):
        Settings.load({"tls_handshake_first": "perhaps"}, {})
