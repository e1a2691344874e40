"""An installed package with a change in one file, as another version may have it, for a program to import."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from tests.running import ROOT


def altered(folder: Path, package: str, name: str, pattern: str, by: str) -> Path:
    """`folder`, with a copy of `package` in it in whose file `name` what matches `pattern` is replaced. All
    else in the copy are links to what is installed."""
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
    """What a program needs to import the packages in `folder` before those that are installed."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
