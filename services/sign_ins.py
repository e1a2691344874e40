"""Who is signed in, with which role, and whether the provider still confirms it.

A sign-in starts with the claims of an ID token. If the app also has the person's access token, it requests
the provider's userinfo endpoint repeatedly, and so detects changed groups and revoked sign-ins:
https://openid.net/specs/openid-connect-core-1_0.html#UserInfo
"""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from nats_client.environment import SIGN_IN_CHECK, SIGN_IN_GRACE
from nats_client.errors import SettingsError
from services.accounts.roles import Role, Roles, load_roles, roles_file

IN_USE = 60.0  # a sign-in is checked for this many seconds after its last use
TIMEOUT = 5.0  # seconds, of a request to the provider
ROUND = 0.2  # seconds between two scans for due checks
LOOK_EVERY = 1.0  # seconds between two checks of the roles file
AT_ONCE = 20  # concurrent checks
METADATA_FOR = 3600.0  # seconds to cache the provider's metadata
REFUSALS = (400, 401, 403)
"""Status codes that reject the token itself (RFC 6750, section 3.1)."""
FORGET_AFTER = 86_400.0  # seconds without use
FORGET_ENDED_AFTER = 31 * 86_400.0  # seconds; the browser keeps its cookie for 30 days

REVOKED = "The sign-in provider does not accept your sign-in any more. Sign in again."
OTHER_PERSON = "The sign-in provider reports another person for your sign-in. Sign in again."
EXPIRED = "Your sign-in has expired. Sign in again."
UNREACHABLE = (
    "The sign-in provider does not answer, so your sign-in cannot be checked. This page comes back by itself "
    "once the provider answers."
)
ASKING = "Checking your sign-in with the sign-in provider."
NO_ROLES = "The roles file cannot be read, so nobody can sign in. The app's log says why."

log = logging.getLogger("lookback")


@dataclass(eq=False)
class SignIn:
    """One sign-in of one person in one browser."""

    id: str
    """Its key: a hash of the cookies' claims, which cannot be reversed."""
    claims: Mapping[str, Any] = field(repr=False)
    """The claims of the ID token."""
    token: str | None = field(repr=False)
    """The access token. Sent only to the provider."""
    used: float = field(default_factory=time.monotonic)
    asked: float = float("-inf")
    confirmed: float = float("-inf")
    """When the provider last confirmed it. Monotonic clock, like `used`."""
    ended: str | None = None
    """Why it has ended for good."""
    userinfo: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The provider's last reply."""
    reported: set[str] = field(default_factory=set, repr=False)
    """All claims that the provider has ever included in a reply."""
    under_way: bool = False
    failed: bool = False
    """True if checks have failed since the last confirmation."""
    answered: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def name(self) -> str:
        """The person's name. Untrusted."""
        for claim in ("name", "preferred_username", "email", "sub"):
            for source in (self.userinfo, self.claims):
                if isinstance(value := source.get(claim), str) and value.strip():
                    return value.strip()
        return "?"

    @property
    def expires(self) -> float:
        """When the ID token expires, seconds since the epoch; 0 if it does not say."""
        return _number(self.claims.get("exp"))


@dataclass(frozen=True)
class Standing:
    """The state of a sign-in right now: its role and groups, or why it is not valid."""

    role: Role | None
    groups: tuple[str, ...]
    why: str | None
    """Why it is not valid; None if it is."""
    passing: bool = False
    """True if it may become valid again by itself."""

    @property
    def rights(self) -> str | None:
        """A name for the rights, shared by everybody with equal rights; None without any."""
        return None if self.why or self.role is None else rights_of(self.role)


@lru_cache(maxsize=1000)
def rights_of(role: Role) -> str:
    """A name for everything that a role permits. It changes whenever the permissions change."""
    return f"{role.name}-{hashlib.sha256(repr(role).encode()).hexdigest()[:16]}"


class SignIns:
    """All sign-ins of this process."""

    def __init__(self, metadata_url: str | None, file: Path | None = None) -> None:
        """`metadata_url`: the provider's, https://…/.well-known/openid-configuration. `file`: the roles file;
        by default that of load_roles(). Raises SettingsError."""
        self._provider = _Provider(metadata_url) if metadata_url else None
        self._file = file or roles_file()
        self._check_every, self._grace = SIGN_IN_CHECK.read(), SIGN_IN_GRACE.read()
        self._version: object = None
        self._checked_at = float("-inf")
        self._sign_ins: dict[str, SignIn] = {}
        self.roles: Roles | None = None
        self._read_roles()

    def seen(self, key: str, claims: Callable[[], Mapping[str, Any]], token: str | None) -> SignIn:
        """The sign-in `key`. If this process has none, it is created from the ID token's claims and the
        access token."""
        found = self._sign_ins.get(key)
        if found is None:
            found = self._sign_ins.setdefault(key, SignIn(key, claims(), token))
            # Issuing it counts as a confirmation.
            age = max(0.0, time.time() - _number(found.claims.get("iat")))
            found.confirmed = time.monotonic() - age
        return found

    def find(self, key: str) -> SignIn | None:
        """The sign-in `key`; None if this process has none."""
        return self._sign_ins.get(key)

    def end(self, key: str, why: str) -> None:
        """End the sign-in `key` in all tabs and remember `why`. The key need not be known to this
        process."""
        found = self._sign_ins.setdefault(key, SignIn(key, {}, None))
        if found.ended is None:
            log.info("The sign-in %.8s ended (%s)", key, why)
        found.ended = found.ended or why
        found.token = None

    def wait(self, sign_in: SignIn, timeout: float) -> None:
        """Wait at most `timeout` seconds for the provider to check a sign-in, unless it did so recently."""
        sign_in.used = time.monotonic()
        if self._asks(sign_in) and sign_in.used - sign_in.asked > 2 * self._check_every:
            sign_in.answered.clear()
            sign_in.answered.wait(timeout)

    def standing(self, sign_in: SignIn) -> Standing:
        """What `sign_in` permits now. Cheap, because a page calls it several times per run."""
        sign_in.used = now = time.monotonic()
        roles = self.roles
        if sign_in.ended:
            return Standing(None, (), sign_in.ended)
        if roles is None:
            return Standing(None, (), NO_ROLES, passing=True)
        old = time.time() >= sign_in.expires
        if not self._asks(sign_in):
            if old:
                return Standing(None, (), EXPIRED)
        elif now - sign_in.confirmed > self._grace and (sign_in.failed or old):
            return Standing(None, (), UNREACHABLE if sign_in.failed else ASKING, passing=True)
        claim = roles.claim
        if claim in sign_in.reported:
            groups = _texts(sign_in.userinfo.get(claim))
        elif old:
            # Only the ID token has the groups, and it has expired.
            return Standing(None, (), EXPIRED)
        else:
            groups = _texts(sign_in.claims.get(claim))
        return Standing(roles.of(groups), groups, None)

    def in_force(self) -> set[str]:
        """The rights of all roles in the roles file."""
        return {rights_of(role) for role in self.roles.roles.values()} if self.roles else set()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Within the block, check sign-ins with the provider, and read the roles file when it changes."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        door = asyncio.Semaphore(AT_ONCE)
        asking: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(timeout=TIMEOUT) as http:
            try:
                while True:
                    await asyncio.sleep(ROUND)
                    now = time.monotonic()
                    if now - self._checked_at > LOOK_EVERY:
                        self._checked_at = now
                        await asyncio.to_thread(self._read_roles)
                    for sign_in in list(self._sign_ins.values()):
                        idle = now - sign_in.used
                        if idle > (FORGET_ENDED_AFTER if sign_in.ended else FORGET_AFTER):
                            self._sign_ins.pop(sign_in.id, None)
                        if (
                            self._asks(sign_in)
                            and idle < IN_USE
                            and now - sign_in.asked > self._check_every
                            and not sign_in.under_way
                        ):
                            sign_in.asked, sign_in.under_way = now, True
                            task = asyncio.create_task(self._ask(http, sign_in, door))
                            asking.add(task)
                            task.add_done_callback(asking.discard)
            finally:
                for task in asking:
                    task.cancel()

    async def _ask(self, http: httpx.AsyncClient, sign_in: SignIn, door: asyncio.Semaphore) -> None:
        token = sign_in.token
        assert self._provider is not None
        try:
            async with door:
                answer = await self._provider.userinfo(http, token or "")
        except _Refused:
            self.end(sign_in.id, REVOKED)
        except Exception:
            log.exception("A sign-in could not be checked")
        else:
            sign_in.failed = answer is None
            if answer is not None:
                if answer.get("sub") != sign_in.claims.get("sub"):
                    self.end(sign_in.id, OTHER_PERSON)
                sign_in.userinfo = answer
                sign_in.reported.update(answer)
                sign_in.confirmed = time.monotonic()
        finally:
            sign_in.under_way = False
            sign_in.answered.set()

    def _asks(self, sign_in: SignIn) -> bool:
        """True if the provider can confirm this sign-in."""
        return sign_in.token is not None and self._provider is not None and self._provider.can_be_asked

    def _read_roles(self) -> None:
        """Read the roles file if it has changed. A file that cannot be read changes nothing."""
        try:
            status = self._file.stat()
            version: object = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            version = type(error)
        if version == self._version:
            return
        self._version = version
        try:
            self.roles = load_roles(self._file)
        except SettingsError as error:
            log.error("%s%s", error, " The previous roles stay in force." if self.roles else "")


class _Refused(Exception):  # noqa: N818 - an answer
    """The provider rejects a token."""


class _Provider:
    """The sign-in provider, as far as this process uses it."""

    def __init__(self, metadata_url: str) -> None:
        self.can_be_asked = True
        self._metadata_url = metadata_url
        self._endpoint = ""
        self._checked_at = float("-inf")
        self._silent = False

    async def userinfo(self, http: httpx.AsyncClient, token: str) -> Mapping[str, Any] | None:
        """The userinfo of the person with this access token; None without a valid reply. Raises _Refused."""
        try:
            endpoint = await self._find(http)
            if not endpoint:
                return None
            response = await http.get(endpoint, headers={"Authorization": f"Bearer {token}"})
            if response.status_code in REFUSALS:
                raise _Refused
            response.raise_for_status()
            answer = response.json()
            if not isinstance(answer, dict):
                raise ValueError("no JSON object")
        except (httpx.HTTPError, ValueError) as error:
            if not self._silent:
                # The error's text may contain the request, so it is not logged.
                log.warning("The sign-in provider does not answer (%s).", type(error).__name__)
            self._silent = True
            return None
        if self._silent:
            log.warning("The sign-in provider answers again.")
        self._silent = False
        return answer

    async def _find(self, http: httpx.AsyncClient) -> str:
        if time.monotonic() - self._checked_at > METADATA_FOR:
            response = await http.get(self._metadata_url, follow_redirects=True)
            response.raise_for_status()
            endpoint = response.json().get("userinfo_endpoint")
            self._checked_at = time.monotonic()
            safe = isinstance(endpoint, str) and (
                endpoint.startswith("https://") or self._metadata_url.startswith("http://")
            )
            if not safe:
                log.warning(
                    "The sign-in provider has no userinfo endpoint with https, so each sign-in is valid "
                    "until its ID token expires."
                )
            self._endpoint, self.can_be_asked = (endpoint if safe else ""), safe
        return self._endpoint


def _texts(claim: Any) -> tuple[str, ...]:
    if isinstance(claim, str):
        return (claim,)
    return tuple(each for each in claim if isinstance(each, str)) if isinstance(claim, list) else ()


def _number(claim: Any) -> float:
    return float(claim) if isinstance(claim, int | float) and not isinstance(claim, bool) else 0.0
