"""Reads user JWTs and seeds from settings and files, and checks them before use. No error text shows them.

https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt
"""

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import nkeys

from ..errors import SettingsError

_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+([\w.-]+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\w+)\s+-+END USER NKEY SEED-+")


class UserLogin(NamedTuple):
    """A user JWT and the seed of its key."""

    jwt: str
    seed: str

    @property
    def text(self) -> str:
        """The login in the format of a .creds file, as written by `nsc`."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )


def read_credentials(path: str) -> UserLogin:
    """Read the .creds file at `path`. Raises SettingsError if it is missing or not a valid one."""
    text = _read("credentials", path)
    if not text.strip():
        raise SettingsError(f"credentials: the file {path!r} is empty. Get a new one from its issuer.")
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        if jwt is None and seed is None:
            bare = text.strip()
            other = " It contains only a user JWT: set 'jwt' to it." if bare.startswith("eyJ") else ""
            other = " It contains only a seed: set 'nkey' to it." if bare.startswith("SU") else other
            raise SettingsError(f"credentials: the file {path!r} is not a credentials file.{other}")
        lost = "user JWT (BEGIN NATS USER JWT)" if jwt is None else "seed (BEGIN USER NKEY SEED)"
        raise SettingsError(
            f"credentials: the file {path!r} has no complete {lost}. Get a new one from its issuer."
        )
    where = f"credentials: the file {path!r}"
    _check_jwt(jwt[1], where)
    return checked_pair(jwt[1], _checked_seed(seed[1], where), where)


def read_jwt(value: str) -> str:
    """Read a user JWT: `value` itself, or the content of the file at that path. Raises SettingsError."""
    if value.strip().startswith("eyJ"):
        return _check_jwt(value.strip(), "jwt: the setting")
    text = _read("jwt", value)
    found = _JWT.search(text)
    return _check_jwt(found[1] if found else text.strip(), f"jwt: the file {value!r}")


def read_seed(value: str) -> str:
    """Read a user seed: `value` itself, or the content of the file at that path. Raises SettingsError."""
    value = value.strip()
    if value.startswith("SU"):
        return _checked_seed(value, "nkey: the setting")
    try:
        text = Path(value).expanduser().read_text(encoding="ascii", errors="replace")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"nkey: neither a user seed (SU…) nor the path of a readable file ({error.__class__.__name__})."
        ) from None
    found = _SEED.search(text)
    return _checked_seed(found[1] if found else text.strip(), "nkey: the file")


def checked_pair(jwt: str, seed: str, where: str) -> UserLogin:
    """Return both as a login. Raises SettingsError if the JWT is not for the seed's key."""
    if claims_of(jwt).get("sub") != public_key(seed):
        raise SettingsError(f"{where}: the user JWT and the seed belong to different users.")
    return UserLogin(jwt, seed)


def public_key(seed: str) -> str:
    """The public key (U…) of `seed`."""
    pair = nkeys.from_seed(bytearray(seed.encode()))
    public: str = pair.public_key.decode().rstrip("=")
    return public


def claims_of(jwt: str) -> dict[str, Any]:
    """Decode the claims of a JWT without checking its signature; the server does that. Raises ValueError."""
    try:
        _, body, _ = jwt.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except ValueError:
        raise ValueError("This is not a JWT.") from None
    if not isinstance(claims, dict):
        raise ValueError("This is not a JWT.")
    return claims


def no_such_file(setting: str, path: str) -> str:
    """The message about a setting that names a missing file."""
    return f"{setting}: there is no file {shown_path(path)}."


def shown_path(path: str) -> str:
    """`path` for display. If it looks like a secret written there by mistake, a placeholder instead."""
    secret = path.strip().startswith(("SU", "eyJ", "-----")) or len(path) > 200 or "\n" in path
    return "(not shown: the setting is not a path)" if secret else repr(path)


def _check_jwt(jwt: str, where: str) -> str:
    try:
        kind = claims_of(jwt).get("nats", {}).get("type")
    except (ValueError, AttributeError):
        raise SettingsError(f"{where} does not contain a valid JWT. Get a new one.") from None
    if kind != "user":
        raise SettingsError(f"{where} contains a JWT of type {kind!r}; a login needs one of type 'user'.")
    return jwt


def _checked_seed(seed: str, where: str) -> str:
    try:
        if public_key(seed).startswith("U"):
            return seed
    except (nkeys.NkeysError, ValueError, TypeError):
        pass
    raise SettingsError(f"{where} does not contain a valid user seed, which starts with SU.")


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise SettingsError(no_such_file(setting, path)) from None
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{setting}: cannot read the file {shown_path(path)} ({error.__class__.__name__}). Check its "
            "permissions."
        ) from None
