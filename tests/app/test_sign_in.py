"""Signing in: what each person sees, what nobody else receives, and how soon a change takes effect."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, WebSocket
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

from services import accounts, nats_server
from tests.embedded import login
from tests.nats import connected
from tests.provider import CLIENT_SECRET, COOKIE_SECRET, Provider, provider, sign_in
from tests.running import App, app, free_port
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)

MARKER = "for-operators-only-7d31c9"
WITHIN = 60
"""Seconds in which a change takes effect, by what the documentation promises."""
ROLES = """
[roles.operator]
groups = ["operators"]
streams = ["*"]
services = ["*"]
publish = ["history.>"]

[roles.viewer]
groups = ["viewers"]
pages = ["overview", "explore", "values", "workflows"]
streams = ["METRICS"]
buckets = ["host", "thresholds"]
"""
TEMPORARY = """
[roles.temporary]
groups = ["temporaries"]
pages = ["overview"]
streams = ["METRICS"]
buckets = ["thresholds"]
"""


@dataclass
class Stage:
    """The app on its embedded server, with a provider that people sign in at."""

    app: App
    provider: Provider
    browser: Browser
    folder: Path
    people: list["Person"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.app.url

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def person(self, sub: str, *groups: str, page: str = "") -> "Person":
        """Somebody with these groups, signed in in a browser of their own."""
        self.provider.person(sub, *groups)
        found = self.somebody()
        sign_in(found.tab, f"{self.url}{page}", sub)
        return found

    def somebody(self) -> "Person":
        """Somebody in a browser of their own who has not signed in."""
        found = Person(self.browser.new_context(), self.url)
        self.people.append(found)
        return found

    def connections(self) -> list[dict[str, Any]]:
        """The app's connections, as the server counts them."""
        ports = nats_server.last_ports(self.data)
        assert ports is not None
        with urllib.request.urlopen(f"{ports.monitoring_url}/connz?auth=1&limit=1000", timeout=10) as answer:
            found = json.load(answer)["connections"]
        return [each for each in found if each["name"] == "lookback"]


class Person:
    """Somebody at a browser, and every byte that it receives."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.received = bytearray()
        self.tab = self.open()

    def open(self) -> Page:
        """Another tab."""
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
        """Whether the browser has received this."""
        return text.encode() in self.received

    def gets(self, text: str) -> None:
        """Wait until the browser has received this; it tells of that only while it is asked something."""
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
        self.tab.get_by_text(text).first.wait_for(timeout=seconds * 1000)

    def menu(self) -> list[str]:
        """The pages in the menu."""
        links = self.tab.get_by_test_id("stSidebarNavLink")
        links.first.wait_for(timeout=60_000)
        return [text.strip() for text in links.all_inner_texts()]

    def options(self, label: str) -> list[str]:
        """What a choice offers."""
        box = self.tab.get_by_role("combobox", name=re.compile(f"{label}"))
        box.click(timeout=60_000)
        options = self.tab.get_by_role("option")
        options.first.wait_for(timeout=30_000)
        found = options.all_inner_texts()
        self.tab.keyboard.press("Escape")
        return found

    def fetch(self, address: str) -> tuple[int, str]:
        """Status and text of an address, asked for with this browser's cookies."""
        answer = self.context.request.get(address)
        return answer.status, answer.text()


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One app for all tests, with streams and buckets that a viewer may not read."""
    folder = tmp_path_factory.mktemp("sign-in")
    roles = folder / "roles.toml"
    roles.write_text(ROLES + TEMPORARY)
    port = free_port()
    with provider(folder) as people:
        env = people.secrets(folder, port) | {"LOOKBACK_ROLES": str(roles)}
        with app(folder, port=port, **env) as running:
            found = login(folder / "data")
            connected(found["servers"], _fill, found["user_credentials"])
            yield Stage(running, people, browser, folder)


async def _fill(nc: Any) -> None:
    stream = nc.jetstream()
    for name in ("VAULT", "CELLAR"):
        await stream.add_stream(name=name, subjects=[f"{name.lower()}.>"])
        await stream.publish(f"{name.lower()}.gold", json.dumps({"n": 1, "text": MARKER}).encode())
    for name in ("safe", "strongbox"):
        bucket = await stream.create_key_value(bucket=name)
        await bucket.put("combination", MARKER.encode())


@pytest.fixture(autouse=True)
def everybody_leaves(stage: Stage) -> Iterator[None]:
    """Each test has its own people."""
    yield
    for person in stage.people:
        person.context.close()
    stage.people.clear()


def test_entrance(stage: Stage) -> None:
    """Who is not signed in gets a card with one button from whatever address, and nothing else."""
    stranger = stage.somebody()
    for path in ("/", "/explore?stream=VAULT", "/no-such-page"):
        stranger.go(path)
        stranger.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
        assert stranger.tab.get_by_test_id("stButton").count() == 1
        assert not stranger.tab.get_by_test_id("stSidebarNavLink").count()
        assert not stranger.tab.get_by_text("Page not found").count()
    for word in ("Overview", "Key-value", 'class="lb-status', "nats://", "METRICS", MARKER):
        assert not stranger.has(word), word


def test_back_to_the_page_that_was_asked_for(stage: Stage) -> None:
    """After the sign-in comes the page, with its choices, that the address named before."""
    stage.provider.person("deep", "operators")
    person = stage.somebody()
    person.go("/explore?stream=CELLAR&look-back=P1D&show=Messages")
    sign_in(person.tab, f"{stage.url}/explore?stream=CELLAR&look-back=P1D&show=Messages", "deep")
    person.sees("Explore")
    person.gets(MARKER)
    assert "stream=CELLAR" in person.tab.url


def test_each_sees_their_own(stage: Stage) -> None:
    """Menu and lists hold what the role permits; the viewer's browser never receives a byte of the rest,
    while an operator looks at just that."""
    operator = stage.person("olga", "operators", page="/explore?stream=VAULT&look-back=P1D&show=Messages")
    viewer = stage.person("vera", "viewers", "others")
    viewer.sees("Vera Example")
    viewer.sees("Role: viewer")
    assert viewer.menu() == ["Overview", "Explore", "Key-value", "Workflows"]
    operator.sees("Role: operator")
    assert "Services" in operator.menu()
    operator.gets(MARKER)

    viewer.go("/explore?show=Messages")
    assert viewer.options("Stream") == ["METRICS"]
    assert "VAULT" in operator.options("Stream")
    viewer.go("/values")
    assert viewer.options("Bucket") == ["host", "thresholds"]
    viewer.go("/")
    viewer.sees("CPU")
    operator.go("/values?bucket=safe")
    operator.sees(MARKER)
    viewer.tab.wait_for_timeout(3000)
    for word in (MARKER, "VAULT", "CELLAR", "strongbox", "combination"):
        assert not viewer.has(word), word
        assert operator.has(word) or word == "CELLAR"


def test_what_is_not_permitted_is_as_what_does_not_exist(stage: Stage) -> None:
    """An address with a page, stream, bucket or run outside the role gets the same answer as one with a
    name that there is not."""
    viewer = stage.person("victor", "viewers")
    viewer.sees("Role: viewer")

    def answer(path: str, name: str, settled: str) -> str:
        viewer.go(path.replace("NAME", name))
        found: set[str] = set()
        since = None
        while since is None or time.monotonic() - since < 3.5:  # some of it is shown for a moment only
            for kind in ("[data-testid=stAlert]", "[data-testid=stToast]", "[role=dialog]"):
                found |= set(viewer.tab.locator(kind).all_inner_texts())
            if since is None and viewer.tab.get_by_text(settled).count():
                since = time.monotonic()
            viewer.tab.wait_for_timeout(100)
        return " ".join(sorted(found)).replace(name, "NAME")

    pages = answer("/NAME", "services", "Page not found")
    assert pages
    assert pages == answer("/NAME", "nothing", "Page not found")
    bucket = answer("/values?bucket=NAME", "strongbox", "Stopped")
    assert bucket
    assert bucket == answer("/values?bucket=NAME", "nothing", "Stopped")
    stream = answer("/explore?stream=NAME", "CELLAR", "Live")
    assert stream == answer("/explore?stream=NAME", "NOTHING", "Live")
    run = answer("/workflows?run=NAME", "archive.20260101T000000-abcdef", "All runs")
    assert run == answer("/workflows?run=NAME", "nothing.20260101T000000-abcdef", "All runs")
    assert not viewer.has(MARKER)
    assert not viewer.has("VAULT")


def test_downloads_belong_to_a_sign_in(stage: Stage) -> None:
    """A link works in the browser that it was shown in, in no other, and not after the sign-out."""
    operator = stage.person("oscar", "operators", page="/explore?stream=VAULT&look-back=P1D")
    other = stage.person("ophelia", "operators")
    viewer = stage.person("viola", "viewers")
    link = operator.tab.get_by_role("link", name="CSV")
    link.wait_for(timeout=60_000)
    address = f"{stage.url}/{link.get_attribute('href')}"
    assert operator.fetch(address)[0] == 200
    assert MARKER in operator.fetch(address)[1]
    for somebody in (viewer, other, stage.somebody()):
        status, text = somebody.fetch(address)
        assert status == 404
        assert MARKER not in text
    before = operator.context.cookies()
    operator.tab.get_by_role("button", name="Sign out").click()
    operator.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)
    operator.context.add_cookies(before)  # somebody has kept them
    assert operator.fetch(address)[0] in (403, 404)
    operator.go("/explore?stream=VAULT")
    operator.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)


def test_same_rights_share_a_connection(stage: Stage) -> None:
    """Two people with the same role share one NATS connection; another role has one of its own."""
    first = stage.person("otto", "operators")
    first.sees("Live")
    before = {each["cid"] for each in stage.connections()}
    second = stage.person("odile", "operators")
    second.sees("Live")
    assert {each["cid"] for each in stage.connections()} == before
    third = stage.person("tom", "temporaries")
    third.sees("Live")
    assert len(stage.connections()) == len(before) + 1


def test_sign_out_reaches_all_tabs(stage: Stage) -> None:
    """Signing out in one tab signs out the others, one that is paused too; another browser of the same
    person goes on."""
    here, elsewhere = stage.person("vince", "viewers"), stage.person("vince", "viewers")
    second, paused = here.open(), here.open()
    second.goto(f"{stage.url}/explore")
    second.get_by_text("Role: viewer").wait_for(timeout=60_000)
    paused.goto(f"{stage.url}/explore?refresh=Paused")
    paused.get_by_text("The page stays as it is").wait_for(timeout=60_000)
    here.tab.get_by_role("button", name="Sign out").click(timeout=60_000)
    for tab in (second, paused):
        tab.get_by_text("Sign in to see them").wait_for(timeout=WITHIN * 1000)
        assert not tab.get_by_test_id("stSidebarNavLink").count()
    elsewhere.sees("Role: viewer")
    here.tab.get_by_role("button", name="End session").click()
    here.tab.get_by_text("Sign in to see them").wait_for(timeout=60_000)


def test_group_changes(stage: Stage) -> None:
    """Another group is another role within a minute, and nothing of the former is left; without a group
    there is none, and it comes back by itself."""
    person = stage.person("gina", "operators", page="/explore?stream=VAULT&look-back=P1D&show=Messages")
    person.sees("Role: operator")
    person.gets(MARKER)
    stage.provider.person("gina", "viewers")
    person.sees("Role: viewer", WITHIN)
    person.tab.wait_for_timeout(2000)
    assert person.menu() == ["Overview", "Explore", "Key-value", "Workflows"]
    assert "VAULT" not in person.tab.inner_text("body")
    assert "VAULT" not in person.tab.url
    del person.received[:]
    person.go("/explore?show=Messages")
    person.sees("Live")
    person.tab.wait_for_timeout(2000)
    assert not person.has(MARKER)
    stage.provider.person("gina", "guests")
    person.sees("none of your groups", WITHIN)
    person.sees("guests")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    stage.provider.person("gina", "viewers")
    person.sees("Role: viewer", WITHIN)


def test_revoked_at_the_provider(stage: Stage) -> None:
    """A sign-in that the provider revokes ends within a minute, and says so; so it is after a reload."""
    person = stage.person("rita", "viewers")
    person.sees("Role: viewer")
    stage.provider.revoke("rita")
    person.sees("does not accept your sign-in any more", WITHIN)
    person.go("/")
    person.sees("does not accept your sign-in any more")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    sign_in(person.tab, stage.url, "rita")
    person.sees("Role: viewer")


def test_no_role(stage: Stage) -> None:
    """Somebody without a role is told which groups were seen, and can sign out."""
    person = stage.person("nora", "guests", "**bold** [link](http://example.com)", page="/explore")
    person.sees("none of your groups")
    person.sees("**bold** [link](http://example.com)")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    assert not person.tab.get_by_text("Page not found").count()
    assert not person.has('class="lb-status')
    person.tab.get_by_role("button", name="Sign out").click()
    person.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)


def test_nats_user_revoked(stage: Stage) -> None:
    """A revoked user of NATS is cut off at once; the role goes on with another."""
    person = stage.person("tara", "temporaries")
    person.sees("Live")
    before = {each["cid"]: each for each in stage.connections()}
    mine = max(before)
    with ThreadPoolExecutor(1) as pool:  # it has a loop of its own, as the browser under test has
        assert pool.submit(accounts.revoke, stage.data, before[mine]["authorized_user"]).result()
    until(lambda: mine not in {each["cid"] for each in stage.connections()}, WITHIN)
    until(lambda: len(stage.connections()) == len(before), WITHIN)
    person.sees("Live", WITHIN)


def test_role_removed(stage: Stage) -> None:
    """A role that the table of roles has no more ends within a minute, and so does its connection."""
    person = stage.person("tina", "temporaries")
    person.sees("Live")
    before = len(stage.connections())
    (stage.folder / "roles.toml").write_text(ROLES)
    try:
        person.sees("none of your groups", WITHIN)
        until(lambda: len(stage.connections()) == before - 1)
    finally:
        (stage.folder / "roles.toml").write_text(ROLES + TEMPORARY)
    person.sees("Role: temporary", WITHIN)


def test_tampered_cookie(stage: Stage) -> None:
    """A cookie with other claims than those that were signed is no sign-in."""
    person = stage.person("tess", "viewers")
    person.sees("Role: viewer")
    for cookie in person.context.cookies():
        if cookie["name"] == "_streamlit_user":
            head, dot, rest = cookie["value"].strip('"').partition(".")
            forged = {key: cookie[key] for key in ("name", "domain", "path")}
            person.context.add_cookies([{**forged, "value": f"{head[:-4]}AAAA{dot}{rest}"}])  # type: ignore
    person.go("/explore")
    person.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()


def test_provider_down(stage: Stage) -> None:
    """Without the provider nobody signs in, and the card says so; who is signed in goes on for a while."""
    person = stage.person("wanda", "viewers")
    person.sees("Role: viewer")
    stage.provider.stop()
    try:
        stranger = stage.somebody()
        stranger.go("/")
        stranger.tab.get_by_role("button", name="Sign in").click(timeout=60_000)
        stranger.sees("That did not work")
        person.tab.wait_for_timeout(35_000)
        person.sees("Role: viewer")
        person.sees("Live")
    finally:
        stage.provider.start()
    stage.provider.person("sam", "viewers")
    sign_in(stranger.tab, stage.url, "sam")
    stranger.sees("Role: viewer")


def test_no_secret_anywhere(stage: Stage) -> None:
    """No seed, JWT, password or token is in what a browser receives, in a log, or in a downloaded file."""
    people = [stage.person("sue", "operators"), stage.person("sid", "viewers"), stage.person("ned", "none")]
    operator = people[0]
    operator.sees("Role: operator")
    for page in sorted(file.stem for file in (Path(__file__).parents[2] / "pages").glob("*.py")):
        operator.go(f"/{page}")
        operator.sees("Role: operator")
        operator.tab.wait_for_timeout(2500)
    operator.go("/history")
    operator.tab.get_by_role("button", name="Run", exact=True).click(timeout=60_000)
    operator.tab.get_by_role("link", name="CSV").wait_for(timeout=60_000)
    told = bytearray()
    for link in operator.tab.get_by_role("link", name=re.compile("CSV|Parquet")).all():
        told += operator.context.request.get(f"{stage.url}/{link.get_attribute('href')}").body()
    assert told
    for file in [stage.app.log, *stage.data.glob("*.out"), *stage.data.glob("*.log")]:
        told += file.read_bytes()
    for person in people:
        told += person.received

    secrets = {CLIENT_SECRET, COOKIE_SECRET}
    for file in (stage.data / "keys").glob("*.nk"):
        secrets.add(file.read_text().strip())
    for file in (stage.data / "creds").glob("*.creds"):
        secrets |= {line for line in file.read_text().splitlines() if len(line) > 50 and "-----" not in line}
    for person in people:
        for cookie in person.context.cookies(stage.url):
            if cookie["name"] == "_streamlit_user_tokens":
                value = decode_signed_value(COOKIE_SECRET, cookie["name"], cookie["value"].strip('"'))
                assert value is not None
                secrets |= set(json.loads(value).values())
    assert len(secrets) > 12
    for secret in secrets:
        assert secret.encode() not in told, f"{secret[:6]}…"
        # A JWT is no less of one without its signature's end.
        assert secret.encode()[: max(24, len(secret) // 2)] not in told, f"{secret[:6]}…"
