"""Slow pages: in the log, on Inside, in "What happened" and in the metrics, for users who may open them.

Slow, because the whole app starts behind a sign-in, and people sign in to slow pages.
"""

import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from prometheus_client.parser import text_string_to_metric_families

from tests.stage import Stage, running_stage
from tests.waiting import until

TOKEN = "for-the-scraper"


@pytest.fixture(scope="module")
def whole_stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The app behind a sign-in, with a limit that every run of a page exceeds."""
    settings = {"LOOKBACK_SLOW_PAGE": "0.0001", "LOOKBACK_METRICS_TOKEN": TOKEN}
    with running_stage(browser, tmp_path_factory.mktemp("stage"), **settings) as stage:
        yield stage


def runs(stage: Stage) -> dict[str, float]:
    """By page: the number of its runs in the metrics."""
    request = urllib.request.Request(
        f"{stage.url}/lookback/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.labels["page"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "lookback_page_run_seconds_count"
    }


def test_slow_pages_are_named_to_whom_may_open_them(stage: Stage) -> None:
    """A slow page is logged once and counted at each run. Inside lists the slow pages that the user's role
    may open, and "What happened" names the page they are on; no other page is named."""
    operator = stage.person("olga", "operators", page="/services")
    operator.sees("Role: operator")
    until(lambda: runs(stage).get("services", 0) >= 3)
    lines = [line for line in stage.app.log.read_text().splitlines() if "page services: slow (" in line]
    assert len(lines) == 1
    assert " WARNING " in lines[0]
    insider = stage.person("ina", "insiders", page="/inside")
    insider.sees("Role: insider")
    insider.gets("Page inside")
    insider.tab.get_by_test_id("stPopover").get_by_text("What happened").click()
    expect(insider.tab.locator(".lb-log").nth(1)).to_contain_text("in the page's own code")
    before = runs(stage)["inside"]
    until(lambda: runs(stage)["inside"] >= before + 3)
    assert not insider.has("Page services")
    operator.go("/inside")
    operator.gets("Page services")
    assert not insider.has("Page services")
