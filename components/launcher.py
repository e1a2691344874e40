"""What the launcher hands to the components. Reloading edited code leaves this module alone."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Role(Protocol):
    """A role, as far as pages go."""

    @property
    def name(self) -> str: ...

    @property
    def pages(self) -> tuple[str, ...] | None: ...


class SignIn(Protocol):
    """One sign-in of one person in one browser."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


class Standing(Protocol):
    """What a sign-in is good for at this moment."""

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
"""Who is signed in; None where nobody has to be."""

embedded: Mapping[str, Any] | None = None
"""How the embedded server is reached, as sections of the secrets have it: "dashboard" without a sign-in,
"broker" with one. None without such a server."""

not_embedded: str | None = None
"""Why there is no embedded server, as a sentence for pages."""

trouble: str | None = None
"""Why the embedded server stores nothing, as a sentence for pages; None while it does."""

traffic: dict[str, Any] = {}
"""What each websocket has carried, by its key: the launcher's middleware counts it."""
