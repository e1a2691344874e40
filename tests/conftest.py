"""What all tests share."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser

from nats_client import Client, Settings
from tests.browser import chromium
from tests.certificates import Certificates
from tests.nats import NatsServer, running_server

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with a stream S, unless a module has another one."""
    with running_server(tmp_path / "nats") as server:
        server.add_stream("S", ["s.>"])
        yield server


@pytest.fixture
def client(server: NatsServer) -> Iterator[Client]:
    """A client of it."""
    with Client(Settings(url=server.url)) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA, and good and bad certificates."""
    return Certificates(tmp_path_factory.mktemp("tls"))
