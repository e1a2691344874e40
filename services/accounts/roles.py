"""Roles and their NATS permissions: turns the roles file into lists of permitted subjects."""

import logging
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nats_client import environment
from nats_client.connection.role_jwt import SUBJECT as TOKENS
from nats_client.errors import SettingsError, SubjectError, one_of
from nats_client.subjects import check_bucket, check_filter, check_service, check_stream_name

INBOX = "_INBOX_app"
"""Prefix of all inboxes of the dashboards' account. Each connection has its own below it."""
OWN_INBOX = f"{INBOX}.{{{{name()}}}}.>"
"""A user's inbox in the template of a scoped signing key. The server fills in the user's name."""
ALL = "*"
NEVER = {
    TOKENS: "anybody who may request tokens has every role",
    f"{INBOX}.>": "replies to others are delivered there",
    "$JS.>": "JetStream's API is set with 'streams' and 'manage'",
    "$SYS.>": "it belongs to the server",
}
"""Subjects that no role may publish to, and why."""
MINUTES = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Role:
    """The permissions of one role. roles.toml documents each field."""

    name: str
    groups: tuple[str, ...] = ()
    pages: tuple[str, ...] | None = None
    streams: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    manage: tuple[str, ...] = ()
    web_page: bool = False

    @property
    def readable(self) -> tuple[str, ...]:
        """The streams that may be read, including those of buckets; "*" alone: all."""
        if ALL in self.streams:
            return (ALL,)
        return tuple(dict.fromkeys([*self.streams, *(f"KV_{bucket}" for bucket in self.buckets)]))

    def permissions(self, api: str = "$JS.API") -> dict[str, dict[str, list[str]]]:
        """`pub` and `sub` of a user's JWT, or of the template of a scoped signing key. `api`: the prefix of
        JetStream's API in the account where the user connects."""
        allowed: list[str] = []
        for stream in self.readable:
            # Listing consumers reveals others' inboxes, so a browser's token must not permit it.
            allowed += reading(stream, api, consumers=not self.web_page)
        for service in self.services:
            allowed += ["$SRV.>"] if service == ALL else [f"$SRV.*.{service}", f"$SRV.*.{service}.*"]
        allowed += self.publish
        for stream in self.manage:
            allowed += [f"{api}.STREAM.PURGE.{stream}", f"{api}.STREAM.MSG.DELETE.{stream}"]
        # The server treats an empty allow list as no restriction.
        pub = {"allow": allowed} if allowed else {"deny": [">"]}
        return {"pub": pub, "sub": {"allow": [OWN_INBOX]}}


@dataclass(frozen=True)
class Roles:
    """The roles file."""

    roles: Mapping[str, Role]
    claim: str = "groups"
    minutes: float = MINUTES

    def of(self, groups: Iterable[str]) -> Role | None:
        """The role of a person with these groups: the first that lists one of them."""
        mine = set(groups)
        for role in self.roles.values():
            if ALL in role.groups or mine & set(role.groups):
                return role
        return None


def reading(stream: str, api: str, *, consumers: bool = True) -> list[str]:
    """The subjects needed to read `stream` and its configuration; "*": all streams. With `consumers`, also
    those to list its consumers."""
    flow = ["$JS.FC.>"] if stream == ALL else [f"$JS.FC.{stream}.>", f"$JS.FC.*.*.{stream}.>"]
    listing = [f"{api}.STREAM.LIST", f"{api}.STREAM.NAMES"] if stream == ALL else []
    return [
        *listing,
        f"{api}.STREAM.INFO.{stream}",
        f"{api}.STREAM.MSG.GET.{stream}",
        f"{api}.DIRECT.GET.{stream}",
        f"{api}.CONSUMER.CREATE.{stream}.>",
        f"{api}.CONSUMER.INFO.{stream}.*",
        *([f"{api}.CONSUMER.LIST.{stream}"] if consumers else []),
        f"{api}.CONSUMER.DELETE.{stream}.*",
        *flow,
    ]


def roles_file() -> Path:
    """The path of the roles file: LOOKBACK_ROLES, or the file beside this module."""
    return environment.ROLES.read()


def load_roles(file: Path | None = None) -> Roles:
    """The roles in `file`, by default `roles_file()`. Raises SettingsError, which names the file, the role
    and the key."""
    file = file or roles_file()
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The roles file {str(file)!r} cannot be read ({error.__class__.__name__})."
        ) from None
    except ValueError as error:
        raise SettingsError(f"The roles file {str(file)!r} is not valid TOML: {error}.") from None
    try:
        return _roles(table)
    except (SettingsError, SubjectError) as error:
        raise SettingsError(f"The roles file {str(file)!r}: {error}") from None


class Table:
    """The roles file, read again when it changes. A broken file is logged and changes nothing."""

    def __init__(self) -> None:
        """Raises SettingsError if the file cannot be read at the start."""
        self._file = roles_file()
        self._seen = self._mark()
        self._roles = load_roles(self._file)

    def current(self) -> Roles:
        """The roles as last read successfully."""
        mark = self._mark()
        if mark != self._seen:
            self._seen = mark
            try:
                self._roles = load_roles(self._file)
                log.warning("The roles file has changed. Roles: %s.", ", ".join(self._roles.roles))
            except SettingsError as error:
                log.error("%s The roles stay as they were.", error)
        return self._roles

    def _mark(self) -> tuple[int, ...] | None:
        try:
            state = self._file.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino


def _roles(table: Mapping[str, Any]) -> Roles:
    for key in table:
        if key not in ("claim", "minutes", "roles"):
            raise SettingsError(
                f"Unknown key {key!r}. " + one_of(key, ("claim", "minutes", "roles"), what="key")
            )
    claim, minutes, roles = table.get("claim", "groups"), table.get("minutes", MINUTES), table.get("roles")
    if not isinstance(claim, str) or not claim:
        raise SettingsError("'claim' must be a text.")
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0.05 <= minutes <= 1440:
        raise SettingsError("'minutes' must be a number from 0.05 to 1440.")
    if not isinstance(roles, Mapping) or not roles:
        raise SettingsError("There is no role. Add one, such as [roles.viewer].")
    return Roles({name: _role(name, entry) for name, entry in roles.items()}, claim, minutes)


def _role(name: str, entry: Any) -> Role:
    known = [f.name for f in fields(Role) if f.name != "name"]
    if not isinstance(entry, Mapping):
        raise SettingsError(f"The role {name!r} is not a table. Write it as [roles.{name}].")
    if not name.isidentifier():
        raise SettingsError(f"The role {name!r} must have a name of letters, digits and underscores.")
    lists: dict[str, tuple[str, ...]] = {}
    web_page = False
    for key, value in entry.items():
        if key not in known:
            raise SettingsError(f"The role {name!r} has {key!r}. " + one_of(key, known, what="key"))
        if key == "web_page":
            if not isinstance(value, bool):
                raise SettingsError(f"'web_page' of the role {name!r} must be true or false.")
            web_page = value
            continue
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise SettingsError(f"{key!r} of the role {name!r} must be a list of texts.")
        lists[key] = tuple(value)
    role = Role(name, **lists, web_page=web_page)
    for stream in (*role.streams, *role.manage):
        if stream != ALL:
            check_stream_name(stream)
    for bucket in role.buckets:
        check_bucket(bucket)
    for service in role.services:
        if service != ALL:
            check_service(service)
    for subject in role.publish:
        check_filter(subject)
        for never, why in NEVER.items():
            if _overlap(subject.split("."), never.split(".")):
                raise SettingsError(f"The role {name!r} may not publish to {subject!r}: {why}.")
    return role


def _overlap(one: list[str], other: list[str]) -> bool:
    """True if a subject can match both filters, given as tokens."""
    for a, b in zip(one, other, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(one) == len(other)
