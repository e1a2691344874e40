"""The one client of this process, as a Streamlit connection named "nats"."""

import json
import os
from typing import Any

import streamlit as st
from streamlit.connections import BaseConnection
from streamlit.errors import StreamlitSecretNotFoundError

from nats_client import Client, LookbackError, Settings
from nats_client.settings import ENVIRONMENT

FIRST_LOOK = 1.5
"""Seconds that a page waits, once, for the first connection: most are made by then."""
EMBEDDED = "LOOKBACK_EMBEDDED"
"""Set by the launcher to how the embedded server is reached, in JSON: a section as of the secrets for each of
"dashboard" (without a sign-in) and "broker" (with one)."""
EMBEDDED_ERROR = "LOOKBACK_EMBEDDED_ERROR"
"""Set by the launcher to why there is no embedded server."""


class NatsConnection(BaseConnection[Client]):
    """Owns the client; Streamlit keeps one for the whole process and closes it when it drops it."""

    def _connect(self, **_: Any) -> Client:
        section = dict(self._secrets)
        if not nats_configured():
            if not os.environ.get(EMBEDDED):
                raise LookbackError(os.environ.get(EMBEDDED_ERROR) or "No NATS is configured, no demo runs.")
            section = json.loads(os.environ[EMBEDDED])["dashboard"]
        client = Client(Settings.load(section))
        client.wait(FIRST_LOOK)
        return client

    @property
    def client(self) -> Client:
        """The client; a new one when the last was closed or the secrets have changed."""
        if self._instance.closed:
            self.reset()
        return self._instance

    def reset(self) -> None:
        """Close the client, so that the next use makes a new one: the base class would only forget it."""
        self.close()
        super().reset()

    def close(self) -> None:
        """End the client's feeds, connection and thread."""
        if self._raw_instance is not None:
            self._raw_instance.close()


def client() -> Client:
    """The shared client. Raises SettingsError when the settings cannot be read, LookbackError when there is
    neither a NATS configured nor an embedded one."""
    connection = st.connection("nats", type=NatsConnection)
    if not isinstance(connection, NatsConnection):
        # This file was loaded anew; what is cached still runs the old code.
        st.cache_resource.clear()
        connection = st.connection("nats", type=NatsConnection)
    return connection.client


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
