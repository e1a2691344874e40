"""docs/changelog.md matches the version."""

import re

from components.version import VERSION
from tests.running import ROOT


def test_newest_entry_is_this_version() -> None:
    """The first heading is the version of the code; the others are older versions, in order."""
    text = (ROOT / "docs" / "changelog.md").read_text()
    versions = [
        tuple(map(int, found.split("."))) for found in re.findall(r"^## (\d+\.\d+\.\d+)$", text, re.M)
    ]
    assert ".".join(map(str, versions[0])) == VERSION
    assert versions == sorted(set(versions), reverse=True)
