"""The accounts of the embedded server: their keys, their logins, and their part of the server's
configuration.

    python -m services.accounts              prints the exports and imports
    python -m services.accounts nsc          the same as commands of nsc, for your own operator
    python -m services.accounts conf         the roles as users of a server with a single account
    python -m services.accounts revoke U…    revokes a user of APP and closes its connections

The keys are created once and stay in the data directory, readable only by its owner: JetStream's store is
named after the key of DATA. services/accounts/layout.py has the exports and imports.
"""

import asyncio
import base64
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from nats_client.connection.credentials import UserLogin, claims_of
from nats_client.connection.patched_nats import SafeNatsPy
from nats_client.errors import LookbackError
from services.accounts.claims import Key, signed
from services.accounts.layout import (
    ACCOUNTS,
    API,
    BROKER,
    DASHBOARD,
    DOMAIN,
    EXPORTS,
    SERVICES_INBOX,
    Export,
    as_nsc,
    as_users,
    imports,
    in_words,
)
from services.accounts.roles import INBOX, Role, Roles, load_roles
from services.nats_server import server as nats_server
from services.nats_server.server import ServerError

User = Literal["data", "services", "dashboard", "broker"]
"""Users with a credentials file. Users of roles get a JWT from the token service."""

SUBSCRIPTIONS = 1000
"""Limit of subscriptions per connection in APP."""
REVOKED = "revoked.json"
LOCK_TIMEOUT = 20.0  # seconds; a start holds the lock for some of them
RELOAD_TIMEOUT = 5.0  # seconds

_USER_KEY = re.compile("U[A-Z2-7]{55}")
_SEED = re.compile("^SU[A-Z2-7]+$", re.MULTILINE)
_UNLIMITED = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT = {**_UNLIMITED, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": 0}
_IN_APP = {**_UNLIMITED, "subs": SUBSCRIPTIONS}
_WEB_PAGE = {"bearer_token": True, "allowed_connection_types": ["WEBSOCKET"]}
_STREAMS = ("mem_storage", "disk_storage", "streams", "consumer", "max_ack_pending")
_JETSTREAM = dict.fromkeys((*_STREAMS, "mem_max_stream_bytes", "disk_max_stream_bytes"), -1)


class AccountsError(LookbackError):
    """Keys cannot be read or written, or a user cannot be revoked. The message says which and why."""


@dataclass(frozen=True)
class Keys:
    """The keys of the operator and the accounts, and the signing key of each role."""

    operator: Key
    accounts: Mapping[str, Key]
    roles: Mapping[str, Key]

    @classmethod
    def load(cls, data_dir: Path, roles: Iterable[str] = ()) -> "Keys":
        """The keys of a data directory; missing ones are created. Call it with the directory locked. Raises
        AccountsError."""
        _folder(data_dir, "keys")
        return cls(
            _key(_seed(data_dir, "operator"), "operator"),
            {name: _key(_seed(data_dir, name), "account") for name in ACCOUNTS},
            {name: _key(_seed(data_dir, f"role-{name}"), "account") for name in roles},
        )


def role_key(data_dir: Path, role: str) -> Path:
    """The file with the seed of the signing key of `role`."""
    return _seed(data_dir, f"role-{role}")


def credentials_file(data_dir: Path, user: User) -> Path:
    """The credentials file of a user of the embedded server."""
    return data_dir / "creds" / f"{user}.creds"


def login(data_dir: Path, user: User, url: str) -> dict[str, str]:
    """How a user of the embedded server connects: a mapping for Settings.load."""
    settings = {"url": url, "credentials": str(credentials_file(data_dir, user))}
    if user == "data":
        return settings
    root = SERVICES_INBOX if user == "services" else INBOX
    return {**settings, "domain": DOMAIN, "inbox_prefix": f"{root}.{user}"}


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Lock the keys and the accounts' configuration against other processes. Raises AccountsError after 20
    s."""
    _folder(data_dir, "keys")
    try:
        with FileLock(data_dir / "keys" / "lock", timeout=LOCK_TIMEOUT, mode=0o600, fallback_to_soft=False):
            yield
    except Timeout:
        raise AccountsError(
            f"Another process holds {data_dir / 'keys' / 'lock'}. Stop it, or wait."
        ) from None


def server_config(data_dir: Path) -> dict[str, Any]:
    """The accounts' part of the server's configuration. Renews the credentials files. Call it with the
    directory locked.

    Raises AccountsError, and SettingsError if the roles file cannot be read.
    """
    roles = load_roles()
    keys = Keys.load(data_dir, roles.roles)
    _write_users(data_dir, keys)
    system = keys.accounts["sys"].public
    operator = {"type": "operator", "system_account": system}
    accounts = {name: _account(name, keys) for name in ACCOUNTS}
    accounts["app"] |= {"signing_keys": _scopes(keys, roles), "revocations": _revoked(data_dir)}
    return {
        "operator": signed(keys.operator, keys.operator.public, "lookback", operator),
        "system_account": system,
        "resolver": "MEMORY",
        "resolver_preload": {
            keys.accounts[name].public: _signed_account(name, keys, claims)
            for name, claims in accounts.items()
        },
    }


def adopt_store(data_dir: Path) -> None:
    """Move streams from a version without accounts to DATA. Call it with the directory locked and no server
    running."""
    store = data_dir / "jetstream"
    before, now = store / "$G", store / Keys.load(data_dir).accounts["data"].public
    if before.is_dir() and not now.exists():
        before.replace(now)


def revoke(data_dir: Path, user: str) -> bool:
    """Refuse all JWTs signed until now for the public key `user` (U…) of APP, and close its connections.

    Persistent across restarts. Returns True if a running server was updated. Raises AccountsError.
    """
    if not _USER_KEY.fullmatch(user):
        raise AccountsError(f"{user!r} is not a user's public key: 56 characters, beginning with U.")
    with locked(data_dir):
        keys = Keys.load(data_dir)
        revoked = {**_revoked(data_dir), user: int(time.time())}
        _write(data_dir / "keys" / REVOKED, json.dumps(revoked))
        # Change nothing else: this process may have another roles file than the app
        return _change_app(data_dir, keys, {"revocations": revoked})


def permit(data_dir: Path, roles: Roles) -> None:
    """Apply changed roles to the running server. It closes the connections of users whose permissions have
    changed; they reconnect with the new ones. Raises AccountsError."""
    with locked(data_dir):
        keys = Keys.load(data_dir, roles.roles)
        _change_app(data_dir, keys, {"signing_keys": _scopes(keys, roles)})


def _change_app(data_dir: Path, keys: Keys, claims: Mapping[str, Any]) -> bool:
    """Change `claims` of the account APP, in the configuration and in the running server. Returns False
    without a running server."""
    config = nats_server.read_config(data_dir)
    if config is None:
        return False
    preload, app = config["resolver_preload"], keys.accounts["app"].public
    jwt = _signed_account("app", keys, claims_of(preload[app])["nats"] | claims)
    nats_server.write_config(data_dir, config | {"resolver_preload": preload | {app: jwt}})
    return asyncio.run(_reload(data_dir, keys.accounts["sys"]))


async def _reload(data_dir: Path, system: Key) -> bool:
    """Make the running server reload its configuration. Returns False if there is none."""
    ports = nats_server.last_ports(data_dir)
    if ports is None or not nats_server.is_ready(data_dir, ports):
        return False
    user = Key.new("user")
    claims = {"type": "user", "pub": {}, "sub": {}, **_UNLIMITED}
    jwt = signed(system, user.public, "reload", claims, expires=time.time() + 60)
    client = SafeNatsPy()
    await client.connect(
        ports.url,
        user_jwt_cb=jwt.encode,
        signature_cb=lambda nonce: base64.b64encode(user.sign(nonce.encode())),
        allow_reconnect=False,
    )
    try:
        subject = f"$SYS.REQ.SERVER.{client.server_info['server_id']}.RELOAD"
        answer = json.loads((await client.request(subject, timeout=RELOAD_TIMEOUT)).data)
    finally:
        await client.close()
    if error := answer.get("error"):
        raise AccountsError(f"The server refuses the new configuration: {error.get('description')}.")
    return True


def _account(name: str, keys: Keys) -> dict[str, Any]:
    return {
        "type": "account",
        "limits": {**_ACCOUNT, **(_JETSTREAM if name == "data" else {})},
        "exports": [_export(each) for each in EXPORTS.get(name, ())],
        "imports": [_import(each, keys.accounts[owner].public) for owner, each in imports(name)],
    }


def _signed_account(name: str, keys: Keys, claims: Mapping[str, Any]) -> str:
    return signed(keys.operator, keys.accounts[name].public, name.upper(), claims)


def _export(export: Export) -> dict[str, Any]:
    answers = {"response_type": "Stream" if export.many else "Singleton"} if export.kind == "service" else {}
    return {"name": export.subject, "subject": export.subject, "type": export.kind, **answers}


def _import(export: Export, owner: str) -> dict[str, str]:
    local = {"local_subject": export.local} if export.local else {}
    return {"name": export.subject, "subject": export.subject, "account": owner, "type": export.kind, **local}


def _scopes(keys: Keys, roles: Roles) -> list[dict[str, Any]]:
    """The permissions of each role, as scopes of its signing key. The users' JWTs have none themselves."""
    return [
        {
            "kind": "user_scope",
            "key": keys.roles[role.name].public,
            "role": role.name,
            "template": {**role.permissions(API), **_IN_APP, **(_WEB_PAGE if role.web_page else {})},
        }
        for role in roles.roles.values()
    ]


def _write_users(data_dir: Path, keys: Keys) -> None:
    """Renew the credentials files. A user keeps its key, so that copies of the files stay valid."""
    _folder(data_dir, "creds")
    users: dict[User, tuple[str, dict[str, Any]]] = {
        "data": ("data", _UNLIMITED),
        "services": ("services", _UNLIMITED),
        "dashboard": ("app", {**_permissions(DASHBOARD, "metrics.>"), **_IN_APP}),
        "broker": ("app", {**_permissions(BROKER), **_IN_APP}),
    }
    for name, (account, claims) in users.items():
        file = credentials_file(data_dir, name)
        key = _user_key(file)
        jwt = signed(
            keys.accounts[account], key.public, name, {"type": "user", "pub": {}, "sub": {}, **claims}
        )
        _write(file, UserLogin(jwt, key.seed).text)


def _permissions(role: Role, *subscribe: str) -> dict[str, Any]:
    """The permissions of a role, with its own inbox, and the subjects `subscribe` in addition."""
    own = {"allow": [f"{INBOX}.{role.name}.>", *subscribe]}
    return {**role.permissions(API), "sub": own}


def _user_key(file: Path) -> Key:
    """The key in a credentials file, or a new one."""
    with suppress(OSError, ValueError):
        if found := _SEED.search(file.read_text(encoding="ascii")):
            return _checked(Key(found[0]), "U")
    return Key.new("user")


def _key(file: Path, kind: Literal["operator", "account"]) -> Key:
    try:
        return _checked(Key(file.read_text(encoding="ascii").strip()), "O" if kind == "operator" else "A")
    except FileNotFoundError:
        key = Key.new(kind)
        _write(file, key.seed + "\n")
        return key
    except (OSError, ValueError) as error:
        raise AccountsError(
            f"The key in {file} cannot be read: {error}. Restore the file from a backup: the streams on disk "
            "belong to the key in data.nk."
        ) from None


def _checked(key: Key, first: str) -> Key:
    try:
        public = key.public
    except Exception:  # nkeys passes on whatever base64 and PyNaCl raise
        raise ValueError("it is not the seed of a key") from None
    if not public.startswith(first):
        raise ValueError("it is a key of another kind")
    return key


def _revoked(data_dir: Path) -> dict[str, int]:
    file = data_dir / "keys" / REVOKED
    try:
        revoked = json.loads(file.read_text())
        if isinstance(revoked, dict) and all(type(when) is int for when in revoked.values()):
            return revoked
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        pass
    raise AccountsError(f"{file}, the list of revoked users, cannot be read. Repair it, or remove it.")


def _seed(data_dir: Path, name: str) -> Path:
    return data_dir / "keys" / f"{name}.nk"


def _folder(data_dir: Path, name: str) -> None:
    folder = data_dir / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise AccountsError(f"Cannot create {folder}: {error}.") from None


def _write(file: Path, text: str) -> None:
    """Write a file readable only by its owner, atomically."""
    try:
        nats_server.write_private(file, text)
    except OSError as error:
        raise AccountsError(f"Cannot write {file}: {error}.") from None


def _main(arguments: Sequence[str]) -> str:
    match list(arguments):
        case []:
            return in_words()
        case ["nsc"]:
            return as_nsc(load_roles())
        case ["conf"]:
            return as_users(load_roles())
        case ["revoke", user]:
            applied = revoke(nats_server.data_dir(), user)
            return "Revoked." if applied else "Revoked from the next start on: no server is running."
    raise AccountsError(str(__doc__))


def main() -> None:
    """The command."""
    try:
        print(_main(sys.argv[1:]))
    except (LookbackError, ServerError) as error:
        sys.exit(str(error))
