"""Sends one `STREAM.INFO` request for all callers that need the same at the same moment."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import LookbackError

GATHER = 0.005
"""Seconds that a request waits for other callers to join it."""

DELETED, SUBJECTS = '{"deleted_details": true}', '{"subjects_filter": ">"}'
"""Payloads that request more than the state."""

Api = Callable[[str, dict[str, Any] | None], Awaitable[dict[str, Any]]]


class StreamInfos:
    """Shares requests for the state of streams. Everything here runs on the client's event loop."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._gathering: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, stream: str, *, deleted: bool = False, subjects: bool = False) -> dict[str, Any]:
        """Request the state and configuration of `stream`, optionally with the list of `deleted` messages or
        of all `subjects`. The request is always sent after this call. The reply is shared: do not modify it.

        Raises StreamNotFound, RequestFailed, TimeoutError.
        """
        key = stream, DELETED if deleted else SUBJECTS if subjects else ""
        while True:
            shared = self._gathering.get(key)
            if shared is None:
                return await self._ask(key)
            await asyncio.wait({shared})
            if shared.cancelled():  # the caller that sent it was cancelled
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
                del self._gathering[key]  # later callers need a newer reply
            stream, more = key
            answer = await self._api(f"STREAM.INFO.{stream}", json.loads(more) if more else None)
            shared.set_result(answer)
            return answer
        except (LookbackError, TimeoutError, OSError) as error:
            shared.set_exception(error)
            shared.exception()  # mark it as retrieved: there may be no other caller
            raise
        finally:
            shared.cancel()  # a no-op once it is done
