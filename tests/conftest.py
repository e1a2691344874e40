"""What all tests share."""

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # no test asserts an absolute time
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests must not decide what they connect to."""
    for name in os.environ:
        if name.startswith(("NATS_", "LOOKBACK_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Who opens a client closes it."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "nats"]
    assert not left
