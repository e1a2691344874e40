"""Turns the files of pages/ into Streamlit pages."""

import math
import os
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import CodeType
from urllib.parse import unquote

import streamlit as st

from nats_client import environment

from .reload import RELOADS
from .web.sign_in import viewer
from .web.streamlit_internals import asked_page, open_page_url

BUILT_IN = environment.PAGES.default
"""The folder of the pages that come with the app."""
FOLDER = environment.PAGES.read()
"""The folder of the operator's own pages. A file here replaces the built-in page of the same name; an empty
file hides it."""

WITH_BUILT_IN = environment.BUILT_IN.read()
"""Whether to offer the built-in pages."""

LOOK_AGAIN = 0.2 if RELOADS else math.inf
"""Seconds for which a listing of the folder is reused: every refresh of every viewer requests it."""
_listing: tuple[Path, float, dict[Path, int]] = (FOLDER, 0.0, {})


def _files() -> dict[Path, int]:
    """The page files, and when each was last changed."""
    global _listing
    folder, when, found = _listing
    if not found or folder != FOLDER or time.monotonic() - when > LOOK_AGAIN:
        found = {}
        named: dict[str, tuple[Path, os.stat_result]] = {}
        for file in (*(BUILT_IN.glob("*.py") if WITH_BUILT_IN else ()), *FOLDER.glob("*.py")):
            with suppress(OSError):  # removed a moment ago
                named[file.stem] = file, file.stat()
        found = {
            file: stat.st_mtime_ns for file, stat in named.values() if stat.st_size or file.parent == BUILT_IN
        }
        _listing = FOLDER, time.monotonic(), found
    return found


def pages_version() -> Hashable:
    """A value that changes when a page is edited, added or removed."""
    return frozenset(_files().items())


def page_files() -> list[Path]:
    """The page files the viewer may open: the operator's own folder first, `overview.py` first within a
    folder, then by name. Raises NotSignedIn."""
    who = viewer()
    permitted = who.role.pages if who and who.role else None
    files = (file for file in _files() if permitted is None or file.stem in permitted)
    return sorted(files, key=lambda file: (file.parent != FOLDER, file.stem != "overview", file.stem))


def find_pages(run: Callable[[Path], None]) -> list[st.Page]:
    """One Streamlit page per file. The title is the first line of its docstring; `run` draws the page."""
    files = page_files()
    pages = [
        st.Page(_runner(file, run), title=_title(file), url_path=file.stem, default=i == 0)
        for i, file in enumerate(files)
    ]
    _find_by_other_names([file.stem for file in files])
    return pages


def _find_by_other_names(names: list[str]) -> None:
    """Match the page name in the URL regardless of case, with spaces or hyphens for underscores. The first
    page, whose URL is the app's own, is also found by its name."""
    asked = asked_page()
    if asked is None:
        return
    found = asked if asked in names else {_folded(name): name for name in names}.get(_folded(asked))
    if found is not None:
        open_page_url("" if found == names[0] else found)


def _folded(name: str) -> str:
    return unquote(name).strip("/").casefold().replace("-", "_").replace(" ", "_")


def code_of(file: Path) -> CodeType:
    """The compiled page, recompiled when the file changes. Raises SyntaxError, OSError."""
    return _compiled(file, _files().get(file) or file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _compiled(file: Path, _modified: int) -> CodeType:
    return compile(file.read_text(encoding="utf-8"), str(file), "exec")


def _runner(file: Path, run: Callable[[Path], None]) -> Callable[[], None]:
    def page() -> None:
        run(file)

    return page


def _title(file: Path) -> str:
    fallback = file.stem.replace("_", " ").capitalize()
    try:
        code = code_of(file)
    except (SyntaxError, ValueError, OSError):
        return fallback
    # Read from the code object: ast.parse sometimes fails when several threads call it
    # (https://github.com/python/cpython/issues/106905).
    documented = code.co_names[:1] == ("__doc__",)
    title = str(code.co_consts[0]).strip().split("\n")[0].rstrip(".") if documented else ""
    return title or fallback
