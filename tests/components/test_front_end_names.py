"""The names of Streamlit's front end in our scripts and style sheets exist in the installed Streamlit.

Only a few files contain such names, so only these must be checked for a new Streamlit.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import streamlit

from tests.running import ROOT

STATIC = ROOT / "static"
FRONT_END = Path(streamlit.__file__).parent / "static" / "static" / "js"
FILES = ("frame.css", "framed.css", "streamlit_page.js")
ELEMENT = r"data-testid|\.st[A-Z]|data-test-|data-stale"
NAMES = re.compile(r'data-testid="(\w+)|\.(st[A-Z]\w+)|(data-(?!testid)[a-z-]+)|"([A-Z]+(?:_[A-Z]+)*)"')
"""Test ids and classes of elements, attributes, and states of the connection."""


def names(text: str) -> set[str]:
    """The front-end names in a script or a style sheet."""
    return {name for found in NAMES.findall(text) for name in found if name}


@cache
def front_end() -> str:
    """The scripts of the installed Streamlit."""
    return "\n".join(each.read_text() for each in FRONT_END.glob("*.js"))


def missing(text: str) -> set[str]:
    """The names in a script or a style sheet that are not a complete string in Streamlit's scripts."""
    return {name for name in names(text) if f'"{name}"' not in front_end() and f"`{name}`" not in front_end()}


@pytest.mark.parametrize("file", FILES)
def test_streamlit_has_them(file: str) -> None:
    """Streamlit has each front-end name of the file."""
    text = (STATIC / file).read_text()
    assert names(text)
    assert not missing(text)


def test_another_name_is_missed() -> None:
    """A name of each kind that Streamlit does not have is reported as missing."""
    text = """[data-testid="stNothing"], .stNowhere, [data-test-nothing="x"] { } state === "NOT_AT_ALL" """
    assert missing(text) == {"stNothing", "stNowhere", "data-test-nothing", "NOT_AT_ALL"}


def test_other_files_have_none() -> None:
    """Only these files contain names of Streamlit's front end."""
    having = {
        file.name
        for file in (*STATIC.glob("*.js"), *STATIC.glob("*.css"))
        if not file.name.endswith(".min.js") and re.search(ELEMENT, file.read_text())
    }
    assert having == set(FILES)
