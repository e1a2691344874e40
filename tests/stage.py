"""The whole app behind a sign-in, with people in separate browsers, and every byte that these receive."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Response, WebSocket

from services.nats_server import server as nats_server
from tests.browser import contexts
from tests.embedded import login
from tests.nats import connected
from tests.provider import Provider, provider, signed_in
from tests.running import App, app, free_port

MARKER = "for-operators-only-7d31c9"
WITHIN = 60
"""Seconds within which a change must take effect, according to the documentation."""
ROLES = """
[roles.operator]
groups = ["operators"]
streams = ["*"]
services = ["*"]
publish = ["history.>"]

[roles.comparer]
groups = ["comparers"]
pages = ["comparison"]
streams = ["COMPARISON"]
publish = ["comparison.>"]

[roles.comparison]
streams = ["COMPARISON"]
web_page = true

[roles.insider]
groups = ["insiders"]
pages = ["inside", "consumers"]
streams = ["METRICS"]

[roles.viewer]
groups = ["viewers"]
pages = ["overview", "explore", "values", "workflows"]
streams = ["METRICS"]
buckets = ["host", "thresholds"]
"""
TEMPORARY = """
[roles.temporary]
groups = ["temporaries"]
pages = ["workflows"]
streams = ["METRICS"]
buckets = ["thresholds"]
"""


@dataclass
class Stage:
    """The app on its embedded server, with the provider at which people sign in."""

    app: App
    provider: Provider
    browser: Browser
    folder: Path
    start: Callable[[], App]
    people: list["Person"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.app.url

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def kill_and_restart(self) -> None:
        """kill -9 the app, and start it again at the same URL."""
        self.app.process.kill()
        self.app.process.wait()
        self.app = self.start()

    def person(self, sub: str, *groups: str, page: str = "/workflows") -> "Person":
        """A person with these groups, signed in in a separate browser, on a page without charts. Drawing
        charts that nobody looks at would cost as much as the test."""
        self.provider.person(sub, *groups)
        found = self.somebody()
        signed_in(found.context, self.url, sub)
        found.go(page)
        return found

    def somebody(self) -> "Person":
        """A person in a separate browser who has not signed in."""
        found = Person(contexts(self.browser).take(), self.url)
        self.people.append(found)
        return found

    def without(self, person: "Person") -> None:
        """Close a person's browser."""
        self.people.remove(person)
        contexts(self.browser).give_back(person.context)

    def connections(self) -> list[dict[str, Any]]:
        """The app's connections, as listed by the server."""
        return [each for each in self.all_connections() if each.get("name") == "lookback"]

    def all_connections(self) -> list[dict[str, Any]]:
        """All connections, as listed by the server."""
        ports = nats_server.last_ports(self.data)
        assert ports is not None
        with urllib.request.urlopen(f"{ports.monitoring_url}/connz?auth=1&limit=1000", timeout=10) as answer:
            return list(json.load(answer)["connections"])


class Person:
    """A person at a browser, and every byte that it receives."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.received = bytearray()
        self.tab = self.open()

    def open(self) -> Page:
        """Open another tab."""
        tab = self.context.new_page()
        tab.on("websocket", self._listen)
        tab.on("response", self._keep)
        return tab

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self._take(frame))

    def _take(self, frame: str | bytes) -> None:
        self.received += frame.encode() if isinstance(frame, str) else frame

    def _keep(self, response: Response) -> None:
        self.received += response.url.encode()
        if response.url.startswith(self.url) and response.status == 200 and "/static/" not in response.url:
            self.received += response.body() if response.request.resource_type == "document" else b""

    def has(self, text: str) -> bool:
        """True if the browser has received this text."""
        return text.encode() in self.received

    def gets(self, text: str) -> None:
        """Wait until the browser has received this text. Playwright reports that only while it is called."""
        for _ in range(300):
            if self.has(text):
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError(f"{text!r} never came")

    def go(self, path: str) -> None:
        """Open a page of the app."""
        self.tab.goto(f"{self.url}{path}")

    def sees(self, text: str, seconds: float = 60) -> None:
        """Wait for a text on the screen."""
        self.tab.get_by_text(text).filter(visible=True).first.wait_for(timeout=seconds * 1000)

    def menu(self) -> list[str]:
        """The names of the pages in the menu."""
        links = self.tab.get_by_test_id("stSidebarNavLink")
        links.first.wait_for(timeout=60_000)
        return [text.strip() for text in links.all_inner_texts()]

    def options(self, label: str) -> list[str]:
        """The options of a choice."""
        box = self.tab.get_by_role("combobox", name=re.compile(f"{label}"))
        box.click(timeout=60_000)
        options = self.tab.get_by_role("option")
        options.first.wait_for(timeout=30_000)
        found = options.all_inner_texts()
        self.tab.keyboard.press("Escape")
        return found

    def fetch(self, address: str) -> tuple[int, str]:
        """Status and text of the response from an address, requested with this browser's cookies."""
        answer = self.context.request.get(address)
        return answer.status, answer.text()


@contextmanager
def running_stage(browser: Browser, folder: Path, **settings: str) -> Iterator[Stage]:
    """The app with these settings, and with streams and buckets that a viewer may not read."""
    roles = folder / "roles.toml"
    roles.write_text(ROLES + TEMPORARY)
    port = free_port()
    with provider(folder) as people:
        env = people.secrets(folder, port) | {
            "LOOKBACK_ROLES": str(roles),
            "STREAMLIT_SERVER_PORT": str(port),
        }
        with ExitStack() as stack:

            def start() -> App:
                return stack.enter_context(app(folder, **(env | settings)))

            running = start()
            found = login(folder / "data")
            connected(found["servers"], _fill, found["user_credentials"])
            yield Stage(running, people, browser, folder, start)


async def _fill(nc: Any) -> None:
    stream = nc.jetstream()
    for name in ("VAULT", "CELLAR"):
        await stream.add_stream(name=name, subjects=[f"{name.lower()}.>"])
        await stream.publish(f"{name.lower()}.gold", json.dumps({"n": 1, "text": MARKER}).encode())
    for name in ("safe", "strongbox"):
        bucket = await stream.create_key_value(bucket=name)
        await bucket.put("combination", MARKER.encode())
