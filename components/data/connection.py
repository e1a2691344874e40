"""The NATS clients of this process, one for each set of rights, as Streamlit connections named "nats"."""

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
from .reads import note_code

FIRST_WAIT = 1.5
"""Seconds that a page waits, once, for the first connection. Most connections are open by then."""
MOST = 100
"""Clients to keep at most, each with different rights."""
UNUSED_AFTER = 600.0
"""Seconds without a viewer after which a role's client is closed."""
LOOK_AGAIN = 1.0
"""Seconds for which the connection that Streamlit's cache returned is reused: each cache lookup reads the
function's source."""


class NatsConnection(BaseConnection[Client]):
    """Owns one client. Streamlit keeps one connection for each set of rights, and closes it when it evicts
    it."""

    used = 0.0
    """When a viewer last used the client, seconds on the monotonic clock."""
    found = 0.0
    """When Streamlit's cache last returned this connection, seconds on the monotonic clock."""

    role = ""
    """The name of its role, "" without one."""
    _made: Client | None = None

    def _connect(self, role: str | None = None, **_: Any) -> Client:
        section = dict(self._secrets)
        if not nats_configured():
            if launcher.embedded is None:
                raise LookbackError(
                    launcher.not_embedded
                    or "No NATS server is configured and no embedded server runs. Set NATS_URL."
                )
            section = launcher.embedded["broker" if role else "dashboard"]
        client = Client(Settings.load({**section, "role": role} if role else section))
        self.role, self._made = role or "", client
        client.wait(FIRST_WAIT)
        return client

    @property
    def client(self) -> Client:
        """The client. If it was closed, for example because the secrets changed, a new one is created. For a
        role, none is created: another connection replaces this one."""
        self.used = time.monotonic()
        if self._instance.closed and not self.of_role:
            self.reset()
        return self._instance

    @property
    def of_role(self) -> bool:
        """True if the client belongs to a role, False if all viewers share it."""
        return bool(self.role)

    @property
    def opened(self) -> Client | None:
        """The client if it is open, else None. Reading this does not count as use."""
        return None if self._made is None or self._made.closed else self._made

    def reset(self) -> None:
        """Close the client, so that the next use makes a new one. The base class would only drop its
        reference."""
        self.close("a new client replaces it")
        super().reset()

    def close(self, why: str = f"there are more than {MOST} sets of rights") -> None:
        """Close the client's feeds, connection and thread; `why` is the reason in their events. Streamlit's
        cache, which names no reason, calls this for the connection that it evicts."""
        if self._made is not None:
            self._made.close(why)


_known: dict[str, NatsConnection] = {}
"""Connections by rights."""
_times: dict[str, int] = {}
"""How many clients with these rights have been closed."""


def client(*, by_code: bool = True) -> Client:
    """The client that this viewer shares with all viewers with the same rights. `by_code`: whether the page
    must run again to see newer data. Raises NotSignedIn; SettingsError if the settings cannot be read;
    LookbackError if no NATS server is configured and none is embedded."""
    return shared(by_code=by_code)[1]


def shared(*, by_code: bool = True) -> tuple[str, Client]:
    """The viewer's rights, and the client for them; see client(). A cache of the client's replies must have
    the rights in its key. Both values are taken at the same moment, so no reply is cached under other
    rights."""
    if by_code:
        note_code("what the server answers")
    who = viewer()
    if who is None or who.rights is None or who.role is None:
        return "", _connection("").client
    # `time` is part of the cache key, so two clients of one role never coexist.
    of = {"rights": who.rights, "role": who.role.name, "time": _times.get(who.rights, 0)}
    return who.rights, _connection(who.rights, **of).client


def clients() -> dict[str, Client]:
    """The open clients of this process, by role; "" for the client without a role. If a role has several sets
    of rights, the client that was used last."""
    found = sorted(_known.values(), key=lambda each: each.used)
    return {each.role: each.opened for each in found if each.opened is not None}


def _connection(key: str, **of: Any) -> NatsConnection:
    known = _known.get(key)
    if known is not None and known.opened and time.monotonic() - known.found < LOOK_AGAIN:
        return known
    connection = st.connection("nats", type=NatsConnection, max_entries=MOST, **of)
    if not isinstance(connection, NatsConnection):
        # This module was reloaded, and the cached connection still runs the old code.
        st.cache_resource.clear()
        connection = st.connection("nats", type=NatsConnection, max_entries=MOST, **of)
    connection.found = time.monotonic()
    _known[key] = connection
    return connection


def close_unused(in_force: set[str]) -> None:
    """Close the clients of roles that no viewer has used for ten minutes, or whose rights are no longer
    `in_force`. A tab with an open websocket counts as use, even if its page does not run for hours."""
    watched = {tab.rights for tab in list(launcher.tabs.values()) if tab.channel is not None}
    for key, connection in list(_known.items()):
        if key in watched:
            connection.used = time.monotonic()
        changed = key not in in_force
        if connection.of_role and (changed or time.monotonic() - connection.used > UNUSED_AFTER):
            _times[key] = _times.get(key, 0) + 1
            _known.pop(key, None)
            role = f"the role {connection.role!r}"
            connection.close(
                f"{role} was changed or removed"
                if changed
                else f"nobody with {role} was signed in and had a page open for {UNUSED_AFTER:g} s"
            )


def close_all(why: str) -> None:
    """Close all clients and empty Streamlit's cache of resources; `why` is the reason in the events."""
    for connection in list(_known.values()):
        connection.close(why)
    st.cache_resource.clear()


def nats_configured() -> bool:
    """True if the secrets or the environment name a NATS server."""
    if any(os.environ.get(variable) for variable in ENVIRONMENT):
        return True
    try:
        return bool(st.secrets.get("connections", {}).get("nats"))
    except StreamlitSecretNotFoundError:
        return False


def is_embedded() -> bool:
    """True if the app runs on its embedded demo server."""
    return not nats_configured()
