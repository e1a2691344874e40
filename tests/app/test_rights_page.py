"""A login that is refused or lacks a permission: pages show a sentence with the setting or the subject and
the rest of their content, and no traceback."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
import streamlit as st
from playwright.sync_api import Browser, expect
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox

from tests.app.test_services_page import texts
from tests.certificates import Certificates
from tests.logins import operator
from tests.nats import NatsServer, running_server
from tests.nats_client.test_rights import API, denying
from tests.running import ROOT, app
from tests.service import service
from tests.status_line import status_html
from tests.waiting import until

OWN = '"""A page."""\nimport streamlit as st\nfrom components import live, request, values\n'
ROWS = 'st.metric("rows", len(live("S", look_back="PT1H")))'
PAGES = ROOT / "pages"
EVENT = {"event": "run", "state": "started", "name": "nightly", "n": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with streams S, T and WORKFLOWS, a bucket B, a service, and a user `me` whose permissions
    each test sets."""
    with running_server(tmp_path_factory.mktemp("nats"), denying("publish", "nothing")) as server:
        server.url = server.url.replace("//", "//admin:x@")
        for name in ("S", "T"):
            server.add_stream(name, [f"{name.lower()}.>"])
            server.publish(f"{name.lower()}.a", *[json.dumps({"n": n}).encode() for n in range(5)])
        server.add_stream("WORKFLOWS", ["workflow.>", "workflow-heartbeat.>"])
        server.run(lambda nc: nc.jetstream().create_key_value(bucket="B", history=5))
        server.publish("$KV.B.key", b"1")
        with service(server.url, "workflow-start"):
            yield server


@pytest.fixture
def show(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., AppTest]]:
    """Open a page, from a file or a source, with a login that may do everything except `verb` (publish or
    subscribe) to `subject`."""

    def show(page: str | Path, verb: str, subject: str, **query: str) -> AppTest:
        server.configure(denying(verb, subject))
        time.sleep(0.5)  # until the server has reloaded its configuration
        st.cache_data.clear()
        st.cache_resource.clear()  # open connections have the rights of before
        folder = Path(mkdtemp(dir=tmp_path))
        file = folder / (page.name if isinstance(page, Path) else "page.py")
        file.write_text(page.read_text() if isinstance(page, Path) else page)
        monkeypatch.setattr("components.pages.FOLDER", folder)
        opened = AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30)
        for name, value in query.items():
            opened.query_params[name] = value
        return opened.run()

    for name, value in {"NATS_URL": server.url.replace("admin:x@", ""), "NATS_USER": "me"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NATS_PASSWORD", "x")
    yield show
    st.cache_data.clear()
    st.cache_resource.clear()


def sees(page: AppTest, said: str) -> str:
    """Wait until `said` is on the page; return all of the page's texts. The page must never have a
    traceback."""

    def is_shown() -> bool:
        page.run()
        assert not page.exception
        return said in texts(page)

    if said not in texts(page):
        until(is_shown)
    return texts(page)


@pytest.mark.parametrize(
    ("page", "verb", "subject", "said"),
    [
        (f'{OWN}live("S")', "publish", f"{API}.STREAM.INFO.S", f"'{API}.STREAM.INFO.S'"),
        (f'{OWN}live("S")', "publish", f"{API}.CONSUMER.CREATE.>", f"'{API}.CONSUMER.CREATE.S.*'"),
        (f'{OWN}live("S")', "subscribe", "_INBOX.>", "set 'inbox_prefix' to a prefix that the login permits"),
        (f'{OWN}live(subject="Plain.>")', "subscribe", "Plain.>", "to subscribe to 'Plain.>'"),
        (f'{OWN}values("B")', "publish", f"{API}.CONSUMER.CREATE.>", f"'{API}.CONSUMER.CREATE.KV_B.*"),
        (f'{OWN}request("Pump.Go")', "publish", "Pump.>", "requests to 'Pump.Go'"),
        (PAGES / "overview.py", "publish", f"{API}.STREAM.LIST", f"requests to '{API}.STREAM.LIST'"),
        (PAGES / "explore.py", "publish", f"{API}.STREAM.LIST", "in the setting 'streams'"),
        (PAGES / "explore.py", "publish", f"{API}.STREAM.INFO.S", f"'{API}.STREAM.INFO.S'"),
        (PAGES / "alerts.py", "publish", f"{API}.CONSUMER.CREATE.>", f"'{API}.CONSUMER.CREATE.S.*"),
        (PAGES / "compare.py", "publish", f"{API}.CONSUMER.CREATE.>", f"'{API}.CONSUMER.CREATE.S.*"),
        (PAGES / "values.py", "publish", f"{API}.STREAM.LIST", f"requests to '{API}.STREAM.LIST'"),
        (PAGES / "values.py", "publish", f"{API}.STREAM.INFO.KV_B", f"'{API}.STREAM.INFO.KV_B'"),
        (PAGES / "services.py", "publish", "$SRV.PING", "requests to '$SRV.PING'"),
        (PAGES / "services.py", "subscribe", "_INBOX.>", "to subscribe to '_INBOX.>'"),
        (
            PAGES / "workflows.py",
            "publish",
            f"{API}.STREAM.INFO.WORKFLOWS",
            f"'{API}.STREAM.INFO.WORKFLOWS'",
        ),
    ],
)
def test_denied_is_shown(
    show: Callable[..., AppTest], page: str | Path, verb: str, subject: str, said: str
) -> None:
    """A page that lacks a permission names what is not permitted, and does not keep waiting."""
    shown = sees(show(page, verb, subject), said)
    assert "is not permitted" in shown
    assert "Waiting for" not in shown


def test_the_rest_of_a_page_works(show: Callable[..., AppTest]) -> None:
    """If a permission is missing for only a part of a page, the rest of the page works."""
    page = show(PAGES / "overview.py", "publish", f"{API}.STREAM.MSG.GET.S")
    assert f"requests to '{API}.STREAM.MSG.GET.S'" in sees(page, "Cannot read a newest message.")
    assert "T" in page.dataframe[1].value["stream"].tolist()
    page = show(PAGES / "values.py", "publish", f"{API}.STREAM.MSG.GET.>")
    assert f"'{API}.STREAM.MSG.GET.KV_B'" in sees(page, "Cannot read the history.")
    assert page.dataframe[0].value["value"].tolist() == ["1"]
    page = show(PAGES / "workflows.py", "publish", "$SRV.>")
    assert "'$SRV.PING'" in sees(page, "Cannot find out which workflows can be started.")
    assert "No matching run within the look-back." in texts(page)
    source = (
        f'{OWN}limits = values("B", optional=True)\nst.metric("rows", len(live("S", look_back="PT1H")))\n'
    )
    page = show(f'{source}st.text(limits.get("key", "none"))', "publish", f"{API}.STREAM.INFO.KV_B")
    sees(page, "Cannot read the bucket 'B'. The login is not permitted to send requests to")
    sees(page, f"'{API}.STREAM.INFO.KV_B'")
    assert page.metric[0].value == "5"
    assert page.text[0].value == "none"


@pytest.mark.parametrize("page", ["explore", "alerts", "compare", "values"])
def test_what_cannot_be_listed_can_be_typed(show: Callable[..., AppTest], page: str) -> None:
    """If the login may not list streams or buckets, a viewer can type a name, and it is read."""
    source, denied = PAGES / f"{page}.py", f"{API}.STREAM.LIST"
    shown = show(source, "publish", denied)
    sees(shown, "Type the name of one.")

    def first() -> Selectbox[str]:
        return next(box for box in shown.selectbox if box.label != "Time zone")

    box = first()
    assert (list(box.options), box.value) == ([], None)
    assert "has no" not in texts(shown)
    name, said = ("B", "1 key</b> in B") if page == "values" else ("S", "5</b> rows")
    shown = show(source, "publish", denied, **{box.label.lower(): name, "last": "PT1H"})
    until(lambda: said in status_html(shown.run()))
    assert first().value == name
    assert not shown.error, texts(shown)


def test_query_and_request_by_hand(show: Callable[..., AppTest]) -> None:
    """If a query or a request that a viewer starts is not permitted, the page says so in place of the
    result."""
    page = show(PAGES / "history.py", "publish", "history.>")
    next(button for button in page.button if button.label == "Run").click().run()
    sees(page, "to publish to 'history.query'")
    page = show(PAGES / "services.py", "publish", "workflow-start.>")
    next(box for box in page.text_input if box.label == "Subject").set_value("workflow-start.count")
    next(button for button in page.button if button.label == "Send").click().run()
    sees(page, "requests to 'workflow-start.count'")
    page = show(PAGES / "workflows.py", "publish", "workflow-start.>")
    until(lambda: any(each.key == "workflow-start.count" for each in page.run().button))
    page.button(key="workflow-start.count").click().run()
    sees(page, "requests to 'workflow-start.count'")


def test_replay_without_flow_control(show: Callable[..., AppTest], server: NatsServer) -> None:
    """A replay without permission for flow control is reported as slow, with the subject, while its rows
    arrive."""
    text = "x" * 10_000
    server.publish("t.large", *[json.dumps({"n": n, "text": text}).encode() for n in range(400)])
    page = show(f'{OWN}st.metric("rows", len(live("T", "t.large", look_back="PT1H")))', "publish", "$JS.FC.>")
    sees(
        page,
        "slow replay, about a megabyte a second, because flow control is not permitted. The login",
    )
    assert "'$JS.FC.T.>'" in texts(page)
    until(lambda: page.run().metric[0].value == "400")


def test_mistakes_on_the_way_in(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults of certificates and credentials are sentences above the page. Once they are corrected, the page
    becomes live without a restart."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "page.py").write_text(f'{OWN}st.metric("rows", len(live("S")))')
    monkeypatch.setattr("components.pages.FOLDER", tmp_path / "pages")
    login, creds = operator(tmp_path), tmp_path / "late.creds"
    with running_server(tmp_path / "nats", f"{login.config}\n{certificates.tls('expired')}") as server:
        monkeypatch.setenv("NATS_URL", server.url)
        monkeypatch.setenv("NATS_CA", certificates.path("ca.pem"))
        monkeypatch.setenv("NATS_CREDS", str(creds))
        page = AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30).run()
        sees(page, f"credentials: there is no file {str(creds)!r}.")
        creds.write_text("nothing of the kind")
        sees(page, "is not a credentials file.")
        login.write(int(time.time()) - 60, creds.name)
        sees(page, "has expired by this machine's clock")
        server.configure(f"{login.config}\n{certificates.tls()}")
        sees(page, "has expired (setting: credentials): its user JWT expired at")
        login.write(None, creds.name)
        sees(page, "There is no stream 'S' in this account.")
        assert not [
            secret for secret in (login.user.seed, *creds.read_text().split()[4:5]) if secret in texts(page)
        ]
    st.cache_data.clear()
    st.cache_resource.clear()


def test_in_a_browser(tmp_path: Path, server: NatsServer, browser: Browser) -> None:
    """A permission revoked from a running app is reported on its page within a refresh or two; once it is
    granted again, the report disappears."""
    server.configure(denying("publish", "nothing"))
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "page.py").write_text(f"{OWN}{ROWS}")
    settings = {"NATS_URL": server.url.replace("admin:x@", ""), "NATS_USER": "me", "NATS_PASSWORD": "x"}
    with app(tmp_path, **settings, LOOKBACK_PAGES=str(tmp_path / "shown")) as running:
        tab = browser.new_page()
        tab.goto(running.url)
        expect(tab.locator(".lb-word")).to_have_text("Live", timeout=30_000)
        server.configure(denying("publish", f"{API}.STREAM.INFO.S"))
        alert = tab.get_by_test_id("stAlert")
        expect(alert).to_contain_text(f"requests to '{API}.STREAM.INFO.S'", timeout=30_000)
        expect(alert).to_contain_text("The page keeps showing the last data.")
        expect(tab.get_by_test_id("stMetricValue")).to_have_text("5")
        server.configure(denying("publish", "nothing"))
        expect(tab.locator(".lb-word")).to_have_text("Live", timeout=30_000)
        expect(alert).to_have_count(0)
        tab.close()
        assert "Traceback" not in running.log.read_text()
