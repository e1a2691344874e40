"""The app's state for orchestrators, for Prometheus, and on a page."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from prometheus_client.parser import text_string_to_metric_families

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

TOKEN = "for-the-scraper"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, NatsServer]]:
    """The app on a server with a login; no response may contain its password."""
    folder = tmp_path_factory.mktemp("app")
    users = 'authorization { users = [{user: "someone", password: "secret-word"}] }'
    with running_server(folder / "nats", users) as server:
        server.url = server.url.replace("//", "//someone:secret-word@")
        for stream, count in (("ONE", 3), ("TWO", 5)):
            server.add_stream(stream, [f"{stream.lower()}.>"])
            server.publish(f"{stream.lower()}.a", *(b'{"value": 1}' for _ in range(count)))
        settings = {"NATS_URL": server.url, "LOOKBACK_METRICS_TOKEN": TOKEN}
        with app(folder, **settings) as started:
            yield started, server


def asked(url: str, token: str = "") -> tuple[int, str]:
    """Send a GET, with a bearer token if one is given; return status and body."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_ready_is_connected(running: tuple[App, NatsServer], browser: Browser) -> None:
    """healthz is 200 whatever the state of NATS. readyz is 200 while there is a connection to NATS and 503
    otherwise. Neither reveals more."""
    started, server = running
    until(lambda: asked(f"{started.url}/lookback/readyz") == (200, "ok\n"))
    server.kill()
    until(lambda: asked(f"{started.url}/lookback/readyz") == (503, "no connection to NATS\n"))
    assert asked(f"{started.url}/lookback/healthz") == (200, "ok\n")
    server.start()
    until(lambda: asked(f"{started.url}/lookback/readyz") == (200, "ok\n"))


def test_figures_want_their_token(running: tuple[App, NatsServer]) -> None:
    """Without the right token there are no metrics, and even with it they contain no secret."""
    url = f"{running[0].url}/lookback/metrics"
    for token in ("", "wrong", f"{TOKEN}x", "ü"):
        status, text = asked(url, token)
        assert (status, "lookback_viewers" in text) == (401, False)
    status, text = asked(url, TOKEN)
    assert status == 200
    assert "secret-word" not in text


def test_figures_of_two_feeds_and_two_viewers(running: tuple[App, NatsServer], browser: Browser) -> None:
    """Each feed has its own metrics, in a format that Prometheus's parser accepts. The page Inside shows the
    latest events, and no page contains a secret."""
    started, _ = running
    with fresh_tab(browser) as one, fresh_tab(browser) as other:
        _compare(started, [one, other])


def _compare(started: App, tabs: list[Page]) -> None:
    for tab, stream in zip(tabs, ("ONE", "TWO"), strict=True):
        tab.goto(f"{started.url}/explore?stream={stream}")
        expect(tab.locator(".lb-status")).to_be_visible()

    def figures() -> dict[str, list[tuple[dict[str, str], float]]]:
        text = asked(f"{started.url}/lookback/metrics", TOKEN)[1]
        return {
            family.name: [(sample.labels, sample.value) for sample in family.samples]
            for family in text_string_to_metric_families(text)
        }

    # A tab has two websockets but counts as one viewer.
    until(lambda: figures()["lookback_viewers"][0][1] == 2)
    assert figures()["lookback_connected"] == [({"role": ""}, 1.0)]
    rows = [
        ({"role": "", "stream": "ONE", "subject": ">", "where": ""}, 3.0),
        ({"role": "", "stream": "TWO", "subject": ">", "where": ""}, 5.0),
    ]
    until(lambda: sorted(figures()["lookback_feed_rows"], key=str) == rows)
    feeds = [labels for labels, _ in rows]
    assert sorted(figures()["lookback_feed_readers"], key=str) == [(labels, 1.0) for labels in feeds]
    tab, other = tabs
    other.goto(f"{started.url}/explore?stream=ONE")
    read = list(zip(feeds, (2.0, 0.0), strict=True))
    until(lambda: sorted(figures()["lookback_feed_readers"], key=str) == read)
    tab.get_by_test_id("stPopover").get_by_text("What happened").click()
    happened = tab.locator(".lb-log")
    expect(happened.first).to_contain_text("connected")
    expect(happened.last).to_contain_text("following")
    assert "secret-word" not in tab.content()
    tab.goto(f"{started.url}/inside")
    expect(tab.locator("h1")).to_have_text("Inside")
    expect(tab.get_by_role("heading", name="What happened")).to_be_visible()
    expect(tab.locator("[data-testid=stDataFrame] canvas").first).to_be_visible()
    assert "secret-word" not in tab.content()
