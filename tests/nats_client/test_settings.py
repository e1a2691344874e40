"""Settings: what is wrong is named, secrets never are."""

from pathlib import Path

import pytest

from nats_client import Settings
from nats_client.errors import SettingsError
from nats_client.settings import without_credentials

SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"ulr": "nats://a:1"}, "Did you mean 'url'?"),
        ({"url": ""}, None),
        ({"url": 4222}, "The setting 'url' must be a text"),
        ({"url": f"http://me:{SECRET}@host:1"}, "The setting 'url' has 'http://host:1'"),
        ({"url": f"nats://me:{SECRET}@host:port"}, "unreadable port"),
        ({"url": "nats://a:1, wss://b:2"}, "mixes websocket and TCP"),
        ({"password": SECRET}, "'password' needs 'user'"),
        ({"user": "me", "password": SECRET, "token": SECRET}, "'token' and 'user' exclude each other"),
        ({"credentials": "/nowhere/a.creds"}, "'credentials' names '/nowhere/a.creds'"),
        ({"tls_key": "/nowhere/key"}, "'tls_key' needs 'tls_cert'"),
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
    """What the environment says overrides the file."""
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
    assert SECRET not in repr(settings).replace(settings.url, "")
    assert settings.shown == "nats://host:1"
    assert without_credentials(f"nats://{SECRET}@host:1") == "nats://host:1"


def test_broken_credentials_file(tmp_path: Path) -> None:
    """A credentials file without its two parts is refused before anything waits for it."""
    file = tmp_path / "me.creds"
    file.write_text("-----BEGIN USER NKEY SEED-----\nSUAX\n")
    with pytest.raises(SettingsError, match="no line with 'BEGIN NATS USER JWT'"):
        Settings(credentials=str(file)).login()


def test_nkey_from_a_file(tmp_path: Path) -> None:
    """An nkey may stand in a file; what is no seed is refused without being shown."""
    file = tmp_path / "me.nk"
    file.write_text("SUAGOODSEED\n")
    assert Settings(nkey=str(file)).login() == {"nkeys_seed_str": "SUAGOODSEED"}
    file.write_text(SECRET)
    with pytest.raises(SettingsError) as caught:
        Settings(nkey=str(file)).login()
    assert SECRET not in str(caught.value)
