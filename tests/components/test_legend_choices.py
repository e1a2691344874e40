"""Choices of the legend, as a browser sends them and as an address has them."""

import gc
import math
from typing import Any
from urllib.parse import quote

import pytest

from components.charts.legend import (
    AS_GIVEN,
    LONGEST_TEXT,
    Choices,
    bins_for,
    read_choices,
    shown_values,
    spelled,
    understood,
)
from components.charts.pushed import ChartElement, Varying, place
from components.push.tabs import Tab
from nats_client.series.series_choice import SeriesChoice
from nats_client.series.series_values import Numbers
from tests.components.chart_app.source import LOOK_BACK, view


def test_choices_of_a_browser_are_read() -> None:
    """A valid choice is read as it is; the page's own rule applies where the viewer chose none."""
    said = {"rule": "greatest", "names": ["b", "a", "b"], "value": "mean"}
    assert read_choices(said) == Choices("greatest", frozenset("ab"), "mean")
    assert read_choices({"rule": None, "names": [], "value": None}) == AS_GIVEN
    assert AS_GIVEN.series("newest") == SeriesChoice("newest")
    assert Choices(None, frozenset("a")).series("name") == SeriesChoice("name", frozenset("a"))
    assert Choices("greatest").series("name") == SeriesChoice("greatest")


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"rule": "loudest", "names": [], "value": None},
        {"rule": 1, "names": [], "value": None},
        {"rule": None, "names": ["a"] * 101, "value": None},
        {"rule": None, "names": ["x" * 1001], "value": None},
        {"rule": None, "names": [["a"]], "value": None},
        {"rule": None, "names": "a", "value": None},
        {"rule": None, "names": [], "value": "sum"},
        {"rule": None, "names": [], "value": {}},
    ],
)
def test_anything_else_is_not(said: Any) -> None:
    """A choice that no legend offers is ignored."""
    assert read_choices(said) is None


@pytest.mark.parametrize(
    "choices",
    [
        AS_GIVEN,
        Choices("greatest"),
        Choices(value="mean"),
        Choices("name", frozenset(["", "a~b", "100 %7E", "Köln,~", "a\x1fb", "<b>"]), "newest"),
        Choices("newest", frozenset(str(i) * 10 for i in range(100))),
    ],
)
def test_an_address_has_a_choice(choices: Choices) -> None:
    """A choice survives being written into an address and read again, with any characters in its names."""
    assert understood(spelled(choices)) == choices


def test_an_address_is_bounded() -> None:
    """Names that do not fit into the address, or cannot be encoded in one, are left out."""
    many = Choices("newest", frozenset("é" * (i + 1) for i in range(100)), "mean")
    text = spelled(many, LONGEST_TEXT)
    assert len(quote(text)) <= LONGEST_TEXT
    assert frozenset() < understood(text).names < many.names
    assert understood(text).rule == "newest"
    assert spelled(Choices("newest", frozenset(["\ud800", "a"])), LONGEST_TEXT) == "newest~~a"


@pytest.mark.parametrize(
    "text", ["", "~", "loudest", "greatest~sum", "~" * 500, f"name~~{'x' * 1001}", "a\x00"]
)
def test_other_texts_choose_nothing(text: str) -> None:
    """An invalid choice in an address is ignored."""
    assert understood(text) == AS_GIVEN


def test_values_keep_their_digits() -> None:
    """Integers are sent exactly, other numbers with all digits that a chart shows, and NaN as null."""
    numbers = {"a": Numbers(2.0**53, 0.1, math.nan), "b": Numbers(-0.0, 123456789.123, 1 / 3)}
    assert shown_values(numbers, "newest") == {"a": 2**53, "b": 0}
    assert shown_values(numbers, "greatest") == {"a": 0.1, "b": 123456789.123}
    assert shown_values(numbers, "mean") == {"a": None, "b": 0.333333333333333}


class Viewer:
    """A tab with one chart of 37 series, three of which have their own lines."""

    def __init__(self) -> None:
        self.tab = Tab(None, None)
        self.run()

    def run(self) -> None:
        """Run the page's script."""
        rows = view("folded")
        bins_of = bins_for(rows.feed, ("value",), "_subject", LOOK_BACK, 3)
        with self.tab.drawing():
            self.number = place(
                self.tab, "chart", rows, bins_of, "busiest", {"title": ""}, Varying((), lambda _: {})
            )

    @property
    def element(self) -> ChartElement:
        """The chart's element on the page."""
        element = self.tab.placed[self.number].element
        assert isinstance(element, ChartElement)
        return element

    def say(self, **choices: Any) -> None:
        """Choose in the legend."""
        self.element.receive({"choices": {"rule": None, "names": [], "value": None, **choices}})

    def series(self) -> list[str]:
        """The series with their own lines."""
        self.element.source.update()
        return self.element.source.bins.names[:3]


def test_viewers_with_equal_choices_share_what_is_worked_out() -> None:
    """Each viewer sees their own choice, also after another run of the script. Viewers with the same choice
    of series share its computation, whatever values their legends show. An invalid choice changes nothing."""
    one, two, three = Viewer(), Viewer(), Viewer()
    assert one.element.source is two.element.source is three.element.source
    as_given = one.series()
    for viewer in (one, two):
        viewer.say(rule="greatest", names=["machine-7"])
    three.say(value="mean")
    for _ in range(2):
        assert one.element.source is two.element.source is not three.element.source
        assert one.series() == ["machine-7", "machine-35", "machine-36"]
        assert three.series() == as_given
        for viewer in (one, two, three):
            viewer.run()
    two.say(rule="loudest")
    assert two.series() == one.series()
    two.say()
    assert two.element.source is three.element.source
    assert one.series() == ["machine-7", "machine-35", "machine-36"]


def test_values_are_sent_to_those_who_ask() -> None:
    """Only a viewer whose legend shows means gets them, for all series including the merged ones."""
    one, two = Viewer(), Viewer()
    one.say(value="mean")
    for viewer in (one, two, one):
        viewer.element.source.update()
        viewer.element.next(None)
    one.element.source.update()
    means = one.element.source.settings(one.element.config)["values"]
    assert set(means) == set(one.element.source.bins.names)
    assert "values" not in two.element.source.settings(two.element.config)


def test_the_bins_of_named_series_end_with_their_viewers() -> None:
    """Bins for names that a viewer no longer chooses are freed."""
    rows = view("folded")
    viewer = Viewer()
    for i in range(30):
        viewer.say(names=[f"machine-{i}"])
    gc.collect()
    assert viewer.element.source.bins.choice.names == {"machine-29"}
    sources = [each for each in gc.get_objects() if type(each).__name__ == "ChartSource"]
    assert len([each for each in sources if each.bins.choice.names and each.feed is rows.feed]) == 1
