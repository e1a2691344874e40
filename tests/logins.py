"""Logins of an operator's account, made for a test: keys, user JWTs, credentials files."""

from dataclasses import dataclass
from pathlib import Path

from services.claims import Key, credentials, signed

EVERYTHING = {"subs": -1, "data": -1, "payload": -1}


@dataclass(frozen=True)
class Login:
    """An account of an operator, and one user of it."""

    config: str
    """What the server needs to know."""
    folder: Path
    account: Key
    user: Key

    def write(self, expires: int | None, name: str = "me.creds") -> Path:
        """A credentials file whose JWT ends at `expires` (seconds since the epoch)."""
        file = self.folder / name
        claims = {"type": "user", "pub": {}, "sub": {}, **EVERYTHING}
        jwt = signed(self.account, self.user.public, "me", claims, expires=expires)
        file.write_text(credentials(jwt, self.user.seed))
        return file


def operator(folder: Path) -> Login:
    """A new operator with one account, JetStream included."""
    key, account, system = Key.new("operator"), Key.new("account"), Key.new("account")
    stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    limits = {**EVERYTHING, **stored, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    operator_jwt = signed(key, key.public, "op", {"type": "operator"})
    account_jwt = signed(key, account.public, "acc", {"type": "account", "limits": limits})
    system_jwt = signed(key, system.public, "sys", {"type": "account"})
    config = (
        f"operator: {operator_jwt}\nsystem_account: {system.public}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.public}: {account_jwt}, {system.public}: {system_jwt} }}\n"
    )
    return Login(config, folder, account, Key.new("user"))
