"""Mistakes in authors' pages: the log has each once, with its traceback, and then how often it came."""

import hashlib
import logging
import traceback
from pathlib import Path

MOST = 500
"""Distinct mistakes that are remembered; after that many the log begins anew."""

_log = logging.getLogger("lookback")
_counts: dict[str, int] = {}
"""By reference, how often it came; of all viewers together."""


def note(file: Path, error: Exception) -> str:
    """The reference of a mistake in the page `file`: the same one where the type and the place are the same.
    The traceback goes to the log the first time; from then on the count does, each time it has doubled."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    stamp = file.stat().st_mtime_ns if file.exists() else 0  # an edited page makes its mistakes anew
    what = "\n".join([str(file), str(stamp), type(error).__qualname__, *places])
    reference = hashlib.sha256(what.encode()).hexdigest()[:8]
    if reference not in _counts and len(_counts) >= MOST:
        _counts.clear()
    count = _counts[reference] = _counts.get(reference, 0) + 1
    if count == 1:
        _log.error("The page %s failed (%s)", file.name, reference, exc_info=error)
    elif count >= 10 and count & (count - 1) == 0:
        _log.error("The page %s failed (%s), %d times by now", file.name, reference, count)
    return reference
