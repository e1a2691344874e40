"""NATS keys and JWTs for servers in operator mode: an operator signs accounts, an account signs users.

https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt
https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-14.md
"""

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import nkeys

PREFIX = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


@dataclass(frozen=True)
class Key:
    """A key pair. Its seed never shows in repr."""

    seed: str = field(repr=False)

    @classmethod
    def new(cls, kind: Literal["operator", "account", "user"]) -> "Key":
        """A new random key."""
        return cls(nkeys.encode_seed(os.urandom(32), PREFIX[kind]).decode())

    @property
    def public(self) -> str:
        """The public key: O…, A… or U…"""
        public: bytes = self._pair().public_key
        return public.decode().rstrip("=")

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature."""
        signature: bytes = self._pair().sign(data)
        return signature

    def _pair(self) -> nkeys.KeyPair:
        return nkeys.from_seed(bytearray(self.seed.encode()))


def signed(
    issuer: Key,
    subject: str,
    name: str,
    claims: Mapping[str, Any],
    *,
    begins: float | None = None,
    expires: float | None = None,
) -> str:
    """A JWT of `issuer` for the public key `subject`. `begins`, `expires`: seconds since the epoch; None
    means at once and never."""
    body: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": issuer.public,
        "name": name,
        "sub": subject,
        "nats": {"version": 2, **claims},
    }
    if begins is not None:
        body["nbf"] = int(begins)
    if expires is not None:
        body["exp"] = int(expires)
    body["jti"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    head = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(body)}"
    return f"{head}.{_encoded(issuer.sign(head.encode()))}"


def _encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
