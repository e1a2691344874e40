"""The legend of a chart with a thousand series in a real Chromium: which series have their own lines, their
order, and what is among the others."""

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.chart_app import CHART, lookback, opened, refreshes
from tests.components.chart_app.source import HOSTILE, SPIKE
from tests.waiting import until

VIEWER = {"viewport": {"width": 1200, "height": 800}}
RULE, VALUE = ".lb-menu select >> nth=0", ".lb-menu select >> nth=1"
SPIKED = "plant.machine-991"
NAMES = "chart.series.map(({ name }) => name)"
SHOWN = "[...chart.legend.keys.children].filter(key => 'series' in key && !key.hidden)"
VALUES = f"{SHOWN}.map(key => [chart.series[key.row].name, key.shows.textContent])"
AT_SPIKE = """(() => {
  const plot = chart.plot, axis = chart.timeAxis(), box = plot.getBoundingClientRect(), finer = chart.finer
  const cells = (finer ? finer.rows.get(chart.others) : chart.series[chart.others].cells)
  const step = finer?.step ?? chart.step, inside = at => at > 40 && at < axis.width - 40
  const seen = [...cells].filter(([bin]) => inside(axis.at(bin * step)))
  const [bin, [, high]] = seen.sort(([, one], [, other]) => other[1] - one[1])[0]
  const [left, top] = [axis.at((bin + 0.5) * step), plot._fullLayout.yaxis.d2p(high) + 3]
  return [box.left + axis.left + left, box.top + axis.top + top]
})()"""


def names(tab: Page) -> set[str]:
    """The series with their own lines."""
    return {name for name in lookback(tab, NAMES) if not name.endswith(" others") or name in HOSTILE}


def point_at_spike(tab: Page, says: str) -> str:
    """Point at the greatest value of the merged series until the tooltip contains `says`; return its text."""
    tip = tab.locator(".lb-pointed-others").first

    def pointed() -> bool:
        x, y = lookback(tab, AT_SPIKE)  # it moves with time
        tab.mouse.move(x - 1, y)
        tab.mouse.move(x, y)
        return tip.is_visible() and says in tip.inner_text()

    until(pointed)
    return tip.inner_text()


@pytest.mark.parametrize("way", ["", "&way=refresh"])
def test_the_viewer_chooses_which_series_have_lines(
    url: str, context: BrowserContext, tab: Page, way: str
) -> None:
    """A choice in the legend applies to one viewer only, and survives a change of page. It also works without
    the websocket."""
    opened(tab, f"{url}/?show=crowd{way}")
    busiest = names(tab)
    assert SPIKED not in busiest
    assert len(busiest) == 20
    tab.locator(RULE).select_option("greatest")
    until(lambda: SPIKED in names(tab))
    assert len(names(tab) & {f"plant.machine-{i}" for i in range(960, 993)}) > 15
    other = context.new_page()
    try:
        opened(other, f"{url}/?show=crowd")
        assert names(other) == busiest
    finally:
        other.close()
    refreshes(tab, 2)
    assert SPIKED in names(tab)
    if not way:
        tab.get_by_role("link", name="Nothing").click()
        expect(tab.get_by_text("Nothing here")).to_be_visible()
        tab.go_back()
        until(lambda: tab.locator(CHART).count() == 1 and SPIKED in names(tab))
        assert tab.locator(RULE).input_value() == "greatest"
    tab.locator(RULE).select_option("busiest")
    until(lambda: names(tab) == busiest)


def test_a_searched_series_gets_a_line(url: str, tab: Page) -> None:
    """The search finds series among the merged ones. A click gives a series its own line, and another click
    removes it. Markup in names is plain text."""
    opened(tab, f"{url}/?show=crowd")
    search = tab.locator(".lb-search")
    search.fill("MACHINE-99")
    among = tab.locator(".lb-among button")
    until(lambda: among.all_inner_texts() == [f"+ plant.machine-{i}" for i in (99, 990, 991, 992)])
    tab.get_by_title(f"Draw {SPIKED} as a line of its own").click()
    until(lambda: SPIKED in names(tab))
    assert len(names(tab)) == 20
    assert SPIKED not in among.all_inner_texts()
    search.fill("")
    tab.get_by_label(f"No longer name {SPIKED}").click()
    until(lambda: SPIKED not in names(tab))
    tab.locator(RULE).select_option("greatest")
    until(lambda: SPIKED in names(tab))
    search.fill("onerror")
    until(lambda: among.all_inner_texts() == [f"+ {HOSTILE[0]}"])
    among.click()
    until(lambda: HOSTILE[0] in names(tab))
    search.fill("__proto__")
    until(lambda: among.all_inner_texts() == ["+ __proto__"])
    search.fill("no such")
    until(lambda: not among.count() and lookback(tab, "!chart.legend.none.hidden"))


def shown(tab: Page) -> list[tuple[str, float]]:
    """The names and values in the legend, in its order."""
    pairs: list[Any] = lookback(tab, VALUES)
    numbers = [(name, text.split(" ")[0].replace(",", "").replace("\u2212", "-")) for name, text in pairs]
    return [(name, float(text)) for name, text in numbers if text not in ("", "\u2013")]


def test_the_legend_has_values_and_stands_still_under_the_pointer(url: str, tab: Page) -> None:
    """The legend shows the chosen value, sorted by it and kept current. While the pointer is on the legend,
    no name moves and the cells keep their places."""
    opened(tab, f"{url}/?show=few")
    expect(tab.locator(RULE)).to_be_hidden()  # hidden, because all series have lines
    tab.locator(VALUE).select_option("mean")
    until(lambda: len(shown(tab)) == 3)
    assert [name for name, _ in shown(tab)][::-1] == sorted(
        [name for name, _ in shown(tab)], key=lambda name: dict(shown(tab))[name]
    )
    tab.locator(VALUE).select_option("newest")
    first = shown(tab)
    until(lambda: len(shown(tab)) == 3 and shown(tab) != first)

    def sorted_now() -> bool:
        values = [value for _, value in shown(tab)]
        return values == sorted(values, reverse=True)

    until(sorted_now)
    tab.locator(".lb-keys button").first.hover()
    order = [name for name, _ in shown(tab)]
    places = lookback(tab, f"{SHOWN}.map(key => key.getBoundingClientRect().left)")
    script = "chart.config.values = {plain: -1e6, third: 12345.678}, chart.legend.showValues()"
    lookback(tab, f"({script}, true)")
    assert [name for name, _ in shown(tab)] == order
    assert lookback(tab, f"{SHOWN}.map(key => key.getBoundingClientRect().left)") == places
    tab.mouse.move(5, 5)
    until(sorted_now)
    tab.locator(VALUE).select_option("")
    until(lambda: [name for name, *_ in lookback(tab, VALUES)][1:] == ["plain", "third"])


def test_pointing_names_what_is_among_the_others(url: str, tab: Page) -> None:
    """Pointing at the band of merged series names the series with the greatest and the least value there,
    also in a zoomed range. Outside the band there is no tooltip."""
    opened(tab, f"{url}/?show=crowd")
    said = point_at_spike(tab, SPIKED)
    assert f"{SPIKE:,.0f}" in said
    assert said.startswith("980 others, 980 with values here")
    tip = tab.locator(".lb-pointed-others").first
    x, y = lookback(tab, AT_SPIKE)
    tab.mouse.move(x + 40, y)  # far above all values at that time
    expect(tip).to_be_hidden()
    now = lookback(tab, "chart.now")
    lookback(tab, f"(chart.zoomInto([{now} - 25000, {now} - 4000]), true)")
    until(lambda: lookback(tab, "chart.finer && chart.finer.rows.has(chart.others)"))
    assert f"{SPIKE:,.0f}" in point_at_spike(tab, SPIKED)
