"""Logins of an operator's account, made for a test: keys, user JWTs, credentials files."""

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

EVERYTHING = {"subs": -1, "data": -1, "payload": -1}


def new_key(prefix: int) -> tuple[nkeys.KeyPair, str, str]:
    """A key pair, its public key, and its seed."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    pair = nkeys.from_seed(bytearray(seed))
    return pair, pair.public_key.decode().strip("="), seed.decode()


def signed(issuer: nkeys.KeyPair, subject: str, name: str, claims: dict[str, Any]) -> str:
    """A NATS JWT."""

    def encode(part: Any) -> str:
        data = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    body = {
        "iat": int(time.time()),
        "iss": issuer.public_key.decode().strip("="),
        "name": name,
        "sub": subject,
        "nats": {"version": 2, **claims},
    }
    body["jti"] = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    head = f"{encode({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{encode(body)}"
    return f"{head}.{encode(issuer.sign(head.encode()))}"


def signed_user(
    account: nkeys.KeyPair,
    key: str,
    limits: dict[str, int],
    expires: int | None,
    begins: int | None = None,
) -> str:
    """A user JWT, which begins at `begins` and ends at `expires` (seconds since the epoch)."""
    jwt = signed(account, key, "me", {"type": "user", "pub": {}, "sub": {}, **limits})
    times = {"exp": expires, "nbf": begins}
    if not any(times.values()):
        return jwt
    head, body, _ = jwt.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims |= {name: value for name, value in times.items() if value is not None}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    signature = base64.urlsafe_b64encode(account.sign(f"{head}.{body}".encode())).decode().rstrip("=")
    return f"{head}.{body}.{signature}"


@dataclass(frozen=True)
class Login:
    """An account of an operator, and one user of it."""

    folder: Path
    operator: nkeys.KeyPair
    account: nkeys.KeyPair
    user_key: str
    user_seed: str
    fixed: str
    """The part of the server's configuration that cannot be changed while it runs."""
    system: str
    """The system account's key and JWT."""

    @property
    def account_key(self) -> str:
        """The account's public key."""
        return self.account.public_key.decode().strip("=")

    @property
    def config(self) -> str:
        """What the server needs to know."""
        return self.config_with()

    def config_with(self, *, jetstream: bool = True, revoked: bool = False, **limits: int) -> str:
        """The same, with other `limits` of the account, without JetStream, or with the user revoked."""
        stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1} if jetstream else {}
        all_limits = {**EVERYTHING, **stored, "imports": -1, "exports": -1, "wildcards": True}
        all_limits |= {"conn": -1, "leaf": -1, **limits}
        claims: dict[str, Any] = {"type": "account", "limits": all_limits}
        if revoked:
            claims["revocations"] = {self.user_key: int(time.time())}
        account_jwt = signed(self.operator, self.account_key, "acc", claims)
        return f"{self.fixed}resolver_preload: {{ {self.account_key}: {account_jwt}, {self.system} }}\n"

    def write(self, expires: int | None, name: str = "me.creds", *, begins: int | None = None) -> Path:
        """A credentials file whose JWT begins at `begins` and ends at `expires` (seconds since the epoch)."""
        file = self.folder / name
        jwt = signed_user(self.account, self.user_key, EVERYTHING, expires, begins)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.user_seed}\n------END USER NKEY SEED------\n"
        )
        return file


def operator(folder: Path) -> Login:
    """A new operator with one account, JetStream included."""
    pair, key, _ = new_key(nkeys.PREFIX_BYTE_OPERATOR)
    account, _, _ = new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    _, user_key, user_seed = new_key(nkeys.PREFIX_BYTE_USER)
    _, system_key, _ = new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    operator_jwt = signed(pair, key, "op", {"type": "operator"})
    fixed = f"operator: {operator_jwt}\nsystem_account: {system_key}\nresolver: MEMORY\n"
    system = f"{system_key}: {signed(pair, system_key, 'sys', {'type': 'account'})}"
    return Login(folder, pair, account, user_key, user_seed, fixed, system)
