"""Logins of an operator's account, made for a test: keys, user JWTs, credentials files."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats_client.connection.credentials import UserLogin
from services.accounts.claims import Key, signed

EVERYTHING = {"subs": -1, "data": -1, "payload": -1}


@dataclass(frozen=True)
class Login:
    """An account of an operator, and one user of it."""

    folder: Path
    operator: Key
    account: Key
    user: Key
    fixed: str
    """The part of the server's configuration that cannot be changed while it runs."""
    system: str
    """The system account's key and JWT."""

    @property
    def config(self) -> str:
        """The server's configuration."""
        return self.config_with()

    def config_with(self, *, jetstream: bool = True, revoked: bool = False, **limits: int) -> str:
        """The same with other `limits` of the account, without JetStream, or with the user revoked."""
        stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1} if jetstream else {}
        all_limits = {**EVERYTHING, **stored, "imports": -1, "exports": -1, "wildcards": True}
        all_limits |= {"conn": -1, "leaf": -1, **limits}
        claims: dict[str, Any] = {"type": "account", "limits": all_limits}
        if revoked:
            claims["revocations"] = {self.user.public: int(time.time())}
        account_jwt = signed(self.operator, self.account.public, "acc", claims)
        return f"{self.fixed}resolver_preload: {{ {self.account.public}: {account_jwt}, {self.system} }}\n"

    def write(self, expires: int | None, name: str = "me.creds", *, begins: int | None = None) -> Path:
        """Write a credentials file whose JWT is valid from `begins` until `expires` (seconds since the epoch;
        None: no limit)."""
        file = self.folder / name
        claims = {"type": "user", "pub": {}, "sub": {}, **EVERYTHING}
        jwt = signed(self.account, self.user.public, "me", claims, expires=expires, begins=begins)
        file.write_text(UserLogin(jwt, self.user.seed).text)
        return file


def operator(folder: Path) -> Login:
    """A new operator with one account that has JetStream."""
    pair, system = Key.new("operator"), Key.new("account")
    operator_jwt = signed(pair, pair.public, "op", {"type": "operator"})
    fixed = f"operator: {operator_jwt}\nsystem_account: {system.public}\nresolver: MEMORY\n"
    system_jwt = signed(pair, system.public, "sys", {"type": "account"})
    keys = Key.new("account"), Key.new("user")
    return Login(folder, pair, *keys, fixed, f"{system.public}: {system_jwt}")
