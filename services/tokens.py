"""Issues short-lived user JWTs for roles, on NATS: the service `tokens`.

    python -m services.tokens nats://127.0.0.1:4222 keys [account]

`keys` is a directory with the seed of a scoped signing key for each role, `role-viewer.nk`, and that of their
account, `app.nk`. Without the account's seed, give its public key (A…) as the third argument. The roles are
those of LOOKBACK_ROLES, read again when the file changes. The NATS login comes from NATS_CREDS, … as
everywhere. docs/tokens.md is the protocol, and says how to make the keys. Ends on SIGTERM.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import math
import secrets
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import nats.micro
import nkeys
from nats.micro.request import Request, ServiceError

from nats_client.connection.role_jwt import SUBJECT
from nats_client.connection.settings import Settings
from nats_client.errors import LookbackError, SettingsError, one_of
from services.accounts.claims import PREFIX, Key, signed
from services.accounts.roles import ALL, INBOX, Role, Table
from services.program import connect, until_signal

NAME = "tokens"
VERSION = "1.0.0"
MOST_ASKED = 1024  # bytes of a request
LOGIN_PAUSE = 1.0  # seconds
CLOSE_TIMEOUT = 1.0  # seconds

log = logging.getLogger("services.tokens")


@dataclass(frozen=True)
class Minted:
    """A token and the facts that its user needs. Its permissions are in the account, with the signing key."""

    jwt: str = field(repr=False)
    key: str
    """The user's public key, with which the token can be revoked."""
    name: str
    """The user's name. Random, because it is part of the user's inbox prefix."""
    expires: int
    """Seconds since the epoch, by our clock."""
    lives: float
    """Seconds from now, for callers with another clock."""
    role: Role

    def reply(self) -> dict[str, Any]:
        """The reply to the request, for JSON."""
        role = self.role
        return {
            "jwt": self.jwt,
            "expires": self.expires,
            "lives": self.lives,
            "inbox_prefix": f"{INBOX}.{self.name}",
            "streams": None if ALL in role.readable else list(role.readable),
            "services": None if ALL in role.services else list(role.services),
            "pages": None if role.pages is None else list(role.pages),
        }


def mint(role: Role, key: str, signing: Key, account: str, seconds: float) -> Minted:
    """A user JWT of `account` (A…) for the public user key `key` (U…) that lives `seconds`.

    `signing` is the role's scoped signing key: the account has its permissions, the JWT has none. Raises
    SettingsError if `key` is not the public key of a user.
    """
    check_key(key, "user")
    name = secrets.token_hex(16)
    now = time.time()
    expires = math.ceil(now + seconds)
    jwt = signed(signing, key, name, {"type": "user", "issuer_account": account}, expires=expires)
    return Minted(jwt, key, name, expires, round(expires - now, 3), role)


def check_key(key: str, kind: Literal["account", "user"]) -> str:
    """Return `key` if it is a public key of that kind (A…, U…) with a correct checksum. Raises SettingsError
    otherwise.

    https://github.com/nats-io/nkeys#readme: base32 of a prefix, 32 bytes and a CRC-16 of both.
    """
    with contextlib.suppress(binascii.Error, UnicodeEncodeError, TypeError, AttributeError):
        raw = base64.b32decode(key.encode("ascii"))
        right = len(raw) == 35 and raw[0] == PREFIX[kind] and nkeys.crc16_checksum(raw[:33]) == raw[33:]
        if right:
            return key
    raise SettingsError(f"'key' is not the public key of {'an' if kind == 'account' else 'a'} {kind}.")


class Tokens:
    """The service."""

    def __init__(self, keys: Path, account: str | None = None) -> None:
        """Raises SettingsError if the account or the roles cannot be read, or if `account` is not a key."""
        self._keys = keys
        self._account = check_key(account, "account") if account else _key(keys / "app.nk").public
        self._table = Table()
        for role in self._table.current().roles:
            with contextlib.suppress(ServiceError):  # logs a missing key at start, not at the first sign-in
                self._signing_key(role)

    async def serve(self, settings: Settings) -> None:
        """Connect and answer, reconnecting after every loss, until cancelled."""
        while True:
            ended = asyncio.Event()
            nc = await connect(settings, "lookback-tokens", log, ended=ended.set)
            try:
                service = await nats.micro.add_service(
                    nc, name=NAME, version=VERSION, description="Short-lived user JWTs by role"
                )
                await service.add_endpoint(name="mint", subject=SUBJECT, handler=self._mint)
                await ended.wait()  # nats-py gives up on a revoked or expired login
                log.warning("The login at %s has ended (%s); retrying.", settings.shown, nc.last_error)
            finally:
                with contextlib.suppress(Exception):  # closing: nobody can act on an error
                    await asyncio.wait_for(nc.close(), CLOSE_TIMEOUT)
            await asyncio.sleep(LOGIN_PAUSE)

    async def _mint(self, request: Request) -> None:
        try:
            minted = self.answer(request.data)
        except ServiceError as error:
            log.warning("No token: %s", error.description)
            raise
        except Exception:
            log.exception("a request failed")
            raise ServiceError("500", "The token service failed; its log says why.") from None
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(minted.expires))
        log.info(
            "A token of the role %s for %s, key %s, until %s.",
            minted.role.name,
            minted.name,
            minted.key,
            until,
        )
        await request.respond(json.dumps(minted.reply()).encode())

    def answer(self, data: bytes) -> Minted:
        """The token for a request. Raises ServiceError: 400 if the request is not valid, 403 if the role is
        unknown, 503 if there is no signing key."""
        name, key = _read(data)
        roles = self._table.current()
        role = roles.roles.get(name)
        if role is None:
            raise ServiceError("403", f"There is no role {name!r}.")
        try:
            return mint(role, key, self._signing_key(name), self._account, roles.minutes * 60)
        except SettingsError as error:
            raise ServiceError("400", str(error)) from None

    def _signing_key(self, role: str) -> Key:
        try:
            return _key(self._keys / f"role-{role}.nk")
        except SettingsError as error:
            log.error("%s Put the seed of the role's scoped signing key there (see docs/tokens.md).", error)
            raise ServiceError(
                "503",
                f"There is no signing key for the role {role!r}; see the log of the token service.",
            ) from None


def _read(data: bytes) -> tuple[str, str]:
    """Role and key of a request. Raises ServiceError."""
    if len(data) > MOST_ASKED:
        raise ServiceError("400", f"The request has {len(data):,} bytes; {MOST_ASKED:,} are allowed.")
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError):
        raise ServiceError("400", "The request is not JSON.") from None
    if not isinstance(asked, dict) or not all(isinstance(asked.get(name), str) for name in ("role", "key")):
        raise ServiceError("400", 'The request must be an object with the texts "role" and "key".')
    if unknown := asked.keys() - {"role", "key"}:
        raise ServiceError("400", one_of(min(unknown), ("role", "key"), what="key"))
    return asked["role"], asked["key"]


def _key(file: Path) -> Key:
    """The account key whose seed (SA…) is in `file`. Raises SettingsError."""
    try:
        key = Key(file.read_text(encoding="ascii").strip())
        if key.public.startswith("A"):
            return key
    except OSError as error:
        raise SettingsError(f"The key {str(file)!r} cannot be read ({error.__class__.__name__}).") from None
    except (ValueError, nkeys.NkeysError):
        pass
    raise SettingsError(f"The key {str(file)!r} is not the seed of an account (SA…).")


async def _main(url: str, keys: Path, account: str | None) -> None:
    settings = replace(Settings.load(), url=url)
    await until_signal(Tokens(keys, account).serve(settings))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    try:
        asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) == 4 else None))
    except LookbackError as error:
        sys.exit(str(error))
