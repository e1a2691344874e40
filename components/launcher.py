"""State that the launcher (app.py) passes to the components. Reloading edited code keeps this module."""

from collections.abc import Callable, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Protocol
from weakref import WeakValueDictionary


def load_components() -> None:
    """Wait until the components are loaded as a whole. Call this before a function imports one of their
    modules, which may have been reloaded: two threads that start with different modules would deadlock."""
    import_module("components")


class Role(Protocol):
    """The attributes of a role that pages use."""

    @property
    def name(self) -> str: ...

    @property
    def pages(self) -> tuple[str, ...] | None: ...


class SignIn(Protocol):
    """One person's sign-in in one browser."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


class Standing(Protocol):
    """What a sign-in permits right now."""

    @property
    def role(self) -> Role | None: ...

    @property
    def groups(self) -> tuple[str, ...]: ...

    @property
    def why(self) -> str | None: ...

    @property
    def passing(self) -> bool: ...

    @property
    def rights(self) -> str | None: ...


class SignIns(Protocol):
    """All sign-ins of this process."""

    def seen(self, key: str, claims: Callable[[], Mapping[str, Any]], token: str | None) -> SignIn: ...

    def find(self, key: str) -> SignIn | None: ...

    def end(self, key: str, why: str) -> None: ...

    def wait(self, sign_in: Any, timeout: float) -> None: ...

    def standing(self, sign_in: Any) -> Standing: ...

    def in_force(self) -> set[str]: ...


sign_ins: SignIns | None = None
"""The sign-ins; None if sign-in is off."""

embedded: Mapping[str, Any] | None = None
"""The settings of the embedded server, with a secrets section for "dashboard" (no sign-in) and one for
"broker" (with sign-in). None if there is no embedded server."""

not_embedded: str | None = None
"""Why there is no embedded server, as a sentence for pages."""

trouble: str | None = None
"""Why the embedded server stores nothing, as a sentence for pages; None while it works."""

traffic: dict[str, Any] = {}
"""Bytes and messages of each open websocket, by its key. Middleware in the launcher counts them."""

tabs: MutableMapping[str, Any] = WeakValueDictionary()
"""The browser tabs that may open a websocket for live elements, by ticket; see push/tabs.py."""
