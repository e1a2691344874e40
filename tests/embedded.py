"""Logins for the embedded server of a data directory, which accepts no connection without credentials."""

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nats.nuid import NUID

from nats_client import Settings
from services.accounts import configuration as accounts
from services.accounts.claims import Key, signed
from services.accounts.configuration import User
from services.accounts.roles import INBOX
from services.nats_server import server as nats_server
from services.nats_server.server import Ports


@contextmanager
def server_with_accounts(data_dir: Path, origins: Sequence[str] = ()) -> Iterator[Ports]:
    """The embedded server, without the programs beside it."""
    data_dir.mkdir(exist_ok=True)
    with accounts.locked(data_dir):
        accounts.adopt_store(data_dir)
        config = accounts.server_config(data_dir)
        wish = nats_server.last_ports(data_dir)
        closing = threading.Event()
        server, ports = nats_server.start(data_dir, config, origins, wish, keep_url=False, closing=closing)
    try:
        nats_server.remember_ports(data_dir, ports)
        yield ports
    finally:
        server.stop()


def settings(data_dir: Path, user: User = "data") -> Settings:
    """The settings with which a user of the embedded server of `data_dir` connects."""
    ports = nats_server.last_ports(data_dir)
    assert ports is not None
    return Settings.load(accounts.login(data_dir, user, ports.url), {})


def login(data_dir: Path, user: User = "data") -> dict[str, Any]:
    """Arguments of `nats.connect`, including the servers; "data" may do anything with the streams."""
    found = settings(data_dir, user)
    return {"servers": [found.url], "inbox_prefix": found.inbox_prefix, **found.login()}


def vended(data_dir: Path, role: str) -> tuple[str, Key, str]:
    """A user JWT of `role`, as the token service issues it, with its key and its inbox prefix."""
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
