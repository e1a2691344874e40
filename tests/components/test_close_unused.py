"""When the client of a role is closed."""

import time
from collections.abc import Iterator

import pytest

from components.data import connection
from components.data.connection import UNUSED_AFTER, NatsConnection, close_unused
from components.push.tabs import Tab, tabs
from nats_client import Client, Settings
from tests.nats import NatsServer

RIGHTS = ("viewers' rights", "others' rights")


@pytest.fixture
def roles(server: NatsServer) -> Iterator[list[NatsConnection]]:
    """The open clients of two roles, both last used by a page more than ten minutes ago."""
    made = []
    for rights in RIGHTS:
        one = NatsConnection.__new__(NatsConnection)  # only Streamlit can construct it, with an app's secrets
        one.role, one._made = rights.partition("'")[0], Client(Settings(url=server.url))
        one.used = time.monotonic() - UNUSED_AFTER - 1
        connection._known[rights] = one
        made.append(one)
    yield made
    for rights, one in zip(RIGHTS, made, strict=True):
        connection._known.pop(rights, None)
        connection._times.pop(rights, None)
        one.close()


class Websocket:
    """A stand-in for an open websocket."""

    def changed(self) -> None:
        """Do nothing."""


def test_a_tab_with_a_websocket_uses_its_client(roles: list[NatsConnection]) -> None:
    """A page of live elements may not run for hours. While its tab's websocket is open, the client of its
    role stays, and no other; ten minutes after the websocket has closed, the client is closed."""
    tab = Tab("owner", RIGHTS[0])
    tab.channel = Websocket()
    tabs[tab.ticket] = tab
    close_unused(set(RIGHTS))
    assert [one.opened is not None for one in roles] == [True, False]
    tab.channel = None
    close_unused(set(RIGHTS))
    assert roles[0].opened is not None  # was in use until now
    roles[0].used -= UNUSED_AFTER + 1
    close_unused(set(RIGHTS))
    assert roles[0].opened is None


def test_changed_rights_end_it_at_once(roles: list[NatsConnection]) -> None:
    """A client whose rights are no longer in force is closed at once, even if a tab uses it."""
    tab = Tab("owner", RIGHTS[0])
    tab.channel = Websocket()
    tabs[tab.ticket] = tab
    close_unused({RIGHTS[1]})
    assert roles[0].opened is None
