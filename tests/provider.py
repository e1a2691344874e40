"""A real sign-in provider (OpenID Connect) in its own process, and the settings for an app that uses it."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page

from tests.running import free_port
from tests.waiting import until

CLIENT_SECRET = "client-secret-of-the-tests-4f1b"
COOKIE_SECRET = "cookie-secret-of-the-tests-9c27-and-long-enough"


class Provider:
    """The provider. It signs in anybody by name, with the claims that `person` gives them."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "provider.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the same port as before. It has forgotten all sign-ins."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "oidc_provider_mock", "-p", str(self.port)],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"},
            )
        until(self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/.well-known/openid-configuration", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def person(self, sub: str, *groups: str, **claims: Any) -> None:
        """Give `sub` these groups, and other claims, from now on."""
        body = {"name": f"{sub.title()} Example", "groups": list(groups), **claims}
        self._call("PUT", f"/users/{sub}", body)

    def revoke(self, sub: str) -> None:
        """Revoke the tokens of `sub`."""
        self._call("POST", f"/users/{sub}/revoke-tokens", {})

    def _call(self, method: str, path: str, body: Any) -> None:
        request = urllib.request.Request(
            f"{self.url}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10):
            pass

    def secrets(
        self, folder: Path, app_port: int, more: str = "", expose: str = '["access"]'
    ) -> dict[str, str]:
        """The environment of an app at `app_port` whose secrets use this provider."""
        file = folder / "secrets.toml"
        file.write_text(
            f"""
[auth]
redirect_uri = "http://127.0.0.1:{app_port}/oauth2callback"
cookie_secret = "{COOKIE_SECRET}"
client_id = "lookback"
client_secret = "{CLIENT_SECRET}"
server_metadata_url = "{self.url}/.well-known/openid-configuration"
expose_tokens = {expose}
"""
        )
        return {"STREAMLIT_SECRETS_FILES": str(file), "AUTHLIB_INSECURE_TRANSPORT": "1"}


@contextmanager
def provider(folder: Path) -> Iterator[Provider]:
    """A running provider, killed at the end."""
    made = Provider(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def sign_in(tab: Page, url: str, sub: str) -> None:
    """Open the app at `url`, press its button, and sign in at the provider as `sub`."""
    tab.goto(url)
    tab.get_by_role("button", name="Sign in").click(timeout=60_000)
    tab.locator("input[name=sub]").fill(sub, timeout=60_000)
    tab.get_by_role("button", name="Authorize", exact=True).click()
    host = urlsplit(url).netloc
    tab.wait_for_url(lambda address: urlsplit(address).netloc == host, timeout=60_000)


def signed_in(context: BrowserContext, url: str, sub: str) -> None:
    """Sign in with the requests that follow the app's button, without drawing the pages in between. Those
    cost twice as much as the page that a test is about."""
    form = context.request.get(f"{url}/auth/login?provider={_provider_token()}")
    back = context.request.post(form.url, form={"sub": sub})
    assert back.ok
    assert urlsplit(back.url).netloc == urlsplit(url).netloc


def _provider_token() -> str:
    """The token that Streamlit puts into the button's URL: a JWT with the provider's name, signed with the
    cookie secret."""

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    parts = {"alg": "HS256", "typ": "JWT"}, {"provider": "default", "exp": int(time.time()) + 100}
    body = b".".join(encoded(json.dumps(part).encode()) for part in parts)
    signature = hmac.digest(COOKIE_SECRET.encode(), body, hashlib.sha256)
    return b".".join((body, encoded(signature))).decode()
