"""Explore's tab Messages: any message of a stream, in pages and in full.

Slow, because a browser pages through long lists in both directions.
"""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.app.test_explore import EXPLORE, Open, page_text
from tests.app.test_untrusted import FOUND, MARKUP
from tests.browser import fresh_tab, pick
from tests.jetstream import api, publish
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.waiting import until

COUNT = 300
LARGE = json.dumps([{"i": i, "text": "x" * 60} for i in range(90_000)]).encode()
CONFIG = "max_payload: 8MB\nmax_pending: 64MB"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with numbered messages, a message of 8 MB, and messages full of markup."""
    with running_server(tmp_path_factory.mktemp("nats"), CONFIG) as server:
        for name, subjects in {"S": "s.>", "LARGE": "l.>", "MARKUP": "m.>"}.items():
            server.add_stream(name, [subjects])
        server.run(fill)
        yield server


async def fill(nc: Any) -> None:
    """Fill the streams."""
    js = nc.jetstream()
    for i in range(1, COUNT + 1):
        row = {"n": i, "inner": {"third": i // 3, "same": "x"}, "list": [i % 2]}
        await js.publish(f"s.{i % 3}", json.dumps(row).encode(), headers={"trace": f"t{i}"})
    await js.publish("l.a", b'{"n": 1}')
    await js.publish("l.a", LARGE)
    for text in MARKUP:
        subject = "m." + "".join(c for c in text if c not in " .*")
        await js.publish(subject, json.dumps({text: text, "in": [text]}).encode(), headers={"x": text})


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on that server."""
    with app(tmp_path_factory.mktemp("app"), NATS_URL=server.url) as running:
        yield running


def link(stream: str, **query: object) -> str:
    """The path and query of a link to the tab."""
    return f"/explore?stream={stream}&show=Messages" + "".join(f"&{k}={v}" for k, v in query.items())


def head(tab: Page) -> Any:
    """The header of the open message."""
    return tab.locator(".lb-message header")


def seqs(tab: Page) -> list[int]:
    """The sequences of the shown page, from top to bottom."""
    cells = tab.locator(".lb-message_page tbody tr td:nth-child(3)")
    return [int(text) for text in cells.all_inner_texts()]


def part(tab: Page, name: str) -> Any:
    """Select a part of the open message, and return its body."""
    tab.locator(".lb-message").get_by_role("tab", name=re.compile(name)).click()
    return tab.locator(".lb-message .lb-body")


def go_to(tab: Page, text: str, over: str = "") -> None:
    """Type a place into the box "Go to", which holds `over`. The box is emptied after each successful
    move."""
    box = tab.get_by_role("textbox", name="Go to")
    expect(box).to_have_count(1)  # while a run ends, the old box may still be beside the new
    expect(box).to_have_value(over)
    box.fill(text)
    box.press("Enter")


def test_a_link_opens_exactly_a_message(running: App, browser: Browser) -> None:
    """A link opens one message as tree, text and hex, with its headers, its neighbours of the same subject
    and its differences from the message before. From there a viewer can page through the whole stream, and
    the address follows."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S", seq=150))
        expect(head(tab)).to_contain_text("s.0")
        expect(head(tab)).to_contain_text("Sequence 150")
        expect(head(tab)).to_contain_text("Taken for json")
        until(lambda: seqs(tab) == list(range(165, 115, -1)))  # the page arrives in a separate push
        expect(tab.locator(".lb-message_page tr[aria-current]")).to_contain_text("t150")
        expect(part(tab, "Tree")).to_contain_text("third: 50")
        expect(part(tab, "Text")).to_contain_text(
            '{"n": 150, "inner": {"third": 50, "same": "x"}, "list": [0]}'
        )
        expect(part(tab, "Hex")).to_contain_text("00000000  7b 22 6e 22")
        expect(part(tab, "Headers")).to_contain_text("t150")
        rows = part(tab, "Differences").locator("tbody tr")
        expect(rows).to_have_count(3)
        assert rows.all_inner_texts() == ["n\t147\t150", "inner.third\t49\t50", "list[0]\t1\t0"]

        tab.get_by_role("button", name=re.compile("^After")).click()
        expect(head(tab)).to_contain_text("Sequence 153")
        assert seqs(tab) == list(range(165, 115, -1))
        tab.get_by_role("button", name="Older").click()
        until(lambda: seqs(tab) == list(range(115, 65, -1)))
        tab.get_by_role("button", name="Newer").click()
        until(lambda: seqs(tab) == list(range(165, 115, -1)))
        tab.get_by_role("button", name="Oldest").click()
        until(lambda: seqs(tab) == list(range(50, 0, -1)))
        tab.locator(".lb-message_page tbody tr", has_text="t49").click()
        expect(head(tab)).to_contain_text("Sequence 49")
        until(lambda: {"seq=49", "after=1"} <= set(tab.evaluate("location.search")[1:].split("&")))

        go_to(tab, "200")
        expect(head(tab)).to_contain_text("Sequence 200")
        go_to(tab, "2001-01-01 14:02")
        expect(head(tab).get_by_text("Sequence 1", exact=True)).to_be_visible()
        go_to(tab, "soon")
        expect(tab.get_by_text("'soon' is neither a sequence nor a time")).to_be_visible()
        go_to(tab, "77", over="soon")
        expect(head(tab)).to_contain_text("Sequence 77")
        tab.get_by_role("button", name="Close").click()
        expect(tab.locator(".lb-message")).to_have_count(0)
        tab.get_by_test_id("stTabs").get_by_role("button", name="Live").click()
        expect(tab.locator(".lb-message_list")).to_contain_text("t300")
        until(
            lambda: not {"seq", "upto", "after"} & set(re.findall(r"(\w+)=", tab.evaluate("location.search")))
        )


def test_the_live_list_is_held_and_opened(running: App, server: NatsServer, browser: Browser) -> None:
    """The newest messages arrive live, also with a filter. A held list stands still and counts new messages.
    A message can be opened from the list by keyboard."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S", filter="n%20%25%202%20%3D%200"))
        listed = tab.locator(".lb-message_list tbody tr")
        expect(listed.first).to_contain_text("t300")
        assert all(int(text) % 2 == 0 for text in listed.locator("td:nth-child(3)").all_inner_texts())
        tab.locator(".lb-message_list").get_by_role("button", name="Hold").click()
        publish(server, "s.0", b'{"n": 1000}', b'{"n": 1001}', trace="held")
        expect(tab.locator(".lb-message_list")).to_contain_text("Held, 1 new")
        expect(listed.first).to_contain_text("t300")
        tab.locator(".lb-message_list").get_by_role("button", name="Continue").click()
        expect(listed.first).to_contain_text("held")
        tab.get_by_label("Search these messages").fill("t298")
        expect(listed).to_have_count(1)
        listed.first.focus()
        listed.first.press("Enter")
        expect(head(tab)).to_contain_text("Sequence 298")


def test_two_viewers_at_different_places(running: App, browser: Browser) -> None:
    """Two viewers of the same stream can be at different places; neither moves the other."""
    with fresh_tab(browser) as one, fresh_tab(browser) as other:
        one.goto(running.url + link("S", seq=10))
        other.goto(running.url + link("S", after=101, seq=280))
        expect(head(one)).to_contain_text("Sequence 10")
        expect(head(other)).to_contain_text("Sequence 280")
        other.get_by_role("button", name="Newer").click()
        until(lambda: seqs(other) == list(range(200, 150, -1)))
        assert seqs(one) == list(range(25, 0, -1))
        expect(head(one)).to_contain_text("Sequence 10")


def test_another_stream_has_another_place(running: App, browser: Browser) -> None:
    """Choosing another stream shows its newest messages, and Back opens the previous message again."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S", seq=150))
        expect(head(tab)).to_contain_text("Sequence 150")
        until(lambda: "field=" in tab.evaluate("location.search"))
        pick(tab, "Stream", "LARGE")
        expect(tab.locator(".lb-message_list")).to_contain_text("l.a")
        expect(tab.locator(".lb-message")).to_have_count(0)
        until(lambda: "seq=" not in tab.evaluate("location.search"))

        def opened_again() -> bool:
            tab.go_back()
            tab.wait_for_timeout(2000)  # as a viewer does, who looks at the page first
            return "seq=150" in tab.evaluate("location.search") and "=S&" in tab.evaluate("location.search")

        until(opened_again, 60)
        expect(head(tab)).to_contain_text("Sequence 150")
        expect(head(tab)).to_contain_text("s.0")


def test_a_large_message(running: App, browser: Browser) -> None:
    """Of a message of 8 MB, the browser gets only a part and says how much. It can request more, and the file
    has all of it."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("LARGE", seq=2))
        expect(head(tab)).to_contain_text("7.73 MB")
        expect(part(tab, "Tree")).to_contain_text("89,800 more")
        text = part(tab, "Text")
        expect(text).to_contain_text("The first 32.8 kB of 7.73 MB.")
        tab.get_by_role("button", name="Show more").click()
        expect(text).to_contain_text("The first 262 kB of 7.73 MB.")
        assert len(text.inner_text()) < 300_000
        with tab.expect_download() as download:
            tab.locator(".lb-message").get_by_role("link", name="Download").click()
        assert download.value.suggested_filename == "LARGE-2.bin"
        assert Path(download.value.path()).read_bytes() == LARGE


def test_search(running: App, browser: Browser) -> None:
    """The results of a text search are in pages, can be opened, and can be downloaded as CSV, NDJSON and
    Parquet. The search is in the address, which opens it for another viewer."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S"))
        box = tab.get_by_role("textbox", name="Search", exact=True)
        box.fill("SAME")
        box.press("Enter")
        found = tab.locator(".lb-found_messages")
        expect(found).to_contain_text(f"{COUNT} messages found", timeout=60_000)
        expect(found).to_contain_text("1 to 50 of 300")
        found.get_by_role("button", name=re.compile("^Older")).click()
        expect(found).to_contain_text("51 to 100 of 300")
        expect(found.locator("tbody tr").first).to_contain_text("t250")
        box.fill("t17")
        box.press("Enter")
        expect(found).to_contain_text("11 messages found", timeout=60_000)
        wanted = [17, *range(170, 180)]
        listed = [int(text) for text in found.locator("td:nth-child(3)").all_inner_texts()]
        assert listed == wanted[::-1]
        found.locator("tbody tr", has_text="t175").click()
        expect(head(tab)).to_contain_text("Sequence 175")
        until(lambda: {"find=t17", "seq=175"} <= set(tab.evaluate("location.search")[1:].split("&")))
        files = {}
        for name in ("CSV", "NDJSON", "Parquet"):
            with tab.expect_download() as download:
                tab.get_by_role("link", name=name, exact=True).first.click()
            assert download.value.suggested_filename == f"S-found.{name.lower()}"
            files[name] = Path(download.value.path())
        lines = [json.loads(line) for line in files["NDJSON"].read_text().splitlines()]
        tables = pd.read_csv(files["CSV"]), pd.read_parquet(files["Parquet"])
        assert [line["_seq"] for line in lines] == wanted
        assert [[int(seq) for seq in table["_seq"]] for table in tables] == [wanted] * 2
        payloads = [json.loads(line["payload"])["n"] for line in lines]
        assert payloads == [json.loads(text)["n"] for text in tables[1]["payload"]] == wanted
        with fresh_tab(browser) as other:
            other.goto(tab.url)
            expect(other.locator(".lb-found_messages")).to_contain_text("11 messages found", timeout=60_000)
            expect(head(other)).to_contain_text("Sequence 175")


def test_a_search_is_stopped_and_goes_on(running: App, server: NatsServer, browser: Browser) -> None:
    """A search on a server that does not respond can be stopped and started again."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S"))
        expect(tab.locator(".lb-message_list tbody tr").first).to_be_visible(timeout=60_000)
        server.signal(signal.SIGSTOP)
        try:
            box = tab.get_by_role("textbox", name="Search", exact=True)
            box.fill("t29")
            box.press("Enter")
            found = tab.locator(".lb-found_messages")
            found.get_by_role("button", name="Stop").click(timeout=60_000)
            expect(found).to_contain_text("Stopped at sequence 0.", timeout=60_000)
        finally:
            server.signal(signal.SIGCONT)
        found.get_by_role("button", name="Search again").click()
        expect(found).to_contain_text("11 messages found", timeout=60_000)


def test_the_page_that_is_shown_as_files(running: App, browser: Browser) -> None:
    """The download of a page has exactly its messages, in full."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S", upto=120))
        expect(tab.locator(".lb-message_page tbody tr").first).to_be_visible(timeout=60_000)
        with tab.expect_download() as download:
            tab.get_by_role("link", name="NDJSON", exact=True).first.click()
        assert download.value.suggested_filename == "S-messages.ndjson"
        lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
        assert [line["_seq"] for line in lines] == list(range(71, 121))
        assert [json.loads(line["payload"])["n"] for line in lines] == list(range(71, 121))
        assert json.loads(lines[0]["_headers"]) == [["trace", "t71"]]
        assert lines[0]["_time"].endswith("Z")


def test_untrusted(running: App, browser: Browser) -> None:
    """Markup in subjects, headers, names and values of a message is shown as text, and never run."""
    with fresh_tab(browser) as tab:
        for seq, text in enumerate(MARKUP, 1):
            tab.goto(running.url + link("MARKUP", seq=seq))
            expect(part(tab, "Tree")).to_contain_text(f"{text}: ")
            expect(part(tab, "Headers")).to_contain_text(text)
            expect(part(tab, "Differences")).to_contain_text("no message of this subject before it")
            assert tab.evaluate(FOUND) == []


def test_pages_obey_the_filter(running: App, server: NatsServer, browser: Browser) -> None:
    """Pages of stored messages contain only those that match the filter of rows, in both directions and in
    downloads. The page reports how many messages were read and which could not be decoded. A link shows the
    same, and another viewer can have another filter."""
    server.add_stream("FILTERED", ["f.>"])
    payloads = [b"{" if n in (40, 41) else b'{"n": %d}' % n for n in range(1, 1201)]
    publish(server, "f.a", *payloads)
    with fresh_tab(browser) as tab, fresh_tab(browser) as other:
        tab.goto(running.url + link("FILTERED", filter="n%20%25%2010%20%3D%200"))
        found, listed = tab.locator(".lb-found_messages"), found_seqs(tab)
        expect(tab.locator(".lb-message_list tbody tr").first).to_contain_text("1200", timeout=60_000)
        tab.get_by_role("button", name="Oldest").click()
        until(lambda: listed() == [n for n in range(510, 0, -10) if n != 40])
        expect(found).to_contain_text("50 messages match from 1 to 510; 510 were read.")
        expect(found).to_contain_text("2 messages could not be decoded and have no row to filter, such as 4")
        tab.get_by_role("button", name="Newer").click()
        until(lambda: listed() == list(range(1010, 510, -10)))
        found.locator("tbody tr", has_text='"n": 700').click()
        expect(head(tab)).to_contain_text("Sequence 700")
        expect(found.locator("tr[aria-current]")).to_contain_text('"n": 700')
        assert listed() == list(range(1010, 510, -10))
        other.goto(running.url + link("FILTERED", filter="n%20%25%202%20%3D%201", after=511, seq=700))
        until(lambda: found_seqs(other)() == list(range(609, 510, -2)))
        assert listed() == list(range(1010, 510, -10))
        expect(head(other)).to_contain_text("Sequence 700")
        other.goto(tab.evaluate("location.href"))
        until(lambda: found_seqs(other)() == list(range(1010, 510, -10)))
        with tab.expect_download() as download:
            tab.get_by_role("link", name="NDJSON", exact=True).first.click()
        lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
        assert [line["_seq"] for line in lines] == list(range(520, 1011, 10))
        tab.get_by_role("button", name="Close").click()
        expect(tab.locator(".lb-message")).to_have_count(0)
        tab.get_by_role("button", name="Older").click()
        until(lambda: listed()[:2] == [510, 500])
        go_to(tab, "2001-01-01 14:02")
        expect(found).to_contain_text("50 messages match from 1 to 510;")
        expect(tab.get_by_role("textbox", name="Go to")).to_have_count(1)
        go_to(tab, "35")
        expect(head(tab)).to_contain_text("Sequence 35")
        until(lambda: listed() == [30, 20, 10])
        assert tab.get_by_role("button", name="Older").is_disabled()


def test_a_filtered_page_is_stopped(running: App, server: NatsServer, browser: Browser) -> None:
    """Reading a filtered page from a server that does not respond can be stopped and started again."""
    with fresh_tab(browser) as tab:
        tab.goto(running.url + link("S", filter="n%20%3C%207"))
        expect(tab.get_by_role("button", name="Oldest")).to_be_enabled(timeout=60_000)
        server.signal(signal.SIGSTOP)
        try:
            tab.get_by_role("button", name="Oldest").click()
            found = tab.locator(".lb-found_messages")
            found.get_by_role("button", name="Stop").click(timeout=60_000)
            expect(found).to_contain_text("Stopped at sequence 0.", timeout=60_000)
        finally:
            server.signal(signal.SIGCONT)
        found.get_by_role("button", name="Search again").click()
        until(lambda: found_seqs(tab)() == [6, 5, 4, 3, 2, 1], 60)


def found_seqs(tab: Page) -> Any:
    """A function that returns the sequences of the messages found, from top to bottom."""
    cells = tab.locator(".lb-found_messages tbody tr td:nth-child(3)")
    return lambda: [int(text) for text in cells.all_inner_texts()]


def page_of(opened: AppTest) -> dict[str, Any]:
    """The data of the table of stored messages."""
    parsed = [json.loads(element.proto.json or "{}") for element in opened.get("bidi_component")]
    return next(each for each in parsed if isinstance(each, dict) and "rows" in each and "note" in each)


def message_of(opened: AppTest) -> dict[str, Any]:
    """The data of the open message."""
    parsed = [json.loads(element.proto.json or "{}") for element in opened.get("bidi_component")]
    return next(each for each in parsed if isinstance(each, dict) and "takenFor" in each)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"seq": "99999"}, "The stream 'GONE' has no message 99,999 yet: its last one is 40."),
        ({"seq": "3"}, "The message 3 is not in the stream 'GONE' any more: it begins at 11."),
        ({"seq": "20"}, "was deleted or acknowledged"),
        ({"seq": "5", "stream": "NONE"}, "There is no stream 'NONE' in this account."),
    ],
)
def test_what_is_not_there(open_page: Open, server: NatsServer, query: dict[str, str], said: str) -> None:
    """A link to a message that expired, was deleted or never existed says which is the case; the page stays
    usable."""
    if "GONE" not in api(server, "STREAM.NAMES")["streams"]:
        server.add_stream("GONE", ["g.>"])
        publish(server, "g.a", *(b'{"n": %d}' % n for n in range(1, 41)))
        api(server, "STREAM.PURGE.GONE", {"seq": 11})
        api(server, "STREAM.MSG.DELETE.GONE", {"seq": 20})
    opened = open_page(EXPLORE, **({"stream": "GONE", "show": "Messages"} | query))
    assert said in page_text(opened)
    assert not opened.exception
    assert {box.label for box in opened.text_input} >= {"Go to"}


@pytest.mark.parametrize("wrong", ["-5", "x", "1.5", "<b>x</b>", "9" * 19, "٣"])
def test_wrong_places_in_the_address(open_page: Open, wrong: str) -> None:
    """An address with an invalid sequence opens the newest messages, live."""
    opened = open_page(EXPLORE, blocked=True, stream="S", show="Messages", seq=wrong, upto=wrong, after=wrong)
    assert not opened.exception
    assert not opened.error
    assert "Hold" not in page_text(opened)


def test_purged_and_recreated_meanwhile(open_page: Open, server: NatsServer) -> None:
    """If the stream is purged, or deleted and created anew, while a viewer pages through it, the page shows
    its current messages and none of the stream before."""
    server.add_stream("AGAIN", ["again.>"])
    publish(server, "again.a", *(b'{"old": %d}' % n for n in range(1, 121)))
    opened = open_page(EXPLORE, stream="AGAIN", show="Messages", upto="120", seq="100")
    assert message_of(opened)["before"] == "99"
    api(server, "STREAM.PURGE.AGAIN", {"seq": 61})
    click(opened, "Older")
    assert [row[2] for row in page_of(opened)["rows"]] == [str(n) for n in range(70, 60, -1)]
    assert "60 messages, 61 to 120" in page_of(opened)["note"]
    api(server, "STREAM.DELETE.AGAIN")
    server.add_stream("AGAIN", ["again.>"])
    publish(server, "again.a", *(b'{"new": %d}' % n for n in range(1, 131)))
    click(opened, "Newer")
    assert all("new" in row[5] for row in page_of(opened)["rows"])
    assert "new" in message_of(opened)["text"]


def click(opened: AppTest, label: str) -> None:
    """Click a button of the tab."""
    next(button for button in opened.button if button.label == label).click().run()
    assert not opened.exception


def test_older_than_the_look_back(open_page: Open) -> None:
    """If the look-back has no message, Older goes to the newest message that the stream holds."""
    past = {"from": "2001-01-01T00:00:00Z", "to": "2001-01-02T00:00:00Z"}
    opened = open_page(EXPLORE, stream="LARGE", show="Messages", **past)
    click(opened, "Older")
    assert [row[2] for row in page_of(opened)["rows"]] == ["2", "1"]


def test_a_filter_of_subjects(open_page: Open) -> None:
    """Pages contain only the messages of the chosen subjects; a link to a message of another subject still
    opens it."""
    opened = open_page(EXPLORE, stream="S", subjects="s.1", show="Messages", seq="150")
    assert message_of(opened)["subject"] == "s.0"
    found = [int(row[2]) for row in page_of(opened)["rows"]]
    assert len(found) == 50
    assert all(seq % 3 == 1 for seq in found)
    assert min(found) < 150 < max(found)


def test_who_may_not_read_by_sequence(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without permission to read by sequence gets a sentence that says so, and still has the newest
    messages."""
    store = f'jetstream {{ store_dir: "{tmp_path / "store"}" }}\n'
    users = """
    accounts { A: { jetstream: enabled, users: [
      {user: all, password: all},
      {user: some, password: some, permissions: {publish: {deny: "$JS.API.STREAM.MSG.GET.>"}}}
    ] } }
    no_auth_user: all
    """
    with running_server(tmp_path, store + users) as server:
        server.add_stream("S", ["s.>"])
        publish(server, "s.a", b'{"n": 1}')
        for name, value in {"URL": server.url, "USER": "some", "PASSWORD": "some"}.items():
            monkeypatch.setenv(f"NATS_{name}", value)
        opened = open_page(EXPLORE, blocked=True, stream="S", show="Messages", seq="1")
        assert "'S' can only be read by sequence" in page_text(opened)
        assert "MSG.GET.S" in page_text(opened)
        assert not opened.exception
        click(opened, "Live")
        assert "Live" not in [button.label for button in opened.button if not button.disabled]
