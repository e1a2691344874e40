"""How a test connects to the embedded server of a data directory: nobody gets in without credentials."""

from pathlib import Path
from typing import Any

from services import accounts, nats_server
from services.accounts import User


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
