"""The clients of this process, one for each set of rights, as Streamlit connections named "nats"."""

import os
import time
from typing import Any

import streamlit as st
from streamlit.connections import BaseConnection
from streamlit.errors import StreamlitSecretNotFoundError

from nats_client import Client, LookbackError, Settings
from nats_client.connection.settings import ENVIRONMENT

from .. import launcher
from ..web.sign_in import viewer

FIRST_LOOK = 1.5
"""Seconds that a page waits, once, for the first connection: most are made by then."""
MOST = 100
"""Clients of different rights that are kept."""
UNUSED_AFTER = 600.0
"""Seconds without a viewer after which the client of a role is closed."""
LOOK_AGAIN = 1.0
"""Seconds for which what Streamlit's cache gave is not looked up again: it reads its source for each look."""


class NatsConnection(BaseConnection[Client]):
    """Owns a client; Streamlit keeps one for each set of rights, and closes it when it drops it."""

    used = 0.0
    """When a viewer last used it, on the monotonic clock."""
    found = 0.0
    """When Streamlit's cache last gave it."""

    role = ""
    """The name of its role, "" without one."""
    _made: Client | None = None

    def _connect(self, role: str | None = None, **_: Any) -> Client:
        section = dict(self._secrets)
        if not nats_configured():
            if launcher.embedded is None:
                raise LookbackError(launcher.not_embedded or "No NATS is configured, no demo runs.")
            section = launcher.embedded["broker" if role else "dashboard"]
        client = Client(Settings.load({**section, "role": role} if role else section))
        self.role, self._made = role or "", client
        client.wait(FIRST_LOOK)
        return client

    @property
    def client(self) -> Client:
        """The client; a new one when the secrets have changed, or the last was closed, unless it was a
        role's: its place is taken by another connection."""
        self.used = time.monotonic()
        if self._instance.closed and not self.of_role:
            self.reset()
        return self._instance

    @property
    def of_role(self) -> bool:
        """Whether it is of a role, and not everybody's."""
        return bool(self.role)

    @property
    def opened(self) -> Client | None:
        """The client where there is one that is not closed; looking at it is no use of it."""
        return None if self._made is None or self._made.closed else self._made

    def reset(self) -> None:
        """Close the client, so that the next use makes a new one: the base class would only forget it."""
        self.close()
        super().reset()

    def close(self) -> None:
        """End the client's feeds, connection and thread."""
        if self._made is not None:
            self._made.close()


_known: dict[str, NatsConnection] = {}
"""By rights."""
_times: dict[str, int] = {}
"""How many clients with these rights have been closed."""


def client() -> Client:
    """The client that the viewer shares with everybody who has the same rights. Raises NotSignedIn,
    SettingsError when the settings cannot be read, LookbackError when there is neither a NATS configured nor
    an embedded one."""
    return shared()[1]


def shared() -> tuple[str, Client]:
    """The viewer's rights, and client() with it: for what is kept of its answers, in a cache whose key they
    have to be part of. Both are of the same moment, so that nothing is kept under other rights."""
    who = viewer()
    if who is None or who.rights is None or who.role is None:
        return "", _connection("").client
    # Which of them it is counts as well, so that Streamlit's cache sees to it that there is one at a time.
    of = {"rights": who.rights, "role": who.role.name, "time": _times.get(who.rights, 0)}
    return who.rights, _connection(who.rights, **of).client


def clients() -> dict[str, Client]:
    """The open clients of this process, by the role that they are of; "" without one. Of a role with several
    sets of rights, the one that was used last."""
    found = sorted(_known.values(), key=lambda each: each.used)
    return {each.role: each.opened for each in found if each.opened is not None}


def _connection(key: str, **of: Any) -> NatsConnection:
    known = _known.get(key)
    if known is not None and known.opened and time.monotonic() - known.found < LOOK_AGAIN:
        return known
    connection = st.connection("nats", type=NatsConnection, max_entries=MOST, **of)
    if not isinstance(connection, NatsConnection):
        # This file was loaded anew; what is cached still runs the old code.
        st.cache_resource.clear()
        connection = st.connection("nats", type=NatsConnection, max_entries=MOST, **of)
    connection.found = time.monotonic()
    _known[key] = connection
    return connection


def close_unused(in_force: set[str]) -> None:
    """Close the clients whose rights nobody has used for ten minutes, or that are no longer `in_force`."""
    for key, connection in list(_known.items()):
        unused = key not in in_force or time.monotonic() - connection.used > UNUSED_AFTER
        if connection.of_role and unused:
            _times[key] = _times.get(key, 0) + 1
            _known.pop(key, None)
            connection.close()


def nats_configured() -> bool:
    """Whether the secrets or the environment name a NATS to connect to."""
    if any(os.environ.get(variable) for variable in ENVIRONMENT):
        return True
    try:
        return bool(st.secrets.get("connections", {}).get("nats"))
    except StreamlitSecretNotFoundError:
        return False


def is_embedded() -> bool:
    """Whether the app runs on its embedded demo server."""
    return not nats_configured()
