"""states() in the whole app, against a real nats-server: it shows exactly the published states."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import ROOT, app
from tests.waiting import until

HOSTILE = ["<img/src=x/onerror=hacked()>", "__proto__", "constructor", "a b"]
PAGE = '''"""Machines."""

from components import live, states

rows = live("M", "m.{machine}", look_back="PT10M")
states(rows, "state", by="machine", title="All <b>machines</b>")
states(rows, "level", by=None, key="level", colors={"2": "#123456"})
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("M", ["m.>"])
        yield server


def say(server: NatsServer, machine: str, *states: str) -> None:
    """Publish states of a machine, one after another."""
    messages = [{"state": state, "level": len(state) % 3} for state in states]
    server.publish(f"m.{machine}", *(json.dumps(message).encode() for message in messages))


def at_the_end(tab: Page, number: int = 0) -> str:
    """The states at the right edge, from the canvas's label for screen readers."""
    return str(tab.locator(".lb-states canvas").nth(number).get_attribute("aria-label")).partition(": ")[2]


def legend(tab: Page) -> list[str]:
    """The names of the states in the first legend."""
    return tab.locator(".lb-states").first.locator(".lb-canvas-legend b").all_inner_texts()


def test_two_viewers_see_each_change(server: NatsServer, tmp_path: Path, browser: Browser) -> None:
    """Each change reaches both viewers of the page, with any names of states and machines. Pointing at a band
    names its state, and a viewer who opens the page later sees the same."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "overview.py").write_text(PAGE)
    say(server, "press", "IDLE", "RUN")
    say(server, "lathe", "RUN")
    with (
        app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(pages)) as running,
        fresh_tab(browser) as one,
        fresh_tab(browser) as other,
    ):
        for tab in (one, other):
            tab.add_init_script("window.hacked = () => { window.bad = true }")
            tab.goto(running.url)
            until(lambda: at_the_end(tab) == "lathe RUN, press RUN")
        say(server, "press", *HOSTILE)
        say(server, "lathe", "FAULT")
        for tab in (one, other):
            until(lambda: at_the_end(tab) == "lathe FAULT, press a b")
            assert legend(tab) == ["IDLE", "RUN", *HOSTILE, "FAULT"]
            assert tab.evaluate("window.bad") is None
            expect(tab.locator(".lb-canvas-title").first).to_have_text("All <b>machines</b>")
        box = one.locator(".lb-states canvas").first.bounding_box()
        assert box is not None
        one.mouse.move(box["x"] + box["width"] - 3, box["y"] + 12)
        expect(one.locator(".lb-tip").first).to_contain_text("FAULT lathe")
        with fresh_tab(browser) as late:
            late.goto(running.url)
            until(lambda: at_the_end(late) == at_the_end(one))
            assert legend(late) == legend(one)
            assert at_the_end(late, 1) == at_the_end(one, 1) == "2"


def test_explore_draws_states(server: NatsServer, open_page: Callable[..., AppTest]) -> None:
    """Rows without numbers are drawn as states, and the copied page does the same."""
    server.add_stream("DOORS", ["doors.>"])
    server.publish("doors.a", *(json.dumps({"door": each}).encode() for each in ("open", "closed")))
    page = open_page(ROOT / "pages" / "explore.py", blocked=True, stream="DOORS", show="Copy as page")
    assert not page.exception
    assert 'states(rows, y="door", by="_subject")' in page.code[0].value


def test_wrong_arguments(server: NatsServer, open_page: Callable[..., AppTest]) -> None:
    """An unknown column and an invalid number of series are refused in a sentence."""
    say(server, "press", "RUN")
    source = "from components import live, states\nstates(live('M'), {})"
    for arguments, sentence in (
        ("'stat'", "There is no column 'stat'"),
        ("'state', most=0", "from 1 to 200"),
    ):
        page = open_page(source.format(arguments))
        assert sentence in " ".join(each.value for each in page.error).replace("\\", "")


def test_true_and_false_are_states(server: NatsServer, open_page: Callable[..., AppTest]) -> None:
    """Booleans in payloads are drawn and listed as true and false; the numbers 1 and 0 stay numbers."""
    server.add_stream("SWITCHES", ["switches"])
    server.publish("switches", *(json.dumps({"on": i < 3, "n": int(i < 3)}).encode() for i in range(5)))
    query = {"stream": "SWITCHES", "chart": "states", "by": "_subject"}
    for field, states in {"on": ["true", "false"], "n": ["1", "0"]}.items():
        page = open_page(ROOT / "pages" / "explore.py", blocked=True, field=field, **query)
        parsed = [json.loads(element.proto.json or "{}") for element in page.get("bidi_component")]
        contents = [each["content"] for each in parsed if isinstance(each, dict) and "content" in each]
        assert [content["states"] for content in contents if "states" in content] == [states]
        (fields,) = [content for content in contents if "=on" in content]
        assert fields["=on"][1:5] == ["on", "true or false", "100 %", "false"]
        assert fields["=n"][1:5] == ["n", "integer", "100 %", "0"]
