"""How a test connects to the embedded server of a data directory: nobody gets in without credentials."""

import base64
from pathlib import Path
from typing import Any

from nats.nuid import NUID

from services import accounts, nats_server
from services.accounts import User
from services.claims import Key, signed
from services.roles import INBOX


def login(data_dir: Path, user: User = "data") -> dict[str, Any]:
    """Arguments of `nats.connect`, the servers among them; "data" may do anything with the streams."""
    ports = nats_server.last_ports(data_dir)
    assert ports is not None
    found = accounts.login(data_dir, user, ports.url)
    return {
        "servers": [found["url"]],
        "user_credentials": found["credentials"],
        "inbox_prefix": found.get("inbox_prefix", "_INBOX"),
    }


def vended(data_dir: Path, role: str) -> tuple[str, Key, str]:
    """A JWT of a user of `role`, as the token service makes them, its key, and its inbox prefix."""
    key, name = Key.new("user"), NUID().next().decode()
    account = Key((data_dir / "keys" / "app.nk").read_text().strip())
    issuer = Key(accounts.role_key(data_dir, role).read_text().strip())
    claims = {"type": "user", "issuer_account": account.public}
    return signed(issuer, key.public, name, claims), key, f"{INBOX}.{name}"


def vended_login(data_dir: Path, role: str) -> dict[str, Any]:
    """Arguments of `nats.connect` for a new user of `role`."""
    jwt, key, inbox_prefix = vended(data_dir, role)
    return {
        "servers": login(data_dir)["servers"],
        "user_jwt_cb": jwt.encode,
        "signature_cb": lambda nonce: base64.b64encode(key.sign(nonce.encode())),
        "inbox_prefix": inbox_prefix,
    }
