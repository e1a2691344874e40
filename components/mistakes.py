"""Errors in authors' pages. Each distinct error is logged once with its traceback, and later with its
count."""

import hashlib
import inspect
import logging
import re
import traceback
from pathlib import Path
from types import ModuleType

MOST = 500
"""Distinct errors to remember. When there are more, counting starts again."""

_log = logging.getLogger("lookback")
_WRONG_CALL = re.compile(
    r"(?P<name>\w+)\(\) (?:got an unexpected keyword|got multiple values|missing \d+ required|takes )"
)
_counts: dict[str, int] = {}
"""How often each error occurred, by reference, over all viewers."""


def note(file: Path, error: Exception) -> str:
    """Log an error of the page `file` and return its reference. Errors of the same type at the same place
    share one reference. The traceback is logged the first time. After that only the count is logged, at each
    power of two from 16 on."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    modified = file.stat().st_mtime_ns if file.exists() else 0  # errors of an edited page count as new
    what = "\n".join([str(file), str(modified), type(error).__qualname__, *places])
    reference = hashlib.sha256(what.encode()).hexdigest()[:8]
    if reference not in _counts and len(_counts) >= MOST:
        _counts.clear()
    count = _counts[reference] = _counts.get(reference, 0) + 1
    if count == 1:
        _log.error("The page %s failed (%s)", file.name, reference, exc_info=error)
    elif count >= 10 and count & (count - 1) == 0:
        _log.error("The page %s failed (%s), %d times by now", file.name, reference, count)
    return reference


def wrong_call(error: Exception, functions: ModuleType) -> str:
    """A sentence if `error` came from calling one of `functions` with the wrong arguments: what was wrong,
    and how the function is called. Otherwise an empty text. It contains names from the code, and no data."""
    found = _WRONG_CALL.match(str(error)) if isinstance(error, TypeError) else None
    name = found["name"] if found else ""
    if not found or name not in functions.__all__:
        return ""
    parameters = inspect.signature(getattr(functions, name)).parameters.values()
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return f"{error}. It is called as {name}{inspect.Signature(plain)}."
