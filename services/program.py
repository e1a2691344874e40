"""Shared by the programs beside the app: a connection that reconnects, and an orderly end on a signal."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from nats_client.connection.patched_nats import SafeNatsPy
from nats_client.connection.settings import Settings

PING_INTERVAL = 5  # seconds; two unanswered pings end the connection
RECONNECT_WAIT = 1  # seconds between two attempts at the same server


async def connect(
    settings: Settings,
    name: str,
    log: logging.Logger,
    *,
    lost: Callable[[], None] = lambda: None,
    ended: Callable[[], None] = lambda: None,
) -> SafeNatsPy:
    """A connection that reconnects after every loss, with log lines in `log`.

    `name` is shown in the server's monitoring. `lost` is called at each loss, `ended` when the connection
    will not come back because it was closed or the login has ended for good. Raises SettingsError and
    nats-py's errors.
    """
    client, shown = SafeNatsPy(), settings.shown

    async def on_disconnect() -> None:
        lost()
        if not client.is_closed:
            log.warning("Disconnected from %s; reconnecting.", shown)

    async def on_reconnect() -> None:
        log.warning("Connected to %s again.", shown)

    async def on_error(error: Exception) -> None:
        log.debug("NATS: %s", error)  # each failed attempt; the two lines above are enough for the log

    async def on_closed() -> None:
        ended()

    options: dict[str, Any] = settings.login()
    if context := settings.ssl_context():
        options["tls"] = context
    if settings.tls_hostname:
        options["tls_hostname"] = settings.tls_hostname
    if settings.tls_handshake_first:
        options["tls_handshake_first"] = True
    await client.connect(
        list(settings.servers),
        name=name,
        inbox_prefix=settings.inbox_prefix,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT,
        ping_interval=PING_INTERVAL,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        closed_cb=on_closed,
        error_cb=on_error,
        **options,
    )
    return client


class Trouble:
    """Logs once when something can no longer be stored, and once when it can again."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what`: the plural noun that each log line begins with, such as "The facts of this machine"."""
        self._log = log
        self._what = what
        self._lasts = False

    def begin(self, why: object) -> None:
        """Log that storing has failed, once per outage."""
        if not self._lasts:
            self._lasts = True
            self._log.warning("%s are not stored: %s. Retrying.", self._what, why)

    def end(self) -> None:
        """Log that storing works again, after an outage."""
        if self._lasts:
            self._lasts = False
            self._log.warning("%s are stored again.", self._what)


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it is done. SIGTERM or SIGINT cancels it."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows ends the process by itself
            loop.add_signal_handler(signum, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
