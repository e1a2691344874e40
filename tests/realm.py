"""An account with a scoped signing key for each role, its server, and the token service beside it."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nats_client import Settings
from nats_client.connection.credentials import UserLogin
from services.accounts.claims import Key, signed
from services.accounts.roles import load_roles
from tests.nats import NatsServer
from tests.running import ROOT
from tests.waiting import until

NO_LIMIT = {"subs": -1, "data": -1, "payload": -1}
CLOCK = """
import runpy, sys, time
ahead, right = float(sys.argv.pop(1)), time.time
time.time = lambda: right() + ahead
runpy.run_module("services.tokens", run_name="__main__", alter_sys=True)
"""
"""Runs the token service by a clock that is some seconds ahead."""
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
        operator, system = Key.new("operator"), Key.new("account")
        self._operator, self._system = operator, system.public
        # Made once: a server does not accept other JWTs when it reloads
        self._operator_jwt = signed(operator, operator.public, "op", {"type": "operator"})
        self._system_jwt = signed(operator, system.public, "SYS", {"type": "account"})
        self.account = Key.new("account")
        (self.keys / "app.nk").write_text(self.account.seed)
        self.listen: list[str] = []
        """Plain subjects that all roles may subscribe to."""
        self.signing: dict[str, Key] = {}
        self._table = load_roles(self.roles).roles
        for role in self._table:
            self.signing[role] = Key.new("account")
            (self.keys / f"role-{role}.nk").write_text(self.signing[role].seed)
        self.broker_key = Key.new("user")
        self.admin = self._credentials("admin", Key.new("user"), {})
        asking = {"pub": {"allow": ["tokens.mint"]}, "sub": {"allow": ["_INBOX_app.broker.>"]}}
        self.broker = self._credentials("broker", self.broker_key, asking)

        self.nobody = self._credentials(
            "nobody", Key.new("user"), {"pub": {"deny": ["tokens.mint"]}, "sub": {"allow": ["_INBOX_app.>"]}}
        )

    def _credentials(self, name: str, key: Key, permissions: Mapping[str, Any]) -> Path:
        file = self.folder / f"{name}.creds"
        claims = {"type": "user", **NO_LIMIT, **permissions}
        file.write_text(UserLogin(signed(self.account, key.public, name, claims), key.seed).text)
        return file

    def config(self, revocations: Mapping[str, int] | None = None) -> str:
        """The server's configuration. `revocations` maps a user's key, or "*", to seconds since the epoch;
        the server reads them when it reloads."""
        scopes = []
        for name, key in self.signing.items():
            permitted = self._table[name].permissions()
            permitted["sub"]["allow"] += self.listen
            template = {**permitted, **NO_LIMIT, "allowed_connection_types": ["STANDARD", "WEBSOCKET"]}
            scopes.append({"kind": "user_scope", "key": key.public, "role": name, "template": template})
        stored = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        reach = {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
        account: dict[str, Any] = {
            "type": "account",
            "limits": {**NO_LIMIT, **stored, **reach},
            "signing_keys": scopes,
            "revocations": dict(revocations or {}),
        }
        jwts = {
            self.account.public: signed(self._operator, self.account.public, "APP", account),
            self._system: self._system_jwt,
        }
        preload = ", ".join(f"{key}: {jwt}" for key, jwt in jwts.items())
        return (
            f"operator: {self._operator_jwt}\nsystem_account: {self._system}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {preload} }}\n"
        )

    def settings(self, url: str, role: str, **more: Any) -> Settings:
        """The settings of a client that uses `role`."""
        login = {"credentials": str(self.broker), "inbox_prefix": "_INBOX_app.broker"}
        return Settings(url=url, role=role, **(login | more))

    @contextmanager
    def server(self) -> Iterator[NatsServer]:
        """A server with the streams S and OTHER and a bucket b, killed at the end."""
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
    def service(self, server: NatsServer, ahead: float = 0) -> "Iterator[TokenService]":
        """The token service, once it answers, with its clock `ahead` seconds fast; killed at the end."""
        service = TokenService(self, server, ahead)
        try:
            service.wait()
            yield service
        finally:
            service.kill()


class TokenService:
    """`python -m services.tokens`, and its log."""

    def __init__(self, realm: Realm, server: NatsServer, ahead: float = 0) -> None:
        self._realm, self._server, self._ahead = realm, server, ahead
        self._log = realm.folder / "tokens.log"
        self.start()

    def start(self, *account: str) -> None:
        """Start it as before, or with the arguments `account`."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    CLOCK,
                    str(self._ahead),
                    self._server.url,
                    str(self._realm.keys),
                    *account,
                ],
                cwd=ROOT,
                env={"NATS_CREDS": str(self._realm.admin), "LOOKBACK_ROLES": str(self._realm.roles)},
                stderr=log,
            )

    def wait(self) -> None:
        """Wait until it answers. Raises AssertionError if it has ended."""

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
        """Its whole log."""
        return self._log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
