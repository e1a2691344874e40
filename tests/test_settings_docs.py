"""docs/settings.md holds every setting, as the code has it."""

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields

import pytest

from components.inside.page_runs import SLOW, SLOW_PAGE
from nats_client.connection.settings import ENVIRONMENT, FLAGS, NUMBERS, SECONDS, SIZES, Settings
from tests.running import ROOT

TEXT = (ROOT / "docs" / "settings.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| `")
]
ROOMS = ("components", "nats_client", "services")


def kind(name: str) -> str:
    """The type of a setting in words."""
    for names, word in (
        (FLAGS, "true or false"),
        (SIZES, "size"),
        (NUMBERS, "whole number"),
        (SECONDS, "seconds"),
    ):
        if name in names:
            return word
    return "text"


def default(value: object, name: str) -> str:
    """A default in words."""
    if value in (None, MISSING):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and name in SIZES:
        return f"{value >> 20} MiB"
    return (
        f"{value:,g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else f"`{value}`"
    )


def test_each_setting_has_its_row() -> None:
    """Name, type, default and environment variable of each setting of NATS are in the table, in the code's
    order."""
    variables = {name: variable for variable, name in ENVIRONMENT.items()}
    wanted = [
        [f"`{each.name}`", kind(each.name), default(each.default, each.name), f"`{variables[each.name]}`"]
        for each in fields(Settings)
    ]
    found = [row[:4] for row in ROWS if row[0].strip("`").islower()]
    assert found == wanted


def test_each_variable_has_its_row() -> None:
    """Every environment variable that the code reads is in a table, and none that it does not."""
    files = [ROOT / "app.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    read = {
        name for file in files for name in re.findall(r"\b(?:LOOKBACK|NATS)_[A-Z_]+[A-Z]\b", file.read_text())
    }
    told = set(re.findall(r"`((?:LOOKBACK|NATS)_[A-Z_]+)`", TEXT))
    own = {name for name in read if name.startswith("LOOKBACK_")} | set(ENVIRONMENT) | {"NATS_SERVER_BIN"}
    assert own == told


def test_limit_of_a_slow_page() -> None:
    """Type and default of the limit are those of the code; what is no number above zero is named."""
    row = next(row for row in ROWS if row[0] == f"`{SLOW_PAGE}`")
    assert row[1:3] == ["seconds", f"{SLOW:g}"]
    text = subprocess.run(
        [sys.executable, "-c", "import components.inside.page_runs"],
        cwd=ROOT,
        env={**os.environ, SLOW_PAGE: "fast"},
        capture_output=True,
        text=True,
    ).stderr
    assert "The setting 'LOOKBACK_SLOW_PAGE' is 'fast'. Set it to a number of seconds above zero." in text


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
    """A number may be written as one or as a text, in the secrets and in the environment."""
    assert getattr(Settings.load({name: value}, {}), name) == read
    variable = next(variable for variable, setting in ENVIRONMENT.items() if setting == name)
    assert getattr(Settings.load({}, {variable: str(value)}), name) == read


@pytest.mark.parametrize("name", ["feed_rows", "bucket_keys", "idle_after", "feed_memory"])
@pytest.mark.parametrize("value", ["", "0", "-1", "many", "nan", "inf", True, None, [1], 0])
def test_what_is_no_number_is_named(name: str, value: object) -> None:
    """What is no number above zero is refused with the name of the setting."""
    from nats_client.errors import SettingsError

    with pytest.raises(SettingsError, match=name):
        Settings.load({name: value}, {})
