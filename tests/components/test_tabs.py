"""The elements on a tab's page."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.websockets import WebSocket

from components.push import channel
from components.push.source import Element
from components.push.tabs import MOST_ELEMENTS, Placed, Tab
from nats_client import LookbackError


class Nothing(Element):
    """An element without content."""

    def __init__(self) -> None:
        pass

    def next(self, held: Any) -> None:
        """Do nothing."""


def fill(tab: Tab, page: str, count: int) -> list[Placed]:
    """Draw a page with `count` elements."""
    with tab.drawing():
        return [tab.place(f"{page} {number}", Nothing) for number in range(count)]


def test_a_page_has_so_many_elements_and_no_more() -> None:
    """A page may have MOST_ELEMENTS elements, also after another page of that size. One more is refused in a
    sentence, and the tab works on."""
    tab = Tab(None, None)
    for page in ("first", "second", "first"):
        assert len(fill(tab, page, MOST_ELEMENTS)) == len(tab.placed) == MOST_ELEMENTS
    with pytest.raises(LookbackError, match="at most 200 live elements"):
        fill(tab, "third", MOST_ELEMENTS + 1)
    fill(tab, "third", 1)
    assert len(tab.placed) == 1


def test_tabs_of_a_sign_in_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting limits the tabs of each sign-in separately; without sign-in there is no limit."""

    async def silent(*_: Any) -> Any:
        """Neither send nor receive."""

    async def main() -> None:
        socket = WebSocket({"type": "websocket"}, silent, silent)
        opened = {channel.Channel(socket, Tab(who, None), {"shown": {}}) for who in ("ada", "ada", None)}
        monkeypatch.setattr(channel, "_open", opened)
        assert not channel.has_too_many("ada")
        monkeypatch.setenv("LOOKBACK_SIGN_IN_TABS", "2")
        assert [channel.has_too_many(who) for who in ("ada", "bob", None)] == [True, False, False]

    asyncio.run(main())


def test_elements_keep_their_numbers() -> None:
    """An element that returns has the same number as before, and the tab no longer assumes that the browser
    holds its content."""
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
    """Elements that a broken run did not reach stay on the page; the elements it placed are announced to the
    tab's websocket."""
    tab = Tab(None, None)
    fill(tab, "page", 3)
    counts: list[int] = []
    tab.channel = Notified(lambda: counts.append(len(tab.placed)))
    try:
        with tab.drawing():
            tab.place("page 0", Nothing)
            tab.place("new", Nothing)
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert counts == [4 if fails else 2]


@pytest.mark.parametrize("breaks_off", [True, False])
def test_two_runs_of_one_tab(breaks_off: bool) -> None:
    """Streamlit may start a run while the one before is still in its page's code. However and whenever the
    older run ends, the tab has exactly the elements of the newer one."""
    for ends_after in range(4):
        tab = Tab(None, None)
        fill(tab, "before", 2)
        older, drawn = Older(tab, breaks_off), []
        with tab.drawing():
            for number in range(4):
                drawn.append(tab.place(f"page {number}", Nothing))
                if number == ends_after:
                    older.end()
        assert {placed.number: placed for placed in drawn} == tab.placed


@pytest.mark.parametrize("breaks_off", [True, False])
def test_the_older_run_ends_last(breaks_off: bool) -> None:
    """The same holds if the older run ends only after the newer one has drawn the whole page."""
    tab = Tab(None, None)
    older = Older(tab, breaks_off)
    drawn = fill(tab, "page", 4)
    older.end()
    assert {placed.number: placed for placed in drawn} == tab.placed


def test_two_runs_place_new_elements_at_once() -> None:
    """Two concurrent runs get the same number for the same element, and each element is created once."""
    tab = Tab(None, None)
    together = threading.Barrier(2)

    def draw() -> list[Placed]:
        with tab.drawing():
            together.wait(30)
            return [tab.place(f"page {number}", Nothing) for number in range(MOST_ELEMENTS)]

    with often_interrupted(), ThreadPoolExecutor(2) as runs:
        one, other = (run.result() for run in [runs.submit(draw), runs.submit(draw)])
    assert one == other
    assert len({placed.number for placed in one}) == MOST_ELEMENTS


@contextlib.contextmanager
def often_interrupted() -> Iterator[None]:
    """Make Python switch threads thousands of times as often within the block."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Older:
    """A run that is within its page's code until end() is called."""

    def __init__(self, tab: Tab, breaks_off: bool) -> None:
        begun, self._may_end = threading.Event(), threading.Event()
        self._runs = ThreadPoolExecutor(1)

        def draw() -> None:
            with contextlib.suppress(ValueError), tab.drawing():
                tab.place("page 0", Nothing)
                tab.place("of the older run", Nothing)
                begun.set()
                assert self._may_end.wait(30)
                if breaks_off:
                    raise ValueError

        self._run = self._runs.submit(draw)
        assert begun.wait(30)

    def end(self) -> None:
        """End the run, and wait for it."""
        self._may_end.set()
        self._run.result(30)
        self._runs.shutdown()


class Notified:
    """A tab's websocket that passes on each notification."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
