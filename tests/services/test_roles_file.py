"""The roles file: what it permits, and an error for each mistake in it."""

from pathlib import Path

import pytest

from nats_client.environment import ROLES
from nats_client.errors import SettingsError
from services.accounts.roles import Role, load_roles

MISTAKES = [
    ("minutes = 5", "There is no role. Add one, such as [roles.viewer]."),
    ("[roles]", "There is no role"),
    ("roles = 5", "There is no role"),
    ("minute = 5\n[roles.a]", "Unknown key 'minute'. Did you mean 'minutes'?"),
    ("claim = 5\n[roles.a]", "'claim' must be a text"),
    ("claim = ''\n[roles.a]", "'claim' must be a text"),
    ("minutes = 'five'\n[roles.a]", "'minutes' must be a number from 0.05 to 1440"),
    ("minutes = true\n[roles.a]", "'minutes' must be a number"),
    ("minutes = nan\n[roles.a]", "'minutes' must be a number"),
    ("minutes = 0\n[roles.a]", "'minutes' must be a number"),
    ("minutes = 2000\n[roles.a]", "'minutes' must be a number"),
    ("[roles]\na = 1", "The role 'a' is not a table. Write it as [roles.a]."),
    ("[roles.'a/../b']", "The role 'a/../b' must have a name of letters, digits and underscores"),
    ("[roles.'']", "The role '' must have a name"),
    ("[roles.a]\nstream = ['S']", "The role 'a' has 'stream'. Did you mean 'streams'?"),
    ("[roles.a]\nname = ['S']", "The role 'a' has 'name'."),
    ("[roles.a]\nstreams = 'S'", "'streams' of the role 'a' must be a list of texts"),
    ("[roles.a]\nstreams = [1]", "'streams' of the role 'a' must be a list of texts"),
    ("[roles.a]\npages = ['']", "'pages' of the role 'a' must be a list of texts"),
    ("[roles.a]\nstreams = ['S.>']", "'S.>' is not a valid stream name"),
    ("[roles.a]\nmanage = ['a b']", "'a b' is not a valid stream name"),
    ("[roles.a]\nbuckets = ['*']", "'*' is not a valid bucket name"),
    ("[roles.a]\nservices = ['a.b']", "'a.b' is not a valid service name"),
    ("[roles.a]\npublish = ['a..b']", "The subject 'a..b' is not valid"),
    ("[roles.a]\npublish = ['tokens.mint']", "may not publish to 'tokens.mint': anybody who may request"),
    ("[roles.a]\npublish = ['*.mint']", "may not publish to '*.mint': anybody who may request"),
    ("[roles.a]\npublish = ['>']", "may not publish to '>'"),
    ("[roles.a]\npublish = ['_INBOX_app.x.y']", "may not publish to '_INBOX_app.x.y': replies to others"),
    ("[roles.a]\npublish = ['$JS.data.API.>']", "may not publish to '$JS.data.API.>': JetStream's API"),
    ("[roles.a]\npublish = ['$SYS.REQ.>']", "may not publish to '$SYS.REQ.>': it belongs to the server"),
    ("[roles.a", "is not valid TOML"),
    ("\udcff", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES)
def test_mistake_has_its_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """The error names the mistake and the file."""
    file = tmp_path / "roles.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as error:
        load_roles(file)
    assert sentence in str(error.value)
    assert str(file) in str(error.value)


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names the file; the error for a missing file names it."""
    monkeypatch.setenv("LOOKBACK_ROLES", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match=r"none\.toml' cannot be read \(FileNotFoundError\)"):
        load_roles()


def test_first_role_with_one_of_the_groups() -> None:
    """The first matching role in the file counts; without a matching group there is no role."""
    roles = load_roles(ROLES.default)
    for groups, name in (
        (["lookback-viewers"], "viewer"),
        (["lookback-viewers", "other", "lookback-operators"], "operator"),
        (["lookback-analysts", "lookback-viewers"], "analyst"),
    ):
        role = roles.of(groups)
        assert role is not None
        assert role.name == name
    assert roles.of([]) is None
    assert roles.of(["viewer", "*"]) is None


def test_everybody_may_have_a_role(tmp_path: Path) -> None:
    """The group "*" gives a role to anybody who has no other role."""
    file = tmp_path / "roles.toml"
    file.write_text('[roles.boss]\ngroups = ["bosses"]\n[roles.guest]\ngroups = ["*"]')
    roles = load_roles(file)
    assert [roles.of(groups).name for groups in ([], ["bosses"], ["x"])] == ["guest", "boss", "guest"]  # type: ignore[union-attr]


def test_a_role_without_rights_may_publish_nothing() -> None:
    """A role without rights denies everything, because an empty list of permitted subjects would permit
    everything."""
    assert Role("nobody").permissions()["pub"] == {"deny": [">"]}


def test_least_privilege() -> None:
    """A viewer's permissions name its streams one by one, and contain no list of streams, purge, deletion or
    wildcard."""
    viewer = load_roles(ROLES.default).roles["viewer"]
    allowed = viewer.permissions("$JS.data.API")["pub"]["allow"]
    assert viewer.readable == ("METRICS", "KV_host", "KV_thresholds")
    assert "$JS.data.API.STREAM.INFO.METRICS" in allowed
    assert not [subject for subject in allowed if subject.startswith("$JS.API")]
    for subject in allowed:
        assert any(name in subject for name in viewer.readable), subject
        assert not any(word in subject for word in ("PURGE", "MSG.DELETE", "STREAM.LIST", "NAMES", "UPDATE"))
    assert viewer.permissions()["sub"]["allow"] == ["_INBOX_app.{{name()}}.>"]


def test_a_browser_lists_no_consumers() -> None:
    """A role for web pages, whose token is in a browser, may not list consumers, because lists show others'
    inboxes. A role of the app may list those of its streams."""
    roles = load_roles(ROLES.default).roles
    lists = {
        name: [each for each in role.permissions()["pub"].get("allow", ()) if "CONSUMER.LIST" in each]
        for name, role in roles.items()
    }
    assert lists["comparison"] == []
    assert "$JS.API.CONSUMER.LIST.METRICS" in lists["viewer"]
