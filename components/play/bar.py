"""The bar under the heading of a page that is played: play, pause, speed, steps, and the moment."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from nats_client import LookbackError, Playback
from nats_client.feeds.playback import PLACES, SPEEDS

from ..choices.clock import set_paused, set_speed
from ..data.playing import playback
from ..push.json_element import JsonSource, Kind
from ..words import zone

COUNT_EVERY = 2.0
"""Seconds between two counts of the messages along the stretch."""
MOST_STEPS = 100
"""The most messages of one step that a browser may request."""
FINE = 120_000_000_000
"""The longest stretch, in ns, whose times have milliseconds."""

_kind = Kind("play_bar")


def play_bar(marks: Sequence[Callable[[], list[int]]]) -> None:
    """Draw the bar if the viewer has a playback. `marks`: as in Reads. The bar is drawn after the page, and
    the style sheet shows it above, so that no other element changes its position when the bar appears or
    disappears."""
    played = playback()
    if played is None:
        return
    set_paused(None if played.playing or played.moment >= played.end else played.moment)
    of = played, zone(), tuple(marks)
    with st.container(key="play-bar"):
        _kind.draw(
            "playback",
            of,
            lambda: _BarSource(played, zone(), marks),
            clicked=_obey,
            speeds=list(SPEEDS),
            start=played.start / 1e6,
            end=played.end / 1e6,
            ends=[_text(played, moment, zone()) for moment in (played.start, played.end)],
        )


def _obey(said: object) -> None:
    """Carry out the viewer's action on the playback. `said` is untrusted."""
    if (played := playback()) is not None:
        _move(played, said)


def _move(played: Playback, said: object) -> None:
    match said:
        case {"do": "play"}:
            played.play()
        case {"do": "pause"}:
            played.pause()
        case {"do": "speed", "value": int(speed)} if speed in SPEEDS and not isinstance(speed, bool):
            played.set_speed(speed)
            set_speed(speed)
        case {"do": "step", "value": int(count)} if 0 < abs(count) <= MOST_STEPS:
            played.step(count)
        case {"do": "jump", "value": float(ms) | int(ms)} if ms == ms:
            played.jump(int(1e6 * min(max(ms, played.start / 1e6), played.end / 1e6)))


def _text(played: Playback, moment: int, zone: str) -> str:
    """A time in `zone`, with the day if the stretch covers several days."""
    first, last, then = (
        pd.Timestamp(each, tz="UTC").tz_convert(zone) for each in (played.start, played.end - 1, moment)
    )
    text = then.strftime("%H:%M:%S" if first.date() == last.date() else "%d %b %H:%M:%S")
    return text if played.end - played.start > FINE else f"{text}.{then.microsecond // 1000:03}"


class _BarSource(JsonSource):
    """`at`: the moment, ms since the epoch, UTC. `time`: the moment as text. `speed`: the chosen speed.
    `playing` and `loading`: true, or missing. `held`: the actual speed as text, if it is lower. `density`:
    how many messages each part of the stretch has. `marks`: the parts in which a condition began to hold."""

    every = 0.1

    def __init__(self, played: Playback, zone: str, marks: Sequence[Callable[[], list[int]]]) -> None:
        super().__init__()
        self._of_marks = marks
        self._marks: list[int] = []
        self._played = played
        self._zone = zone
        self._counted = -math.inf
        self._density: list[int] = []

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Each move."""
        return self._played.watch(changed)

    def look(self) -> Mapping[str, Any]:
        """The current position and marks."""
        played, moment = self._played, self._played.moment
        if time.monotonic() - self._counted >= COUNT_EVERY:
            if self._counted > 0:  # not in the first look, so that the bar appears without delay
                self._marks = self._marked()
            self._counted = time.monotonic()
            # Empty after a jump back, until the page has requested its feeds again
            self._density = played.density() or self._density
        content: dict[str, Any] = {
            "at": moment / 1e6,
            "time": _text(played, moment, self._zone),
            "speed": played.speed,
            "density": self._density,
            "marks": self._marks,
        }
        if played.playing:
            content["playing"] = True
        if played.is_loading:
            content["loading"] = True
        elif (held := played.held_to) is not None:
            content["held"] = f"{held:.2g}" if held < 10 else f"{held:.0f}"
        return content

    def _marked(self) -> list[int]:
        """The numbers of the parts of the stretch with a mark, ascending."""
        played, found = self._played, set()
        for times in [] if played.is_loading else self._of_marks:
            with contextlib.suppress(LookbackError):  # such as a column that the stretch does not have
                found |= {
                    (time - played.start) * PLACES // (played.end - played.start)
                    for time in times()
                    if played.start <= time < played.end
                }
        return sorted(found)
