"""Requests `STREAM.INFO` once for all callers that need it at the same moment."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import LookbackError

GATHER = 0.005
"""Seconds that a request waits for others who want the same."""

DELETED, SUBJECTS = '{"deleted_details": true}', '{"subjects_filter": ">"}'
"""What a request may ask for beyond the state."""

Api = Callable[[str, dict[str, Any] | None], Awaitable[dict[str, Any]]]


class StreamInfos:
    """Shares requests for the state of streams. Everything here runs on the client's event loop."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._gathering: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, stream: str, *, deleted: bool = False, subjects: bool = False) -> dict[str, Any]:
        """The state and configuration of `stream`, from a request that was sent after this call; with the
        list of `deleted` messages, or of all `subjects`, when asked for. The answer is shared: do not
        change it.

        Raises StreamNotFound, RequestFailed, TimeoutError.
        """
        key = stream, DELETED if deleted else SUBJECTS if subjects else ""
        while True:
            shared = self._gathering.get(key)
            if shared is None:
                return await self._ask(key)
            await asyncio.wait({shared})
            if shared.cancelled():  # who asked was cancelled
                continue
            if error := shared.exception():
                raise copy.copy(error)
            return shared.result()

    async def _ask(self, key: tuple[str, str]) -> dict[str, Any]:
        shared: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._gathering[key] = shared
        try:
            try:
                await asyncio.sleep(GATHER)
            finally:
                del self._gathering[key]  # who comes from here on needs a newer answer
            stream, more = key
            answer = await self._api(f"STREAM.INFO.{stream}", json.loads(more) if more else None)
            shared.set_result(answer)
            return answer
        except (LookbackError, TimeoutError, OSError) as error:
            shared.set_exception(error)
            shared.exception()  # there may be nobody else to hear of it
            raise
        finally:
            shared.cancel()  # does nothing when it is done
