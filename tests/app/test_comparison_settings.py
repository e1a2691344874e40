"""The page Comparison behind proxies, after an edit, and with tokens that expire.

Slow, because each test has an app of its own, and one waits for a token to end.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Response, expect

from nats_client.connection.credentials import claims_of
from nats_client.environment import ROLES
from services.nats_server.server import last_ports
from tests.browser import fresh_context
from tests.comparison import PATIENCE, SIZE, SLOW, Comparison, newest_advances, token_of
from tests.running import ROOT, app, free_port
from tests.waiting import until


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context without cookies."""
    with fresh_context(browser, viewport=SIZE, timezone_id="Europe/Berlin") as context:
        yield context


def test_edited_code_leaves_the_page_working(context: BrowserContext, tmp_path: Path) -> None:
    """After a file of components/ was edited, both halves become live again without a reload, and their
    figures are measured again."""
    for name in ("app.py", ".streamlit", "pages", "components", "nats_client", "services", "static"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    with app(tmp_path, tmp_path) as running:
        comparison = Comparison(context, running.url, SLOW)
        comparison.wait_until_live()
        before = comparison.theirs.url
        with (tmp_path / "components" / "words.py").open("a") as file:
            file.write("\nEDITED = True\n")
        until(lambda: (comparison._frame("/lookback/comparison/") or comparison.ours).url != before, PATIENCE)
        comparison.wait_until_live()
        until(lambda: all(rate > 0 for rate in comparison.figures("on the wire")), PATIENCE)
        newest_advances(comparison, comparison.theirs)


@contextmanager
def proxied(folder: Path, port: int, to: int, nats: int | None = None) -> Iterator[None]:
    """nginx at `port`, in front of the app at `to` and of the NATS server's websocket listener at `nats`."""
    upgraded = """proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrading;"""
    listener = f"""location ~ ^/lookback/comparison/[^/]+/nats$ {{
      proxy_pass http://127.0.0.1:{nats};
      {upgraded}
    }}"""
    (folder / "nginx.conf").write_text(
        f"""pid {folder}/nginx.pid; daemon off; events {{}}
http {{
  access_log off;
  map $http_upgrade $upgrading {{ "" close; default upgrade; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{to};
      {upgraded}
    }}
    {listener if nats else ""}
  }}
}}
"""
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("known", [True, False])
def test_behind_a_proxy_on_another_port(context: BrowserContext, tmp_path: Path, known: bool) -> None:
    """Behind a proxy whose origin is configured, both halves are live. If it is not, the right half names the
    setting and keeps trying."""
    port, own = free_port(), free_port()
    origins = f"http://127.0.0.1:{port}" if known else "no-origin"
    with (
        app(tmp_path, STREAMLIT_SERVER_PORT=str(own), STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS=origins),
        proxied(tmp_path, port, own),
    ):
        comparison = Comparison(context, f"http://127.0.0.1:{port}", SLOW)
        if known:
            comparison.wait_until_live()
            return
        status = comparison.theirs.locator("#status")
        expect(status).to_contain_text("docs/comparison.md", timeout=1000 * PATIENCE)
        expect(status).to_contain_text(f"http://127.0.0.1:{port}")
        with comparison.page.expect_response(lambda answer: answer.url.endswith("/session"), timeout=60_000):
            pass


def test_websocket_through_the_proxy(context: BrowserContext, tmp_path: Path) -> None:
    """With LOOKBACK_WEBSOCKET, the right half reads the stream through the proxy. Its content security policy
    allows no other connection but those to its own origin."""
    port, own = free_port(), free_port()
    origin, where = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    with app(
        tmp_path,
        STREAMLIT_SERVER_PORT=str(own),
        STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS=origin,
        LOOKBACK_WEBSOCKET=f"{where}/",
    ):
        ports = last_ports(tmp_path / "data")
        assert ports is not None
        with proxied(tmp_path, port, own, ports.websocket):
            policies: list[str] = []

            def note(answer: Response) -> None:
                if "/reader.js" in answer.url:
                    policies.append(answer.headers["content-security-policy"])

            comparison = Comparison(context, origin, SLOW, note)
            comparison.wait_until_live()
            expect(comparison.theirs.locator("#status")).to_contain_text(where)
            assert f"connect-src 'self' {where};" in policies[0]
            newest_advances(comparison, comparison.theirs)


def test_token_is_renewed(context: BrowserContext, tmp_path: Path) -> None:
    """The right half draws on after its first token has expired, with a renewed token, and is live
    throughout."""
    (tmp_path / "roles.toml").write_text(ROLES.default.read_text().replace("minutes = 5", "minutes = 0.5"))
    with app(tmp_path, LOOKBACK_ROLES=str(tmp_path / "roles.toml")) as running:
        comparison = Comparison(context, running.url, SLOW)
        comparison.wait_until_live()
        words = comparison.theirs.evaluate_handle(
            """() => { const words = new Set();
              new MutationObserver(() => words.add(document.querySelector("#status b").textContent))
                .observe(document.querySelector("#status"), { childList: true });
              return words; }"""
        )
        first = claims_of(token_of(context)["value"])
        until(lambda: time.time() > first["exp"] + 3, PATIENCE)
        newest_advances(comparison, comparison.theirs)
        assert claims_of(token_of(context)["value"])["exp"] > first["exp"]
        assert words.evaluate("words => [...words]") == ["Live"]
