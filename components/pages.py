"""The files of pages/, as Streamlit pages."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import CodeType

import streamlit as st

from .sign_in import viewer

FOLDER = Path(os.environ.get("LOOKBACK_PAGES") or Path(__file__).parent.parent / "pages")
"""Where the pages are; tests and measurements point it elsewhere."""


LOOK_AGAIN = 0.2
"""Seconds for which the folder is as it was at the last look: every refresh of every viewer asks."""
_looked: tuple[Path, float, dict[Path, int]] = (FOLDER, 0.0, {})


def _files() -> dict[Path, int]:
    """The pages, and when each was last changed."""
    global _looked
    folder, when, found = _looked
    if not found or folder != FOLDER or time.monotonic() - when > LOOK_AGAIN:
        found = {}
        for file in FOLDER.glob("*.py"):
            with suppress(OSError):  # it went meanwhile
                found[file] = file.stat().st_mtime_ns
        _looked = FOLDER, time.monotonic(), found
    return found


def page_files() -> list[Path]:
    """The files of the pages that the viewer may open: `overview.py` first, then by name. Raises
    NotSignedIn."""
    who = viewer()
    permitted = who.role.pages if who and who.role else None
    files = (file for file in _files() if permitted is None or file.stem in permitted)
    return sorted(files, key=lambda file: (file.stem != "overview", file.stem))


def find_pages(run: Callable[[Path], None]) -> list[st.Page]:
    """A page per file; its docstring's first line is the title, and `run` draws it."""
    return [
        st.Page(_runner(file, run), title=_title(file), url_path=file.stem, default=i == 0)
        for i, file in enumerate(page_files())
    ]


def code_of(file: Path) -> CodeType:
    """The compiled page, compiled anew when the file has changed. Raises SyntaxError, OSError."""
    return _compiled(file, _files().get(file) or file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _compiled(file: Path, _stamp: int) -> CodeType:
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
    # From the code, since ast.parse fails now and then where several threads are at it:
    # https://github.com/python/cpython/issues/106905
    documented = code.co_names[:1] == ("__doc__",)
    title = str(code.co_consts[0]).strip().split("\n")[0].rstrip(".") if documented else ""
    return title or fallback
