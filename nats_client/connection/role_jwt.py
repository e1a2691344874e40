"""Logs in as a role with a user JWT that a token service issues for a few minutes. See docs/tokens.md.

The login in the settings (the broker's) may request tokens and nothing else. The user's key is generated
here, one per token. It never leaves the memory of this process: the service sees only the public key.
"""

import base64
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nats.errors
import nkeys
from nats.aio.msg import Msg

from ..errors import LookbackError, RequestRefused, SubjectError, TokenRefused, TokenUnavailable
from ..subjects import check_service, check_stream_name
from .settings import Settings

SUBJECT = "tokens.mint"
"""The subject of the token service."""
RENEW_AT = 0.6
"""Share of its lifetime after which a token is renewed. Pending requests and queries have the rest to
finish."""
CLOSE_AT = 0.95
"""Share of its lifetime after which a superseded connection is closed, even if it is still in use."""


@dataclass(frozen=True)
class Rights:
    """What a login may see, as far as it is known. Requests for anything else would be refused."""

    role: str | None = None
    """The role in use; None for a login without one."""
    pages: tuple[str, ...] | None = None
    """File names of the permitted pages; None for all."""
    streams: tuple[str, ...] | None = None
    """Streams that may be listed and read, those of buckets with their prefix `KV_`; None for all."""
    services: tuple[str, ...] | None = None
    """Names of services that may be discovered; None for all."""

    @classmethod
    def of(cls, settings: Settings) -> "Rights":
        """The rights that the settings name. For a role: nothing until its first token."""
        if settings.role:
            return cls(settings.role, (), (), ())
        return cls(None, None, _names(settings.streams), _names(settings.services))


@dataclass(frozen=True)
class Token:
    """A user JWT with its key, rights and times."""

    rights: Rights
    inbox_prefix: str
    renew_at: float
    """On the monotonic clock, in seconds, like the other times. The service sends a duration, so that a wrong
    clock here does no harm."""
    close_at: float
    ends_at: float
    _jwt: str = field(repr=False)
    _pair: nkeys.KeyPair = field(repr=False)

    def login(self) -> dict[str, Any]:
        """The login as arguments for `nats.connect`."""
        return {"user_jwt_cb": self._jwt.encode, "signature_cb": self._sign}

    def _sign(self, nonce: str) -> bytes:
        return base64.b64encode(self._pair.sign(nonce.encode()))


class TokenRequest:
    """A request for a token of `role`, with a new key."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._pair = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
        self._requested_at = time.monotonic()

    @property
    def payload(self) -> bytes:
        """The request's payload: JSON with the role and the public key."""
        key = self._pair.public_key.decode().rstrip("=")
        return json.dumps({"role": self._role, "key": key}).encode()

    def token(self, reply: Msg, early: float = 0) -> Token:
        """Read the token from `reply`. Its lifetime is shortened by `early` seconds. Raises TokenRefused if
        the service refuses the role, and TokenUnavailable if there is no valid token in the reply."""
        headers = reply.headers or {}
        if code := headers.get("Nats-Service-Error-Code"):
            why = headers.get("Nats-Service-Error", "")[:300]
            if code.startswith("4"):
                raise TokenRefused(
                    f"The token service rejects the role {self._role!r}: {why} Check 'role', or ask the "
                    "administrator of the roles."
                )
            raise TokenUnavailable(f"The token service cannot issue a token for {self._role!r}: {why}")
        try:
            issued = json.loads(reply.data)
            lives = max(0.0, float(issued["lives"]) - early)
            rights = Rights(
                self._role,
                _list(issued["pages"], str),
                _list(issued["streams"], check_stream_name),
                _list(issued["services"], check_service),
            )
            jwt, inbox_prefix = str(issued["jwt"]), str(issued["inbox_prefix"])
        except (ValueError, LookupError, TypeError, SubjectError):
            raise TokenUnavailable(
                f"The reply of the token service at {SUBJECT!r} is not valid. Check which service listens "
                "there."
            ) from None
        since = self._requested_at
        return Token(
            rights,
            inbox_prefix,
            since + RENEW_AT * lives,
            since + CLOSE_AT * lives,
            since + lives,
            jwt,
            self._pair,
        )

    def failed(self, error: Exception) -> LookbackError:
        """The error for a request that got no reply."""
        if isinstance(error, RequestRefused):
            return TokenRefused(
                f"The login is not permitted to request tokens at {SUBJECT!r}. {error} Or use another login."
            )
        if isinstance(error, nats.errors.NoRespondersError):
            return TokenUnavailable(
                f"No token for the role {self._role!r}: no token service listens at {SUBJECT!r}. Check that "
                "it is running, and that the login's account imports it."
            )
        return TokenUnavailable(
            f"No token for the role {self._role!r}: the token service at {SUBJECT!r} did not answer in time."
        )


def token_rejected(role: str, where: str) -> TokenRefused:
    """The error if the server rejects a token that was just issued."""
    return TokenRefused(
        f"The token of the role {role!r} was rejected by {where}. It may be revoked, the account may not "
        "list the role's signing key, or the clocks of server and token service may differ."
    )


def role_not_enforced(role: str, where: str) -> TokenRefused:
    """The error if the server does not check tokens, and so would not enforce the role's permissions."""
    return TokenRefused(
        f"The role {role!r} cannot be used at {where}: the server is not in operator mode and does not check "
        "tokens. Remove 'role', or ask the server's administrator."
    )


def token_ended(
    role: str, where: str, error: Exception, renewal: LookbackError | None
) -> LookbackError | None:
    """The error if the server closed the connection because of its token; None if it had another reason."""
    text = str(error).lower()
    if "revoked" in text:
        return TokenRefused(f"The token of the role {role!r} was revoked at {where}.")
    if "expired" in text:
        return renewal or TokenUnavailable(f"The token of the role {role!r} has expired at {where}.")
    return None


def _names(listed: str | None) -> tuple[str, ...] | None:
    if listed is None:
        return None
    return tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))


def _list(value: Any, check: Callable[[str], str]) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise TypeError
    return tuple(check(one) for one in value)
