"""An account with a scoped signing key for each role, its server, and the token service beside it."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nats_client import Settings
from services.claims import Key, credentials, signed
from services.roles import load_roles
from tests.nats import NatsServer
from tests.running import ROOT
from tests.waiting import until

NO_LIMIT = {"subs": -1, "data": -1, "payload": -1}
ROLES = """
minutes = {minutes}

[roles.all]
streams = ["*"]
services = ["*"]
publish = ["echo.>", "history.>", "nobody.>"]

[roles.viewer]
pages = ["overview"]
streams = ["S"]
buckets = ["b"]
services = ["tester"]
publish = ["tester.echo"]
"""


class Realm:
    """Keys and files of one account, in `folder`."""

    def __init__(self, folder: Path, roles: str = ROLES, minutes: float = 5) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.roles = folder / "roles.toml"
        self.roles.write_text(roles.replace("{minutes}", str(minutes)))
        self._operator, self._system = Key.new("operator"), Key.new("account")
        self.account = Key.new("account")
        (self.keys / "app.nk").write_text(self.account.seed)
        self.signing: dict[str, Key] = {}
        for role in load_roles(self.roles).roles:
            self.signing[role] = Key.new("account")
            (self.keys / f"role-{role}.nk").write_text(self.signing[role].seed)
        self.broker_key = Key.new("user")
        self.admin = self._credentials("admin", Key.new("user"), {})
        asking = {"pub": {"allow": ["tokens.mint"]}, "sub": {"allow": ["_INBOX_app.broker.>"]}}
        self.broker = self._credentials("broker", self.broker_key, asking)

    def _credentials(self, name: str, key: Key, permissions: Mapping[str, Any]) -> Path:
        file = self.folder / f"{name}.creds"
        claims = {"type": "user", **NO_LIMIT, **permissions}
        file.write_text(credentials(signed(self.account, key.public, name, claims), key.seed))
        return file

    def config(self, revocations: Mapping[str, int] | None = None) -> str:
        """Of a server, which reads `revocations` (key of a user, or "*", and seconds) when it is reloaded."""
        scopes = [
            {
                "kind": "user_scope",
                "key": self.signing[role.name].public,
                "role": role.name,
                "template": {
                    **role.permissions(),
                    **NO_LIMIT,
                    "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
                },
            }
            for role in load_roles(self.roles).roles.values()
        ]
        stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        reach = {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
        account: dict[str, Any] = {
            "type": "account",
            "limits": {**NO_LIMIT, **stored, **reach},
            "signing_keys": scopes,
            "revocations": dict(revocations or {}),
        }
        system = self._system.public
        jwts = {
            self.account.public: signed(self._operator, self.account.public, "APP", account),
            system: signed(self._operator, system, "SYS", {"type": "account"}),
        }
        operator = signed(self._operator, self._operator.public, "op", {"type": "operator"})
        preload = ", ".join(f"{key}: {jwt}" for key, jwt in jwts.items())
        return (
            f"operator: {operator}\nsystem_account: {system}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {preload} }}\n"
        )

    def settings(self, url: str, role: str, **more: Any) -> Settings:
        """Of a client that takes on `role`."""
        login = {"credentials": str(self.broker), "inbox_prefix": "_INBOX_app.broker"}
        return Settings(url=url, role=role, **login, **more)

    @contextmanager
    def server(self) -> Iterator[NatsServer]:
        """The server, with a stream S and a bucket b, killed at the end."""
        server = NatsServer(self.folder / "nats", self.config())
        try:
            server.credentials = str(self.admin)
            server.add_stream("S", ["s.>"])
            server.add_stream("OTHER", ["o.>"])
            server.run(lambda nc: nc.jetstream().create_key_value(bucket="b"))
            yield server
        finally:
            server.kill()

    @contextmanager
    def service(self, server: NatsServer) -> "Iterator[TokenService]":
        """The token service, ready; killed at the end."""
        service = TokenService(self, server)
        try:
            service.wait()
            yield service
        finally:
            service.kill()


class TokenService:
    """`python -m services.tokens`, and what it logs."""

    def __init__(self, realm: Realm, server: NatsServer) -> None:
        self._realm, self._server = realm, server
        self._log = realm.folder / "tokens.log"
        self.start()

    def start(self) -> None:
        """Start it, as it was before."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.tokens", self._server.url, str(self._realm.keys)],
                cwd=ROOT,
                env={"NATS_CREDS": str(self._realm.admin), "LOOKBACK_ROLES": str(self._realm.roles)},
                stderr=log,
            )

    def wait(self) -> None:
        """Until it answers, or has ended."""

        def answers() -> bool:
            assert self.process.poll() is None, self.log()
            try:
                self._server.run(lambda nc: nc.request("$SRV.PING.tokens", b"", timeout=2))
            except Exception:
                time.sleep(0.1)
                return False
            return True

        until(answers)

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
