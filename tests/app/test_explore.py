"""The page "Explore": any stream of a server, and each of its views as a page to copy.

Slow, because a browser draws each choice anew.
"""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from streamlit.testing.v1 import AppTest

from bench.chart_end import read
from components.charts.states import MOST_STATES
from tests.browser import fresh_tab, pick
from tests.nats import NatsServer, running_server
from tests.running import ROOT, app
from tests.status_line import status_html
from tests.waiting import until

EXPLORE = ROOT / "pages" / "explore.py"
NASTY = """we"ird'\\ \n'''\"""+__import__("os")+{x}"""
NASTY_STREAM = """Q"'''\"\"\"{x}+1"""

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with streams of numbers, of words, of bytes, and of hostile names."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        streams = {"A": "a.>", "WORDS": "w.>", "BYTES": "b.>", NASTY_STREAM: "q.>", "ARRAYS": "r.>"}
        for name, subjects in streams.items():
            server.add_stream(name, [subjects])
        server.run(fill)
        yield server


async def fill(nc: Any) -> None:
    """Fill the streams."""
    js = nc.jetstream()
    await js.create_key_value(bucket="settings")
    for i in range(30):
        row = {"x": i, "y": i * i, "at": f"2020-01-01T00:00:{i:02d}Z", "kind": "ab"[i % 2]}
        await js.publish(f"a.{i % 3}", json.dumps(row).encode())
        await js.publish("q.\"'\\", json.dumps({NASTY: i, f"{NASTY} by": NASTY, "z": -i}).encode())
    for i in range(6):
        readings = [{"name": "t", "v": 2**53 + i, "state": "RUN"}, {"name": "h", "v": i, "state": "IDLE"}]
        gateway = {"gateway": f"gw-{i % 3}", "data": {"readings": readings}}
        await js.publish(f"r.{i % 2}", json.dumps(gateway).encode())
    for i in range(3):
        await js.publish("w.log", b"door %d is open" % i)
        await js.publish("b.raw", bytes([i, 255, 0]))


def page_text(app: AppTest) -> str:
    """All sentences of the page without Markdown's backslashes, including those of live elements if the
    websocket is blocked."""
    boxes = [*app.error, *app.warning, *app.info, *app.caption]
    lines = [str(content[name]) for content in live(app) for name in ("text", "note") if name in content]
    return re.sub(r"\\(.)", r"\1", "\n".join([*(box.value for box in boxes), *lines]))


def live(app: AppTest) -> list[dict[str, Any]]:
    """The contents of the live elements, which are part of the page if the websocket is blocked."""
    parsed = [json.loads(element.proto.json or "{}") for element in app.get("bidi_component")]
    return [each["content"] for each in parsed if isinstance(each, dict) and "content" in each]


def cells(app: AppTest, column: int) -> list[str]:
    """A column of the live table of fields in the order of the table, or of that of messages, newest
    first."""
    found = {name: row for content in live(app) for name, row in content.items() if name[0] in "=r"}
    fields = sorted((row for name, row in found.items() if name[0] == "="), key=lambda row: row[0])
    messages = [row for name, row in sorted(found.items(), reverse=True) if name[0] == "r"]
    return [row[column] for row in fields or messages]


def payload(app: AppTest) -> str:
    """The newest message in full, as the page shows it."""
    return next(str(content["payload"]) for content in live(app) if "payload" in content)


def rows(app: AppTest) -> str:
    """How many rows the status line counts."""
    rows: str = re.findall(r"<b>[\d,]+</b> rows in [^<]+", status_html(app))[0]
    return rows


def drawn(app: AppTest) -> list[object]:
    """All that is drawn, down to each number."""
    found: list[object] = [element.proto.spec for element in app.get("plotly_chart")]
    found += [frame.value.to_dict() for frame in app.dataframe]
    for element in app.get("bidi_component"):
        if element.proto.bytes:
            message = read(element.proto.bytes)
            settings = message.header.get("config", {})
            how = {name: settings.get(name) for name in ("scale", "steps")}
            found.append([message.header.get("names"), message.cells, how])
    now = {"until", "first", "last"}  # ends of an axis
    kept = [{name: each[name] for name in each.keys() - now} for each in live(app)]
    return found + [content for content in kept if content.keys() != {"text"}]  # the line of the stream


def test_fields(open_page: Open) -> None:
    """Each field has its kind; a field that holds times is offered as the rows' own time."""
    app = open_page(EXPLORE, blocked=True, stream="A")
    assert cells(app, 1) == ["x", "y", "at", "kind"]
    assert cells(app, 2) == ["integer", "integer", "time", "text"]
    assert cells(app, 3) == ["100 %"] * 4
    assert cells(app, 6)[:2] == ["29", "841"]
    assert "Can be used as the row time: at." in page_text(app)
    assert "30 messages" in page_text(app)
    assert next(box for box in app.selectbox if box.label == "Time").options == ["stored", "at"]


def branches(app: AppTest) -> dict[str, str]:
    """By visible branch of the tree of subjects: its number of messages."""
    found = next(content for content in live(app) if content.keys() != {"text"})
    return {name[1:]: row[6] for name, row in found.items() if name[0] == "="}


def test_subjects(open_page: Open) -> None:
    """The subjects that match have their numbers of messages."""
    app = open_page(EXPLORE, blocked=True, stream="A", show="Subjects", open="a")
    assert branches(app) == {"a": "30", "a.0": "10", "a.1": "10", "a.2": "10"}
    assert "3 subjects. Messages in the stream were counted at" in page_text(app)
    app = open_page(EXPLORE, blocked=True, stream="A", show="Subjects", subjects="a.2", match="2")
    assert branches(app) == {"a": "10", "a.2": "10"}


def test_several_filters(open_page: Open) -> None:
    """Several filters separated by spaces are one choice, for the counted subjects and the copied page.
    Filters that overlap are reported."""
    several = {"stream": "A", "subjects": "a.0 a.2"}
    app = open_page(EXPLORE, blocked=True, **several, show="Subjects", open="a")
    assert branches(app) == {"a": "20", "a.0": "10", "a.2": "10"}
    code = open_page(EXPLORE, blocked=True, **several, show="Copy as page").code[0].value
    assert 'live("A", ("a.0", "a.2",), ' in code
    assert "overlap" in page_text(open_page(EXPLORE, stream="A", subjects="a.* *.0"))


def test_messages_that_are_no_json(open_page: Open) -> None:
    """Messages are shown unchanged whatever they hold, and the page says that they could not be decoded into
    rows."""
    app = open_page(EXPLORE, blocked=True, stream="WORDS", show="Messages")
    assert cells(app, 5) == [f"door {i} is open" for i in (2, 1, 0)]
    assert (
        "No rows in the last 5 minutes (stream WORDS). 3 messages read so far could not be decoded. The"
        in page_text(app)
    )
    app = open_page(EXPLORE, blocked=True, stream="BYTES", show="Messages")
    assert cells(app, 5) == ["02 ff 00", "01 ff 00", "00 ff 00"]
    assert payload(app) == "02 ff 00"


def test_a_filter_that_no_row_matches_beside_what_is_no_json(open_page: Open, server: NatsServer) -> None:
    """If no row matches the filter and one message is not JSON, the page reports both; it does not say that
    no message could be decoded."""
    server.add_stream("MIXED", ["mixed.>"])
    for payload in (b'{"ms": 1}', b"\xff", b'{"ms": 2}'):
        server.publish("mixed.x", payload)
    app = open_page(EXPLORE, blocked=True, stream="MIXED", filter="ms > 5")
    assert (
        "None of the 3 messages in the last 5 minutes matches ms > 5. 1 message read so far could"
        in page_text(app)
    )


def test_no_numbers(open_page: Open, server: NatsServer) -> None:
    """For rows without numbers, a text with few values is drawn as states; for a text with many values, rows
    are counted."""
    app = open_page(EXPLORE, blocked=True, stream="WORDS", payloads="text")
    assert [box.value for box in app.selectbox if box.label in ("Chart", "Field")] == ["states", "value"]
    server.add_stream("LINES", ["lines"])
    server.publish("lines", *(f"line {i}".encode() for i in range(MOST_STATES + 1)))
    app = open_page(EXPLORE, blocked=True, stream="LINES", payloads="text")
    assert next(box for box in app.selectbox if box.label == "Chart").value == "counts"
    assert cells(app, 1) == ["value"]


def test_newest_message_is_indented(open_page: Open) -> None:
    """The newest message is shown as indented JSON, with all of its characters unchanged."""
    app = open_page(EXPLORE, blocked=True, stream=NASTY_STREAM, show="Messages")
    assert json.loads(payload(app))["z"] == -29
    assert "\n  " in payload(app)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"subjects": "a..b"}, "The subject 'a..b' is not valid"),
        ({"subjects": "a.>.b"}, "The subject 'a.>.b' is not valid"),
        ({"last": "5"}, "The look-back '5' is not a duration"),
        ({"time": "nope"}, "no valid time in the field 'nope'"),
        ({"subjects": "elsewhere"}, "No messages in the last 5 minutes (stream A, subject elsewhere)"),
    ],
)
def test_what_cannot_be_read(open_page: Open, query: dict[str, str], said: str) -> None:
    """An invalid subject or look-back, an unusable time field and a subject without messages are reported in
    a sentence; the choices stay."""
    app = open_page(EXPLORE, blocked=True, stream="A", **query)
    assert said in page_text(app)
    assert not app.exception
    assert [box.label for box in app.selectbox][1:4] == ["Stream", "Subjects", "Payloads"]
    assert "30 messages" in page_text(app)


@pytest.mark.parametrize(
    "query",
    [{"field": "nope"}, {"chart": "pie"}, {"by": "<b>x</b>"}, {"show": "x"}],
)
def test_unknown_names_in_the_address(open_page: Open, query: dict[str, str]) -> None:
    """An address with an unknown name opens the default instead, and the page says so."""
    app = open_page(EXPLORE, **({"stream": "A"} | query))
    assert not app.exception
    assert not app.error
    assert rows(app) == "<b>30</b> rows in 5 minutes"
    assert app.get("bidi_component")
    if "show" not in query:
        assert "shown instead" in app.toast[0].value


def test_empty_server(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without a stream, or with only a bucket, is not an error."""
    with running_server(tmp_path / "empty") as empty:
        monkeypatch.setenv("NATS_URL", empty.url)
        empty.run(lambda nc: nc.jetstream().create_key_value(bucket="settings"))
        app = open_page(EXPLORE)
        assert "no streams yet" in page_text(app)
        assert not app.exception
        assert not app.error


@pytest.mark.parametrize(
    "query",
    [
        {"stream": "A"},
        {"stream": "A", "subjects": "a.1", "last": "PT1H", "field": "y", "by": "kind", "time": "at"},
        {"stream": "A", "chart": "latest", "by": "kind"},
        {"stream": "A", "chart": "scatter", "field": "y", "against": "x", "by": "kind"},
        {"stream": "A", "axis": "logarithmic", "line": "steps"},
        {"stream": "A", "axis": "from zero"},
        {"stream": "A", "chart": "scatter", "axes": "logarithmic y"},
        {"stream": "A", "subjects": "a.2 a.0"},
        {"stream": "A", "chart": "counts", "by": "(all)"},
        {"stream": "A", "chart": "heatmap", "field": "y", "axis": "logarithmic"},
        {"stream": NASTY_STREAM, "chart": "heatmap", "field": NASTY, "per": "10s"},
        {"stream": "A", "chart": "tail", "line": "kind", "level": "(none)"},
        {"stream": NASTY_STREAM, "chart": "tail", "line": f"{NASTY} by", "level": NASTY},
        {"stream": NASTY_STREAM, "chart": "counts", "by": f"{NASTY} by", "per": "1m"},
        {"stream": "ARRAYS", "payloads": "json:data.readings"},
        {"stream": "ARRAYS", "payloads": "json:data.readings", "chart": "states", "by": "gateway"},
        {"stream": "WORDS", "payloads": "text"},
        {"stream": NASTY_STREAM, "subjects": "q.\"'\\", "field": NASTY, "by": f"{NASTY} by"},
        {"stream": NASTY_STREAM, "chart": "scatter", "field": "z", "against": NASTY, "by": f"{NASTY} by"},
        {"stream": NASTY_STREAM, "chart": "latest", "field": NASTY},
    ],
)
def test_copied_page(open_page: Open, tmp_path: Path, query: dict[str, str]) -> None:
    """The code that a view offers is a complete page. It shows the same rows in the same way, even with
    hostile names."""
    explored = open_page(EXPLORE, blocked=True, **query, show="Copy as page")
    assert not explored.exception
    for name, value in query.items():
        assert name == "last" or next(box for box in explored.selectbox if box.key == name).value == value
    (tmp_path / "copy").mkdir()
    page = tmp_path / "copy" / "overview.py"
    page.write_text(explored.code[0].value, encoding="utf-8")
    copied = open_page(page, blocked=True)
    assert not copied.exception
    assert not copied.error
    assert {box.key for box in copied.selectbox} == {"_zone_choice"}
    assert query["stream"] in re.sub(r"\\(.)", r"\1", copied.title[0].value)
    assert rows(copied) == rows(explored)
    assert drawn(copied)
    if query["stream"] != "WORDS":
        assert drawn(copied) == drawn(explored)


@pytest.mark.parametrize(
    ("query", "by", "field"),
    [
        ({"payloads": "json:data.readings"}, "name", "v"),
        ({"payloads": "json:data.readings", "by": "gateway"}, "gateway", "v"),
        ({"payloads": "json:data.readings", "chart": "states"}, "name", "state"),
        ({"payloads": "json:data.readings", "chart": "counts"}, "name", None),
        ({"chart": "counts"}, "_subject", None),
    ],
)
def test_by_tells_rows_of_a_message_apart(
    open_page: Open, query: dict[str, str], by: str, field: str | None
) -> None:
    """Rows that share a message are split into series by the text field that differs among them, and the
    address has that field. Other rows are split by subject. For states, the default field is the one named
    "state"."""
    app = open_page(EXPLORE, stream="ARRAYS", **query)
    chosen = {box.key: box.value for box in app.selectbox}
    assert chosen["by"] == by
    assert chosen.get("field") == field
    assert ("by" in app.query_params) == (by != "_subject")


def choose(tab: Page, label: str, choice: str) -> None:
    """Choose an option, and wait until it is in the address."""
    pick(tab, label, choice)
    until(lambda: f"{label.lower()}={choice}" in tab.evaluate("location.search"))


def shown(tab: Page) -> list[object]:
    """The choices, the selected tab, and the names of the series or groups that the chart shows."""
    boxes = tab.locator("[data-testid=stSelectbox] input").evaluate_all("all => all.map(one => one.value)")
    tabs = tab.get_by_role("tab", selected=True).inner_text()
    chart = tab.locator(".js-plotly-plot").first
    names = """el => el.closest(".lb-scatter")?.lookback.content?.groups.map(group => group[1])
      ?? (el.data || []).map(trace => trace.name)"""
    return [boxes, tabs, chart.evaluate(names) if chart.count() else []]


def test_back_undoes_a_choice(server: NatsServer, browser: Browser, tmp_path: Path) -> None:
    """The browser's Back undoes one choice at a time, then leaves the page; Forward redoes a choice."""
    with app(tmp_path, NATS_URL=server.url) as running, fresh_tab(browser) as tab:
        tab.goto("about:blank")
        tab.goto(f"{running.url}/explore?stream=A&source=stream")
        expect(tab.locator(".lb-status")).to_contain_text("30 rows", timeout=30_000)
        until(lambda: "field=x" in tab.evaluate("location.search"))
        field = tab.locator('input[aria-label="Field"]')
        choose(tab, "Field", "y")
        choose(tab, "By", "kind")
        by = tab.locator('input[aria-label="By"]')
        steps: list[tuple[Callable[[], object], Locator, str]] = [
            (tab.go_back, by, "_subject"),
            (tab.go_back, field, "x"),
            (tab.go_forward, field, "y"),
            (tab.go_back, field, "x"),
        ]
        for go, box, value in steps:
            tab.wait_for_timeout(2000)  # as a viewer does, who looks at the page first
            go()
            expect(box).to_have_value(value, timeout=30_000)
            until(lambda: f"field={field.input_value()}" in tab.evaluate("location.search"))
        until(lambda: shown(tab)[2] == ["0", "1", "2"])
        for _ in range(2):  # the first returns to the address before the default field was added
            tab.wait_for_timeout(2000)
            tab.go_back()
        until(lambda: tab.evaluate("location.href") == "about:blank")


def test_a_page_opened_from_the_menu_is_one_step_back(
    server: NatsServer, browser: Browser, tmp_path: Path
) -> None:
    """The defaults that complete a page's address make no history entry: one Back leaves the page, and
    Forward returns to it."""
    with app(tmp_path, NATS_URL=server.url) as running, fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/inside")
        for _ in range(2):
            expect(tab.locator("h1")).to_have_text("Inside", timeout=30_000)
            tab.get_by_role("link", name="Explore").click()
            until(lambda: "field=" in tab.evaluate("location.search"))
            tab.wait_for_timeout(2000)
            tab.go_back()
        expect(tab.locator("h1")).to_have_text("Inside")
        tab.wait_for_timeout(2000)
        tab.go_forward()
        expect(tab.locator("h1")).to_have_text("Explore")
        until(lambda: "field=" in tab.evaluate("location.search"))


def test_link_opens_the_same_view(server: NatsServer, browser: Browser, tmp_path: Path) -> None:
    """A viewer's choices are in the address, and the same address opens the same view for another viewer."""
    with app(tmp_path, NATS_URL=server.url) as running, fresh_tab(browser) as tab:
        tab.goto(f"{running.url}/explore")
        expect(tab.locator(".lb-status")).to_contain_text("30 rows", timeout=30_000)
        choose(tab, "Chart", "scatter")
        choose(tab, "Field", "y")
        choose(tab, "By", "kind")
        tab.get_by_role("tab", name="Messages").click()
        expected = [
            ["A", ">", "json", "stream", "stored", "scatter", "y", "x", "kind", "linear"],
            "Messages",
            ["a", "b"],
        ]
        until(lambda: shown(tab) == expected)
        for name in ("stream=A", "against=x", "show=Messages"):
            until(lambda: name in tab.evaluate("location.search"))
        with fresh_tab(browser) as other:
            other.goto(tab.url)
            until(lambda: shown(other) == expected)
            choose(other, "Chart", "latest")
            choose(other, "Stream", "WORDS")
            expect(other.locator("body")).to_contain_text("read so far could not be decoded", timeout=30_000)
            expect(other.locator("body")).to_contain_text("door 2 is open")


def test_many_subjects_are_not_counted_unasked(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a stream with many subjects, the page shows only the subjects of its rows. The server counts all
    subjects when a viewer clicks, and the result is kept."""
    # Through sys.modules, because components.nats also has a function `streams`.
    monkeypatch.setattr(sys.modules["components.nats.streams"], "MOST_COUNTED", 5)
    with running_server(tmp_path / "many") as many:
        monkeypatch.setenv("NATS_URL", many.url)
        many.add_stream("MANY", ["many.>"])
        for i in range(7):
            many.publish(f"many.{i}", b'{"x": 1}')
        app = open_page(EXPLORE, blocked=True, stream="MANY", show="Subjects")
        assert "has 7 subjects" in page_text(app)
        assert next(box for box in app.selectbox if box.label == "Subjects").options == [">"]
        assert branches(app) == {"many": "7"}
        assert "counted" not in page_text(app)
        app.session_state["_blocked"] = True
        next(button for button in app.button if button.label == "Count them in the stream").click().run()
        assert "Messages in the stream were counted at" in page_text(app)
        assert branches(app) == {"many": "7"}
        assert not app.exception


def test_more_subjects_than_one_reply_has(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More subjects than fit into one reply are counted in the background, once for all viewers with the same
    rights, with a progress bar. Above a second limit, the page says that they cannot be counted."""
    streams, tree = (sys.modules[f"components.nats.{name}"] for name in ("streams", "subject_tree"))
    monkeypatch.setattr(streams, "MOST_COUNTED", 5)
    monkeypatch.setattr(streams, "PAGE", 5)
    release = threading.Event()
    count = streams._count

    def held(*arguments: Any) -> Any:
        """Report some progress, then count once the test allows it."""
        if len(arguments) == 5:
            arguments[4](3, 7)
            assert release.wait(60)
        return count(*arguments)

    monkeypatch.setattr(streams, "_count", held)
    with running_server(tmp_path / "many") as many:
        monkeypatch.setenv("NATS_URL", many.url)
        many.add_stream("MANY", ["many.>"])
        for i in range(7):
            many.publish(f"many.{i}", b'{"x": 1}')
        app, other = (open_page(EXPLORE, blocked=True, stream="MANY", show="Subjects") for _ in range(2))
        for each in (app, other):
            each.session_state["_blocked"] = True
            next(box for box in each.button if box.label == "Count them in the stream").click().run()
        until(lambda: "3 of 7 subjects are counted" in bars(app.run()))
        release.set()
        for each in (app, other):
            until(partial(has_counted, each))
        monkeypatch.setattr(tree, "MOST_ON_REQUEST", 6)
        opened = open_page(EXPLORE, blocked=True, stream="MANY", show="Subjects")
        assert "has 7 subjects, more than 5" in page_text(opened)
        assert "Up to 6 can be counted on request." in page_text(opened)
        assert not [box for box in opened.button if box.label == "Count them in the stream"]


def has_counted(app: AppTest) -> bool:
    """True once a rerun of the page says that the messages of the stream were counted."""
    app.session_state["_blocked"] = True  # live elements arrive with the run
    return "Messages in the stream were counted at" in page_text(app.run())


def bars(app: AppTest) -> str:
    """The texts of the progress bars."""
    return " ".join(element.proto.text for element in app.get("progress"))
