"""docs/settings.md lists every setting as the code defines it, and all settings are read in one way."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from nats_client.connection.settings import ENVIRONMENT, Settings, kind_of
from nats_client.environment import SETTINGS, Kind, Setting, check
from nats_client.errors import SettingsError
from tests.running import ROOT

TEXT = (ROOT / "docs" / "settings.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| for ")
]
ROOMS = ("components", "nats_client", "services")
VARIABLES = {each.variable: each for each in SETTINGS}
WRONG = {
    "size": ("many", "0", "-1", "nan", "1 KB of 2", "9" * 30, "2 PiB"),
    "whole number": ("", "0", "-1", "many", "1.5", "1e3", "9" * 30),
    "number": ("", "0", "-1", "fast", "nan", "inf", "1e30"),
    "true or false": ("maybe", "2"),
    "URL": ("dashboards.example.com", "https://dashboards.example.com", "wss://user:secret@host"),
}
"""Values that no setting of each type can have."""


def default(kind: Kind[Any], value: object, otherwise: str) -> str:
    """A default as the table shows it; text that can be entered literally is set as code."""
    if value is None:
        return f"`{otherwise}`" if otherwise in VARIABLES else otherwise
    return f"`{kind.text(value)}`" if kind.type in ("text", "path", "URL") else kind.text(value)


def test_the_table_is_what_the_code_has() -> None:
    """The table has exactly the settings in the code, in the same order, with group, name, variable, type,
    unit and default, and a description of each."""
    variables = {name: variable for variable, name in ENVIRONMENT.items()}
    connection = [
        ("NATS", f"`{each.name}`", variables[each.name], kind_of(each.name), each.default, "none")
        for each in fields(Settings)
    ]
    others = [(each.whose, "", each.variable, each.kind, each.default, each.otherwise) for each in SETTINGS]
    wanted = [
        [whose, name, f"`{variable}`", kind.type, kind.unit, default(kind, value, otherwise)]
        for whose, name, variable, kind, value, otherwise in connection + others
    ]
    assert [row[:-1] for row in ROWS] == wanted
    assert all(len(row[-1].split()) > 2 for row in ROWS)
    assert TEXT.count("|---") == len(ROWS[0])


def test_secrets_are_called_so() -> None:
    """The table marks exactly the secrets of the environment as secrets."""
    said = {row[2].strip("`") for row in ROWS if row[-1].endswith("A secret.")}
    assert said == {each.variable for each in SETTINGS if each.secret}


def test_there_is_one_way_to_read_a_setting() -> None:
    """Only the files that declare settings contain names of variables, and each setting is used."""
    declaring = {ROOT / "nats_client" / "environment.py", ROOT / "nats_client" / "connection" / "settings.py"}
    files = {ROOT / "app.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))}
    texts = {file: file.read_text() for file in files - declaring}
    named = {
        (file.name, name)
        for file, text in texts.items()
        for name in re.findall(r"""["'](LOOKBACK_[A-Z_]+|NATS_SERVER_BIN)["']""", text)
    }
    assert not named
    text = (ROOT / "nats_client" / "environment.py").read_text()
    for constant, variable in re.findall(r"^([A-Z_]+) = Setting\(\s*\"([A-Z_]+)\"", text, re.MULTILINE):
        assert variable in VARIABLES
        assert any(re.search(rf"\b{constant}\b", other) for other in texts.values()), constant
    assert len(VARIABLES) == len(SETTINGS) == text.count(" = Setting(")


@pytest.mark.parametrize(
    "setting",
    [each for each in SETTINGS if each.kind.type in WRONG],
    ids=lambda each: each.variable,
)
def test_what_it_cannot_be_is_named(setting: Setting[Any]) -> None:
    """An invalid value is refused with the setting's name, the value, and what to set; an empty value counts
    as not set."""
    assert setting.read({}) == setting.read({setting.variable: ""}) == setting.default
    for value in filter(None, WRONG[setting.kind.type]):
        with pytest.raises(SettingsError, match=r"Set it to ") as found:
            check({setting.variable: value})
        assert f"The setting {setting.variable!r} is {value!r}." in str(found.value)


@pytest.mark.parametrize(
    ("variable", "value", "read", "shown"),
    [
        ("LOOKBACK_SQL_MEMORY", "2 GiB", 2 << 30, "2 GiB"),
        ("LOOKBACK_SQL_MEMORY", "1500 MB", 1_500_000_000, "1,500 MB"),
        ("LOOKBACK_SQL_MEMORY", "1536MiB", 1536 << 20, "1,536 MiB"),
        ("LOOKBACK_HISTORY_BYTES", "1", 1, "1 bytes"),
        ("LOOKBACK_HISTORY_ROWS", "100_000", 100_000, "100,000 rows"),
        ("LOOKBACK_SLOW_PAGE", "2.5", 2.5, "2.5 seconds"),
        ("LOOKBACK_BUILT_IN", "0", False, "false"),
        ("LOOKBACK_BUILT_IN", "Yes", True, "true"),
        ("LOOKBACK_PAGES", "/srv/pages", Path("/srv/pages"), "/srv/pages"),
        ("LOOKBACK_PAGES", "~/pages", Path.home() / "pages", str(Path.home() / "pages")),
        ("LOOKBACK_WEBSOCKET", "wss://[::1]:8443/", "wss://[::1]:8443", "wss://[::1]:8443"),
        ("LOOKBACK_METRICS_TOKEN", "0", "0", "0"),
    ],
)
def test_values_are_read(variable: str, value: str, read: object, shown: str) -> None:
    """A text becomes a value of the setting's type, which is shown with its unit."""
    setting = VARIABLES[variable]
    found = setting.read({variable: value})
    assert (found, type(found)) == (read, type(read))
    assert setting.kind.shown(found) == shown


def test_defaults_can_be_set() -> None:
    """Each default in the table can be set in the environment, and gives the same value."""
    for each in SETTINGS:
        if each.default is not None and each.kind.type != "path":
            text = each.kind.text(each.default).replace(",", "")
            assert each.read({each.variable: text}) == each.default, each.variable


@pytest.mark.parametrize(
    "command",
    [
        ["streamlit", "run", "app.py", "--server.headless", "true", "--server.port", "0"],
        ["services.history", "nats://127.0.0.1:1", "history.duckdb"],
    ],
    ids=["app", "history"],
)
def test_a_program_ends_with_one_line(command: list[str], tmp_path: Path) -> None:
    """A program with an invalid setting ends at its start with the reason, and without a traceback."""
    if command[-1] == "history.duckdb":
        command = [*command[:-1], str(tmp_path / command[-1])]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "LOOKBACK_SQL_MEMORY": "much"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    said = "The setting 'LOOKBACK_SQL_MEMORY' is 'much'. Set it to a size of at least 16 MiB, such as '2 GiB'"
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("feed_rows", "1000", 1000),
        ("feed_rows", 7, 7),
        ("bucket_keys", "100_000", 100_000),
        ("feed_memory", "64 MiB", 64 << 20),
        ("idle_after", "2.5", 2.5),
        ("idle_after", 60, 60.0),
    ],
)
def test_numbers_are_read(name: str, value: object, read: float) -> None:
    """In the secrets and in the environment, a number may be a number or a text."""
    assert getattr(Settings.load({name: value}, {}), name) == read
    variable = next(variable for variable, setting in ENVIRONMENT.items() if setting == name)
    assert getattr(Settings.load({}, {variable: str(value)}), name) == read


@pytest.mark.parametrize("name", ["feed_rows", "bucket_keys", "idle_after", "feed_memory"])
@pytest.mark.parametrize("value", ["", "0", "-1", "many", "nan", "inf", True, None, [1], 0])
def test_what_is_no_number_is_named(name: str, value: object) -> None:
    """A value that is no number above zero is refused with the name of the setting."""
    with pytest.raises(SettingsError, match=name):
        Settings.load({name: value}, {})
