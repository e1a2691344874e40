"""Programs beside the app: the embedded NATS server, its services and its publishers."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands in for a module until one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


# nats-py imports aiohttp, but uses it only for ws:// and wss://. Loading it would dominate the start-up time
sys.modules.setdefault("aiohttp", _Later("aiohttp"))
