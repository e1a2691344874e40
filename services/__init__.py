"""Programs beside the app: the embedded NATS server and what feeds it."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


# nats-py imports it, but uses it for ws:// and wss:// only. Loading it takes longer than all else at a start
sys.modules.setdefault("aiohttp", _Later("aiohttp"))
