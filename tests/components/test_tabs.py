"""The elements on the page of one tab."""

from collections.abc import Callable
from typing import Any

import pytest

from components.push.source import Element
from components.push.tabs import MOST_ELEMENTS, Placed, Tab
from nats_client import LookbackError


class Nothing(Element):
    """An element that has nothing to say."""

    def __init__(self) -> None:
        pass

    def next(self, held: Any) -> None:
        """Nothing."""


def fill(tab: Tab, page: str, count: int) -> list[Placed]:
    """Draw a page with this many elements."""
    with tab.drawing():
        return [tab.place(f"{page} {number}", Nothing) for number in range(count)]


def test_a_page_has_so_many_elements_and_no_more() -> None:
    """A page of the greatest size can follow another one; one more is refused with a sentence, and the
    elements before it stay."""
    tab = Tab(None, None)
    for page in ("first", "second", "first"):
        assert len(fill(tab, page, MOST_ELEMENTS)) == len(tab.placed) == MOST_ELEMENTS
    with pytest.raises(LookbackError, match="at most 200 live elements"):
        fill(tab, "third", MOST_ELEMENTS + 1)
    fill(tab, "third", 1)
    assert len(tab.placed) == 1


def test_elements_keep_their_numbers() -> None:
    """An element that comes back has the number that it had, and what the browser held of it is forgotten."""
    tab = Tab(None, None)
    first, second = fill(tab, "page", 2)
    first.states.append((1, "held"))
    with tab.drawing():
        tab.place("page 1", Nothing)
    assert list(tab.placed) == [second.number]
    again, _ = fill(tab, "page", 2)
    assert (again.number, again.held) == (first.number, None)


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_breaks_off_takes_nothing_away(fails: bool) -> None:
    """What a broken run did not come to stays; what it placed is told to the tab's websocket."""
    tab = Tab(None, None)
    fill(tab, "page", 3)
    told: list[int] = []
    tab.channel = Told(lambda: told.append(len(tab.placed)))
    try:
        with tab.drawing():
            tab.place("page 0", Nothing)
            tab.place("new", Nothing)
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert told == [4 if fails else 2]


class Told:
    """A tab's websocket that notes that it was told."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
