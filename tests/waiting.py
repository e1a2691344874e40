"""Wait for a condition."""

import time
from collections.abc import Callable
from typing import Any

SOON, LATE = 0.02, 0.1  # seconds


def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until `holds()` is true. Raises AssertionError after `seconds`. The longer it takes, the less
    often it is checked: a browser needs CPU time for each check."""
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        assert waited < seconds, "it never came true"
        time.sleep(min(LATE, max(SOON, waited / 10)))
