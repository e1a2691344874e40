"""The settings in force, as the page Inside shows them."""

from collections.abc import Callable

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from components.inside import page as inside_page
from nats_client.connection.settings import ENVIRONMENT
from nats_client.environment import SETTINGS
from tests.nats import NatsServer
from tests.running import ROOT

SECRETS = {
    "LOOKBACK_METRICS_TOKEN": "secret-token",
    "LOOKBACK_HISTORY_DSN": "postgresql://archiver:secret-password@db.example/archive",
    "LOOKBACK_HISTORY_READER_DSN": "host=db.example user=reader password=secret-password",
}


def test_it_shows_the_settings_in_force(
    server: NatsServer, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting of NATS and of the app is shown with its unit, as set or by default; a secret is shown
    only as set. Settings of programs that the app did not start are left out, because their values are not
    known."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOOKBACK_FEED_MEMORY", "64 MiB")
    monkeypatch.setenv("LOOKBACK_SIGN_IN_TABS", "1000")
    page = open_page(ROOT / "pages" / "inside.py")
    assert not page.exception
    (table,) = [each.value for each in page.dataframe if "Setting" in each.value]
    assert isinstance(table, pd.DataFrame)
    shown = dict(zip(table["Setting"], table["Value"], strict=True))
    assert set(shown) == {*ENVIRONMENT.values(), *(each.variable for each in SETTINGS if each.whose == "app")}
    assert shown["url"] == server.url
    assert (shown["feed_memory"], shown["feed_rows"], shown["idle_after"]) == (
        "64 MiB",
        "2,500,000 rows",
        "600 seconds",
    )
    assert (shown["LOOKBACK_SQL_MEMORY"], shown["LOOKBACK_SIGN_IN_TABS"]) == ("512 MiB", "1,000 tabs")
    assert shown["LOOKBACK_METRICS_TOKEN"] == "set, not shown"
    assert "secret" not in table.to_csv()


def test_it_shows_those_of_the_programs_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded server, the settings of the server and of the history service are shown too, without
    any DSN."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    by_default = {name: value for name, value, _ in inside_page._of_the_environment()}
    assert list(by_default) == [each.variable for each in SETTINGS]
    assert by_default["LOOKBACK_HISTORY_READER_DSN"] == "LOOKBACK_HISTORY_DSN"
    assert by_default["LOOKBACK_SERVER_DISK"] == "4 GiB"
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    shown = {name: value for name, value, _ in inside_page._of_the_environment()}
    assert {shown[name] for name in SECRETS} == {"set, not shown"}
