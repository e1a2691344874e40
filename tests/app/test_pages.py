"""Pages in Streamlit's AppTest, against a real nats-server."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from components.pages import page_files
from tests.nats import NatsServer, running_server
from tests.status_line import status_html

Open = Callable[..., AppTest]

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with a stream METRICS like the demo's, and an empty stream QUIET."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("METRICS", ["metrics.>"])
        server.add_stream("QUIET", ["quiet.>"])
        for core in range(2):
            for i in range(50):
                payload = json.dumps({"percent": i + core, "host": "test"}).encode()
                server.publish(f"metrics.cpu.core-{core}", payload)
        server.publish("metrics.cpu.core-0", b"{not json")
        time.sleep(1)  # means only use full seconds
        yield server


def texts(app: AppTest) -> str:
    """The errors, warnings and infos of the page, without Markdown's backslashes."""
    boxes = [*app.error, *app.warning, *app.info]
    return re.sub(r"\\(.)", r"\1", "\n".join(box.value for box in boxes))


def test_readme_page_runs(open_page: Open) -> None:
    """The page in the README equals a file, and that file runs."""
    page = ROOT / "tests" / "app" / "pages" / "cpu.py"
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert page.read_text() in blocks
    app = open_page(page)
    assert not app.exception
    live = [json.loads(each.proto.json) for each in app.get("bidi_component") if "live" in each.proto.json]
    assert len(live) == 3  # the number, the chart and the status line
    assert not app.get("component_instance")  # no refresh timer
    assert app.title[0].value == "CPU by core"


def test_page_that_stops(open_page: Open) -> None:
    """st.stop() ends the page; the status line is still drawn, and the refresh timer continues."""
    app = open_page(
        '"""Stops."""\nimport streamlit as st\n\nst.info("so far")\nst.stop()\nst.error("further")'
    )
    assert texts(app) == "so far"
    assert "Live" in status_html(app)
    assert app.get("component_instance")


def test_readme_script_runs(server: NatsServer) -> None:
    """The script in the README runs unchanged except for the server's URL."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = next(block for block in blocks if "Client(" in block)
    exec(script.replace("nats://127.0.0.1:4222", server.url), {})


def test_explore_page(open_page: Open) -> None:
    """The page "Explore" draws the first stream and counts malformed messages."""
    app = open_page(ROOT / "pages" / "explore.py")
    assert not app.exception
    assert not app.error, texts(app)
    labels = [
        "Time zone",
        "Stream",
        "Subjects",
        "Payloads",
        "Source",
        "Time",
        "Chart",
        "Field",
        "By",
        "Calculate",
        "Panels",
        "Axis",
        "Line",
    ]
    assert [box.label for box in app.selectbox] == labels
    assert "1 malformed message left out" in texts(app)
    assert "Live" in status_html(app)


def test_explore_page_from_link(open_page: Open) -> None:
    """A link opens the same view, also with a custom subject filter."""
    app = open_page(ROOT / "pages" / "explore.py", stream="METRICS", subjects="metrics.*.core-1")
    assert app.selectbox(key="subjects").value == "metrics.*.core-1"
    assert "<b>50</b> rows" in status_html(app)


def test_compare_page(open_page: Open) -> None:
    """The page compares by a named token, and its table has the means of the current period so far."""
    app = open_page(ROOT / "pages" / "compare.py", subjects="metrics.cpu.{the__core}", period="week")
    assert not app.exception
    assert not app.error, texts(app)
    labels = ["Time zone", "Stream", "Subjects", "Period", "Earlier periods", "Field", "Dimension"]
    assert [box.label for box in app.selectbox] == labels
    assert app.selectbox(key="dimension").options == ["the__core", "host", "_subject"]
    table = app.dataframe[0].value
    assert table["_series"].tolist() == ["core-0", "core-1"]
    assert table["current"].tolist() == [24.5, 25.5]
    assert table["before"].isna().all()


def test_compare_page_from_link(open_page: Open) -> None:
    """A link opens the comparison of a custom period, by a field of the payload; an invalid period is
    reported."""
    query = {"period": "PT15M", "earlier-periods": "3", "dimension": "host"}
    app = open_page(ROOT / "pages" / "compare.py", **query)
    assert not app.error, texts(app)
    assert "rows in 1 hour<" in status_html(app)
    assert app.dataframe[0].value["_series"].tolist() == ["test"]
    app = open_page(ROOT / "pages" / "compare.py", period="PT1X")
    assert "The period 'PT1X' is not a duration." in texts(app)


def test_link_to_a_stream_that_is_gone(open_page: Open) -> None:
    """A link that names a missing stream opens the page with that name, and says that the stream does not
    exist. An invalid stream name is reported as invalid."""
    app = open_page(ROOT / "pages" / "explore.py", stream="GONE")
    assert not app.exception
    assert app.selectbox(key="stream").value == "GONE"
    assert "There is no stream 'GONE' in this account. The streams are 'METRICS', 'QUIET'." in texts(app)
    for page in ("explore", "alerts", "compare"):
        app = open_page(ROOT / "pages" / f"{page}.py", stream="a.b")
        assert "'a.b' is not a valid stream name" in texts(app)
        assert not app.exception


def test_overview_of_a_real_server(open_page: Open) -> None:
    """On a server that is not the demo, the overview lists the streams and their newest messages."""
    app = open_page(ROOT / "pages" / "overview.py")
    assert not app.exception
    assert app.metric[0].value == "2"
    assert list(app.dataframe[0].value.index) == ["METRICS", "QUIET"]
    assert "{not json" in app.dataframe[1].value["payload"].tolist()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('live("METRICS", look_back="5")', "The look-back '5' is not a duration."),
        ('live("METRIC")', "Did you mean 'METRICS'?"),
        ('live("METRICS", "metrics..x")', "The subject 'metrics..x' is not valid"),
        ('live("METRICS").latest("percnt")', "Did you mean 'percent'?"),
        ('line_chart(live("METRICS", "metrics.>"), y="host")', "holds texts, not numbers"),
        ('live("METRICS", decoder="xml")', "There is no decoder 'xml'."),
        ('live("METRICS", "metrics.{}")', "The subject 'metrics.{}' has empty braces."),
        (
            'compare(live("METRICS"), "percent")',
            "The look-back PT5M is too short for 2 periods of PT1H: the first one starts up to 2 hours "
            'before now. Use look_back="PT2H".',
        ),
        ('compare(live("METRICS", look_back="PT2H"), "percnt")', "Did you mean 'percent'?"),
        ('compare(live("METRICS"), "percent", "hour")', "The period 'hour' is not a duration."),
        (
            'line_chart(live("METRICS"), "percent", most=0)',
            "most=0 is not valid. A chart draws 1 to 100 series.",
        ),
        ("1 / 0", "This page failed: there is an error in page.py."),
        ("oh no", "This page failed: there is an error in page.py."),
        ('live("QUIET")', "No messages in the last 5 minutes (stream QUIET)."),
    ],
)
def test_mistakes_are_told(open_page: Open, source: str, said: str) -> None:
    """A page with a mistake gets a message that says what is valid, and no traceback."""
    app = open_page(f'"""A page."""\nfrom components import compare, line_chart, live\n{source}\n')
    assert said in texts(app)
    assert not app.exception


def test_names_are_no_markup(open_page: Open, server: NatsServer) -> None:
    """Markup in subjects and payloads is not passed on as markup."""
    server.add_stream("MARKUP", ["markup.>"])
    subject = "markup.<img/src=x/onerror=alert(1)>"
    server.publish(subject, b"**bold** ![x](http://example.com/x.png)")
    app = open_page('"""A page."""\nfrom components import live\nlive("MARKUP")\n')
    assert "![x](http" not in "".join(box.value for box in [*app.warning, *app.error])
    assert "<img" not in status_html(app)


def test_unknown_server_is_told(tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be reached is named, without the password, and the page stays up."""
    monkeypatch.setenv("NATS_URL", "nats://me:secret-word@127.0.0.1:9")
    app = open_page('"""A page."""\nfrom components import live\nlive("METRICS")\n')
    assert "Cannot reach the NATS server at nats://127.0.0.1:9" in texts(app)
    assert "secret-word" not in str(app)
    assert not app.exception


def test_wrong_setting_is_told(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting with an invalid value is named."""
    monkeypatch.setenv("NATS_CREDS", "/nowhere/me.creds")
    app = open_page('"""A page."""\nfrom components import live\nlive("METRICS")\n')
    assert "credentials: there is no file '/nowhere/me.creds'" in texts(app)


def test_paused(open_page: Open) -> None:
    """A paused page says so, and has no refresh timer."""
    app = open_page('"""A page."""\nfrom components import live\nlive("METRICS")\n', refresh="Paused")
    assert "Paused" in status_html(app)
    assert not app.get("component_instance")


def test_empty_feed_beside_another(open_page: Open) -> None:
    """A feed without rows does not end a page that can show another; its own elements say that there are no
    messages."""
    app = open_page(
        """\"\"\"A page.\"\"\"
import streamlit as st
from components import latest_values, line_chart, live, newest_rows

quiet, busy = live("QUIET"), live("METRICS", "metrics.cpu.*")
st.metric("Sum", f"{quiet.latest('x').sum():.0f} {quiet.frame()['y'].count()}")
line_chart(quiet, y="x")
newest_rows(quiet)
latest_values(busy, "percent")
"""
    )
    assert app.metric[0].value == "0 0"
    assert texts(app).count("No messages in the last 5 minutes (stream QUIET).") == 2
    (table,) = [each.proto.json for each in app.get("bidi_component") if '"columns"' in each.proto.json]
    assert json.loads(table)["columns"] == ["Subject", "percent"]
    assert not app.error
    assert "Live" in status_html(app)


def test_page_that_cannot_do_without_rows(open_page: Open) -> None:
    """Code that fails because there are no rows is not reported as an error: the page says that there are
    none."""
    app = open_page('"""A page."""\nfrom components import live\nlive("QUIET").latest("x").iloc[0]\n')
    assert "No messages in the last 5 minutes (stream QUIET)." in texts(app)
    assert not app.error


def test_unknown_column_of_an_empty_feed_is_in_the_log(
    open_page: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown column of an empty feed is no error on the page, because the first message may bring it; the
    log names the page."""
    app = open_page('"""A page."""\nfrom components import live\nlive("QUIET").snapshot.numbers("nope")\n')
    assert not app.error
    assert "The page page.py failed" in caplog.text


def test_mistakes_go_to_the_log(open_page: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The text of an exception in a page is only in the log, under the reference that the viewer sees. It is
    logged once however often the page is drawn."""
    app = open_page('"""A page."""\nraise RuntimeError("postgres://me:secret-word@db")\n')
    for _ in range(3):
        app.run()
    assert "secret-word" not in texts(app)
    reference = re.search(r"in the app's log as (\w+)", texts(app))
    assert reference
    written = [record for record in caplog.records if reference[1] in record.getMessage()]
    assert len(written) == 1
    assert "secret-word" in caplog.text


@pytest.mark.parametrize(
    "where", ["st", "st.sidebar", "st.container()", "st.columns(2)[0]", "st.tabs(['a'])[0]"]
)
def test_no_figure_with_code_of_text(open_page: Open, where: str) -> None:
    """A figure whose WebGL code is forbidden by the content security policy is drawn as SVG, anywhere on the
    page."""
    figure = "{'data': [{'type': 'scattergl', 'x': [1], 'y': [1]}]}"
    app = open_page(f'"""A page."""\nimport streamlit as st\n{where}.plotly_chart({figure})\n')
    assert not app.error
    assert "scattergl" not in app.get("plotly_chart")[0].proto.spec


def test_pages_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own pages are listed before the built-in ones. An own page replaces the built-in page of the same name,
    and an empty file hides it."""
    (tmp_path / "mine.py").write_text('"""Mine."""')
    (tmp_path / "explore.py").write_text('"""My own Explore."""')
    (tmp_path / "comparison.py").touch()
    monkeypatch.setattr("components.pages.FOLDER", tmp_path)
    monkeypatch.setattr("components.pages._listing", (tmp_path, 0.0, {}))
    files = page_files()
    assert files[:3] == [tmp_path / "explore.py", tmp_path / "mine.py", ROOT / "pages" / "overview.py"]
    assert ROOT / "pages" / "history.py" in files
    assert not {"comparison.py"} & {file.name for file in files}
    assert ROOT / "pages" / "explore.py" not in files
