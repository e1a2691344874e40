"""Waiting for something to become true."""

import time
from collections.abc import Callable
from typing import Any

SOON, LATE = 0.02, 0.1  # seconds


def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for something to hold; fail when it does not. What takes long is asked for less often: a browser
    needs the processor for each answer."""
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        assert waited < seconds, "it never came true"
        time.sleep(min(LATE, max(SOON, waited / 10)))
