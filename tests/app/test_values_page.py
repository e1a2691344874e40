"""Key-value buckets on pages, in Streamlit's AppTest and in a real browser."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import KeyValueConfig
from playwright.sync_api import Browser, Dialog, Page, expect

from tests.app.test_pages import ROOT, texts
from tests.app.test_untrusted import FOUND, MARKUP
from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import app
from tests.status_line import status_html
from tests.waiting import until

PAGE = '"""A page."""\nimport streamlit as st\nfrom components import live, values\n'
VALUES = ROOT / "pages" / "values.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with a bucket `settings`."""
    with running_server(tmp_path / "nats") as server:
        create(server, "settings", history=5)
        put(server, "settings", cpu=90, memory={"percent": 80})
        yield server


def create(server: NatsServer, bucket: str, **config: Any) -> None:
    """Create a bucket."""
    server.run(lambda nc: nc.jetstream().create_key_value(KeyValueConfig(bucket=bucket, **config)))


def put(server: NatsServer, bucket: str, **values: Any) -> None:
    """Write each value as JSON."""
    for key, value in values.items():
        server.publish(f"$KV.{bucket}.{key}", json.dumps(value).encode())


def delete(server: NatsServer, bucket: str) -> None:
    """Delete a bucket."""
    server.run(lambda nc: nc.jetstream().delete_key_value(bucket))


def test_mapping(open_page: Any) -> None:
    """A page reads a bucket as a mapping, and the status line says that it is live."""
    page = open_page(PAGE + 'b = values("settings")\nst.text([b["cpu"], b.get("x", 5), list(b), len(b)])\n')
    assert page.text[0].value == "[90, 5, ['cpu', 'memory'], 2]"
    assert "Live" in status_html(page)
    assert "<b>2 keys</b> in settings" in status_html(page)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('values("settings")["cpuu"]', "The bucket 'settings' has no key 'cpuu'. Did you mean 'cpu'?"),
        ('values("setting")', "There is no bucket 'setting' in this account. Did you mean 'settings'?"),
        ('values("a.b")', "'a.b' is not a valid bucket name"),
    ],
)
def test_mistakes_are_told(open_page: Any, source: str, said: str) -> None:
    """A missing key or bucket, or an invalid name, is reported with what exists instead, and without a
    traceback."""
    page = open_page(PAGE + source)
    assert said in texts(page)
    assert not page.exception


def test_bucket_beside_a_feed(open_page: Any, server: NatsServer) -> None:
    """The status line has the worse state of the page's feed and bucket; an empty bucket is not a bad
    state."""
    server.add_stream("S", ["s.>"])
    server.publish("s.a", b"1")
    create(server, "empty")
    page = open_page(PAGE + 'live("S")\nvalues("empty")\n')
    assert "lb-live" in status_html(page)
    assert "<b>0 keys</b> in empty" in status_html(page)
    page = open_page(PAGE + 'live("S")\nvalues("gone")\n')
    assert "Stopped" in status_html(page)
    assert "There is no bucket 'gone'" in texts(page)


def test_what_does_not_need_the_bucket_goes_on(open_page: Any, server: NatsServer) -> None:
    """A page with a bucket that has never been read still runs all code that does not depend on the bucket's
    content."""
    server.add_stream("S", ["s.>"])
    server.publish("s.a", b"1")
    source = 'b = values("gone")\nkey_list(b)\nkey_value(b, "x")\nkey_history(b, "x")\n'
    page = open_page(PAGE + f'from components import *\n{source}st.text(len(live("S")))\n')
    assert [each.value for each in page.text] == ["1"]
    assert "Stopped" in status_html(page)
    assert not page.exception
    assert "keys" not in status_html(page)


@pytest.mark.parametrize(
    "read",
    [
        "b == {}",
        "list(b.items())",
        "list(b.values())",
        'b["x"]',
        '"x" in b',
        'b.get("x")',
        "list(b)",
        "len(b)",
        "bool(b)",
        "b.entries()",
        "b.frame()",
        "b.complete",
    ],
)
def test_what_is_not_known_is_not_absent(open_page: Any, read: str) -> None:
    """Code that depends on the content of a bucket that has never been read ends the page at that point, and
    no earlier."""
    page = open_page(PAGE + f'b = values("gone")\nst.text("before")\n{read}\nst.text("behind")\n')
    assert [each.value for each in page.text] == ["before"]
    assert "has no key" not in texts(page)
    assert "There is no bucket 'gone'" in texts(page)
    assert not page.exception


@pytest.mark.parametrize(
    ("source", "times"), [("key_list(b)\nkey_list(b)", 2), ('b["cpu"]\nkey_list(b)', 1), ("st.text(1)", 1)]
)
def test_waiting_for_a_bucket(open_page: Any, server: NatsServer, source: str, times: int) -> None:
    """While the server is slow, the page says that it waits for the bucket: where an element draws it, where
    code depends on its content, or at the end of the page. With `optional` the mapping is empty meanwhile. A
    bucket that was read before keeps its values, and the page fills without a reload."""
    open_page(PAGE + 'st.text(values("settings")["cpu"])\n')
    server.signal(signal.SIGSTOP)
    try:
        page = open_page(PAGE + f'from components import key_list\nb = values("slow")\n{source}\n')
        assert texts(page).count("Waiting for bucket slow.") == times
        page = open_page(PAGE + 'st.text([len(values("slow", optional=True)), values("settings")["cpu"]])\n')
        assert page.text[0].value == "[0, 90]"
    finally:
        server.signal(signal.SIGCONT)
    create(server, "slow")
    put(server, "slow", cpu=1)
    page = open_page(PAGE + 'st.text(values("slow")["cpu"])\n')
    until(lambda: page.run().text)
    assert page.text[0].value == "1"


def test_values_page(open_page: Any, server: NatsServer) -> None:
    """The page lists the keys, and shows one with its history; a search keeps the keys that contain its
    text."""
    put(server, "settings", cpu=95)
    page = open_page(VALUES)
    assert not page.exception
    keys, history = page.dataframe
    assert keys.value["key"].tolist() == ["cpu", "memory"]
    assert keys.value["value"].tolist() == ["95", '{"percent": 80}']
    assert page.code[0].value == "95"
    assert history.value["revision"].tolist() == [3, 1]
    assert "History 5, no TTL, " in page.caption[0].value.replace("\\", "")
    page = page.text_input(key="search").set_value("MEM").run()
    assert page.dataframe[0].value["key"].tolist() == ["memory"]
    page = page.selectbox(key="key").set_value("memory").run()
    assert page.code[0].value == '{\n  "percent": 80\n}'


def test_deleted_keys(open_page: Any, server: NatsServer) -> None:
    """A deleted key is not listed by default; on request it is listed as deleted, with its history."""
    server.run(delete_key)
    page = open_page(VALUES)
    assert page.dataframe[0].value["key"].tolist() == ["memory"]
    page = page.toggle[0].set_value(True).run()
    assert page.dataframe[0].value["operation"].tolist() == ["DEL", "PUT"]
    page = page.selectbox(key="key").set_value("cpu").run()
    assert "This bucket has no key 'cpu'. It may have been deleted." in texts(page)
    assert page.dataframe[1].value["operation"].tolist() == ["DEL", "PUT"]


async def delete_key(nc: Any) -> None:
    """Delete the key `cpu`."""
    await (await nc.jetstream().key_value("settings")).delete("cpu")


def test_no_bucket(open_page: Any, server: NatsServer) -> None:
    """Without a bucket on the server the page says so."""
    delete(server, "settings")
    page = open_page(VALUES)
    assert "This server has no key-value buckets yet." in texts(page)
    assert "Live" in status_html(page)
    assert page.get("component_instance"), "no clock ticks, so the page would not fill by itself"


def test_empty_bucket(open_page: Any, server: NatsServer) -> None:
    """With an empty bucket the page says so."""
    create(server, "empty")
    page = open_page(VALUES, bucket="empty")
    assert "This bucket is empty." in texts(page)
    assert "<b>0 keys</b> in empty" in status_html(page)


def test_values_page_in_a_browser(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """A changed key is shown without a reload. A deleted bucket is reported, and its values stay until the
    bucket is back. Markup in keys and values is plain text."""
    elsewhere: list[str] = []
    bad: list[str] = []
    with app(tmp_path, NATS_URL=server.url) as running, fresh_tab(browser) as tab:
        tab.on("request", lambda request: elsewhere.append(request.url))

        def refuse(dialog: Dialog) -> None:
            bad.append(dialog.message)
            dialog.dismiss()

        tab.on("dialog", refuse)
        tab.add_init_script("window.hacked = () => alert('hacked')")
        tab.goto(f"{running.url}/values")
        expect(code(tab)).to_have_text("90", timeout=30_000)
        put(server, "settings", cpu=91)
        expect(code(tab)).to_have_text("91")

        delete(server, "settings")
        expect(tab.locator(".lb-word")).to_have_text("Stopped", timeout=30_000)
        expect(tab.locator("[data-testid=stAlert]").first).to_contain_text(
            "There is no bucket 'settings' in this account. There are no buckets yet. "
            "The page keeps showing the last data."
        )
        expect(code(tab)).to_have_text("91")

        create(server, "settings")
        keys = {f"m{i}{''.join(c for c in text if c not in ' .')}": text for i, text in enumerate(MARKUP)}
        server.run(lambda nc: write(nc, {"cpu": "1"} | keys))
        expect(code(tab)).to_have_text("1", timeout=30_000)
        expect(tab.locator(".lb-status")).to_contain_text(f"{len(keys) + 1} keys")
        expect(tab.locator(".lb-word")).to_have_text("Live")
        for key, text in keys.items():
            choose_key(tab, key)
            expect(code(tab)).to_have_text(text)
            assert tab.evaluate(FOUND) == []
        choose_key(tab, "<b>gone</b>[x](y)")
        expect(tab.locator("[data-testid=stAlert]").last).to_contain_text("no key '<b>gone</b>[x](y)'")
    assert not bad
    assert not [url for url in elsewhere if "127.0.0.1" not in url and not url.startswith(("data:", "blob:"))]


async def write(nc: Any, values: dict[str, str]) -> None:
    """Write texts as messages: the key-value API would refuse such keys."""
    for key, text in values.items():
        await nc.jetstream().publish(f"$KV.settings.{key}", text.encode())


def code(tab: Page) -> Any:
    """The element with the value of the chosen key."""
    return tab.locator("[data-testid=stCode]")


def choose_key(tab: Page, key: str) -> None:
    """Choose a key by its name."""
    box = tab.get_by_label("Key", exact=True).last
    box.click()
    box.fill(key)
    box.press("Enter")
