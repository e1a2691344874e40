"""A copy of an installed package with one file changed, as in another version, for a program to import."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from tests.running import ROOT


def altered(folder: Path, package: str, name: str, pattern: str, by: str) -> Path:
    """Put a copy of `package` into `folder`, and return `folder`. In the copy's file `name`, each match of
    `pattern` is replaced; all other files are links to the installed ones."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    source, place = Path(spec.origin).parent, folder / package
    for step in name.split("/"):
        place.mkdir()
        for each in source.iterdir():
            if each.name not in (step, "__pycache__"):
                (place / each.name).symlink_to(each)
        source, place = source / step, place / step
    text, count = re.subn(pattern, by, source.read_text())
    assert count
    place.write_text(text)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment for a program that must import the packages in `folder` before the installed ones."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
