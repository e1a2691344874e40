"""nats-py whose connection cannot go deaf without a word: whatever ends its tasks ends the connection.

nats-py 2.16 reads the socket in one task. A header block that it cannot read, a subject that is not UTF-8,
or a PONG for a flush that was given up raises there; the task ends, `is_connected` stays true and `flush`
returns at once. Here one message costs at most itself, and the end of the reader, the flusher or the pinger
is a lost connection. The private names of nats-py that all of this needs are in PRIVATE and HELD.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import nats.errors
from nats.aio.client import Client as NatsPy
from nats.aio.msg import Msg

from ..errors import LookbackError

PRIVATE = (
    "_attempt_reconnect",
    "_build_message",
    "_close",
    "_connect_command",
    "_flusher",
    "_ping_interval",
    "_process_connect_init",
    "_process_err",
    "_process_headers",
    "_process_info",
    "_process_msg",
    "_process_op_err",
    "_process_pong",
    "_read_loop",
)
"""Methods that are called by nats-py and replaced here, or the other way round."""
HELD = (
    "_current_server",
    "_error_cb",
    "_flusher_task",
    "_pending",
    "_pending_data_size",
    "_ping_interval_task",
    "_pings_outstanding",
    "_pongs",
    "_pongs_received",
    "_ps",
    "_reading_task",
    "_reconnection_task",
    "_resp_map",
    "_resp_sub_prefix",
    "_server_info",
    "_signature_cb",
    "_status",
    "_subs",
    "_transport",
)
"""What each client holds."""
CALLBACKS = (
    "error_cb",
    "disconnected_cb",
    "closed_cb",
    "reconnected_cb",
    "discovered_server_cb",
    "lame_duck_mode_cb",
)
RETRY_AFTER = 1.0  # seconds, after a mistake while reconnecting

_log = logging.getLogger(__name__)


class TaskEnded(nats.errors.Error):
    """A task without which a connection is deaf or mute has ended."""


class SteadyNatsPy(NatsPy):
    """nats-py whose tasks do not end unnoticed. Raises LookbackError where nats-py lacks a name it needs."""

    def __init__(self) -> None:
        super().__init__()
        missing = [name for name in (*PRIVATE, *HELD) if not hasattr(self, name)]
        if missing:
            raise LookbackError(
                f"This nats-py is not the one that Lookback is made for: it has no {', '.join(missing)}. "
                "Install the version that requirements.txt names."
            )
        self.unreadable_headers = 0
        """Header blocks that could not be read; their messages were delivered without headers."""
        self.unreadable_messages = 0
        """Messages that could not be delivered."""

    async def connect(self, *args: Any, **options: Any) -> None:
        """As nats-py does it; a callback that raises is logged, and ends nothing."""
        for name in CALLBACKS:
            if inspect.iscoroutinefunction(options.get(name)):
                options[name] = _harmless(name, options[name])
        await super().connect(*args, **options)

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - nats-py's own signature
        """As nats-py does it, but raises where nobody is left to send the PING or to hear the PONG."""
        if not self.is_closed and not self.is_reconnecting:
            for name, task in (("reader", self._reading_task), ("flusher", self._flusher_task)):
                if task is None or task.done():
                    await self._lost(name)
                    raise nats.errors.ConnectionClosedError
        await super().flush(timeout)

    async def _process_op_err(self, e: Exception) -> None:
        self._tell_flushes()
        await super()._process_op_err(e)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._tell_flushes()
        await super()._close(status, do_cbs)

    def _tell_flushes(self) -> None:
        """End each flush that waits for a PONG: there will be none."""
        waiting, self._pongs = self._pongs, []
        for pong in waiting:
            if not pong.done():
                pong.set_exception(nats.errors.ConnectionClosedError())
                pong.exception()  # nobody waits for that of the pinger

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except Exception:
            self.unreadable_headers += 1
            if self.unreadable_headers == 1:
                _log.warning("A message came with headers that cannot be read; it is taken without them.")
            return None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:
            self.unreadable_messages += 1
            if self.unreadable_messages == 1:
                _log.exception("A message could not be delivered.")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        # The server lets subjects pass that are not UTF-8
        message: Msg = super()._build_message(sid, _readable(subject), _readable(reply), data, headers)
        return message

    async def _process_pong(self) -> None:
        # Whose flush was given up still has its PONG to come: it is taken for that flush, and for no other
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if not isinstance(info, dict):
            raise nats.errors.ProtocolError("nats: INFO is no object")
        if "max_payload" in info and type(info["max_payload"]) is not int:
            raise nats.errors.ProtocolError("nats: max_payload in INFO is no number")
        try:
            await super()._process_info(info, initial_connection)
        except Exception:
            _log.warning("The servers that NATS tells of cannot be read; those in the settings remain.")

    async def _read_loop(self) -> None:
        await self._watched("reader", "_reading_task", super()._read_loop)

    async def _flusher(self) -> None:
        await self._watched("flusher", "_flusher_task", super()._flusher)

    async def _ping_interval(self) -> None:
        await self._watched("pinger", "_ping_interval_task", super()._ping_interval)

    def abort(self) -> None:
        """End the TCP connection, whether or not the other side still reads."""
        if writer := getattr(self._transport, "_io_writer", None):
            writer.transport.abort()

    async def _attempt_reconnect(self) -> None:
        self.abort()  # nats-py would wait until a frozen server has taken what is still to be sent
        while True:
            try:
                return await super()._attempt_reconnect()
            except Exception as error:
                _log.warning("Reconnecting to NATS failed: %s.", type(error).__name__)
                self._status = NatsPy.RECONNECTING
                await asyncio.sleep(RETRY_AFTER)

    async def _watched(self, name: str, held: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work`, whose end is the end of the connection unless somebody has ended that before."""
        try:
            await work()
        except Exception:
            _log.exception("The %s of a connection to NATS has failed.", name)
        finally:
            if getattr(self, held) is asyncio.current_task():
                await self._lost(name)

    async def _lost(self, name: str) -> None:
        if self.is_connected or self.is_connecting or self.is_draining:
            await self._process_op_err(TaskEnded(f"nats: the {name} of the connection has ended"))


def _readable(subject: bytes) -> bytes:
    return bytes(subject).decode("utf-8", "replace").encode()


def _harmless(
    name: str, callback: Callable[..., Coroutine[Any, Any, None]]
) -> Callable[..., Coroutine[Any, Any, None]]:
    async def called(*args: Any) -> None:
        try:
            await callback(*args)
        except Exception:
            _log.exception("The callback %r failed.", name)

    return called
