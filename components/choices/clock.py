"""The clock above every page: the time for which the page reads its data.

Live, the page reads from now backwards, as far as its own code says, unless the viewer chose a length. Or it
reads a stretch in the past, and shows everything as of the stretch's end. Each viewer has one clock for all
pages. It is in the URL: `?last=PT1H`, or `?from=2026-11-29T14:00:00Z&to=2026-11-29T14:20:00Z`. With
`&play=10` the stretch is played at ten times its speed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import pandas as pd
import streamlit as st

from nats_client import Duration, LookbackError, format_duration, iso_duration, parse_duration
from nats_client.duration import LONGEST
from nats_client.feeds.playback import SPEEDS

from ..words import cut, plain, zone
from .address import keep_lasting
from .time_zone import begin_zone, choose_zone, offset_text, zone_label

LENGTHS = {
    "Last 5 minutes": "PT5M",
    "Last 15 minutes": "PT15M",
    "Last hour": "PT1H",
    "Last 6 hours": "PT6H",
    "Last 24 hours": "PT24H",
}
"""The lengths that are offered."""
DAYS = ("Today", "Yesterday", "This week")
"""The stretches that are offered, in the viewer's zone; a day or week that is not over ends now."""
OWN = "As the page says"
"""The choice of no length."""
LAST, FROM, TO, PLAY, AT = "last", "from", "to", "play", "at"
"""The URL parameters: a length, ISO 8601; the start and end, UTC; the speed of the playback, as a multiple of
real time; and the time, UTC, at which the playback is paused."""
EXACT = pd.Timedelta(seconds=2)
"""Length of a stretch below which its times have milliseconds."""
SLOWEST = SPEEDS[0]
"""The speed with which a playback begins."""
_CLOCK, _WRONG = "_clock", "_clock_wrong"
_LENGTH, _WRITTEN, _FROM, _TO = "_clock_length", "_clock_written", "_clock_from", "_clock_to"
_TIMES = "_clock_times"
"""How often the clock was set."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?")
_LONGEST_SHOWN = 40


@dataclass(frozen=True)
class Clock:
    """The time range that a page reads."""

    length: pd.Timedelta | None = None
    """How far back the page reads; None if each read of the page has its own look-back."""
    end: int | None = None
    """The end, ns since the epoch, UTC; None for now."""
    play: int | None = None
    """The speed of the playback, as a multiple of real time; None without a playback. A playback shows the
    page as it was live, so each read has its own look-back."""
    at: int | None = field(default=None, compare=False)
    """The time at which the playback is paused, ns since the epoch, UTC; None while it plays. Not compared,
    because the frame need not run again when it changes."""

    def reach(self, own: Duration) -> pd.Timedelta:
        """The look-back of a read whose own look-back is `own`. Raises DurationError."""
        length = parse_duration(own)
        given = self.length if self.play is None and not isinstance(own, Fixed) else None
        return length if given is None else given

    @property
    def end_time(self) -> pd.Timestamp | None:
        """`end` as a time in UTC."""
        return None if self.end is None else pd.Timestamp(self.end, tz="UTC")

    @property
    def words(self) -> str:
        """The time range in words, in the viewer's zone: "Live, last 15 minutes", "29 Nov 14:00 to 14:20"."""
        if self.end_time is None:
            return "Live" if self.length is None else f"Live, {_in_words(self.length).lower()}"
        end = self.end_time.tz_convert(zone())
        this_year = pd.Timestamp.now(zone()).year
        if self.length is None:
            offset = f" {offset_text(end)}" if _comes_twice(end) else ""
            return f"Until {_day(end, this_year)} {_time(end)}{offset}"
        start = end - self.length
        exact = self.length < EXACT
        day = "" if start.date() == end.date() else f"{_day(end, this_year)} "
        # Around a clock change, the times alone are ambiguous.
        changes = start.utcoffset() != end.utcoffset()
        since, until = (
            _time(time, exact=exact) + (f" {offset_text(time)}" if changes or _comes_twice(time) else "")
            for time in (start, end)
        )
        return f"{_day(start, this_year)} {since} to {day}{until}"

    @property
    def address(self) -> dict[str, str | None]:
        """The parameters of the URL."""
        found: dict[str, str | None] = {LAST: None, FROM: None, TO: None, PLAY: None, AT: None}
        if self.play is not None:
            found[PLAY] = str(self.play)
            found[AT] = None if self.at is None else _iso(pd.Timestamp(self.at, tz="UTC"))
        if self.end_time is not None:
            found[TO] = _iso(self.end_time)
            if self.length is not None:
                found[FROM] = _iso(self.end_time - self.length)
        elif self.length is not None:
            found[LAST] = iso_duration(self.length)
        return found

    def moved(self, by: float) -> "Clock":
        """The stretch moved later by the fraction `by` of its length, but not beyond now."""
        if self.end is None or self.length is None:
            return self
        return Clock(self.length, min(_now(), self.end + int(self.length.value * by)))

    def wider(self) -> "Clock":
        """A stretch of twice the length around the same moment, but not beyond now."""
        if self.end is None or self.length is None:
            return self
        return Clock(min(2 * self.length, LONGEST), min(_now(), self.end + self.length.value // 2))


LIVE = Clock()


class Fixed(str):
    """A look-back that the clock's length does not replace, such as the periods that a comparison needs."""

    __slots__ = ()


class _WrongError(Exception):
    """The URL, or a text that the viewer typed, names no valid time. The message is a sentence for the
    page."""


def clock() -> Clock:
    """The clock of this viewer."""
    found: Clock = st.session_state.get(_CLOCK, LIVE)
    return found


def set_speed(speed: int) -> None:
    """Keep the speed of the viewer's playback in the clock and the URL."""
    st.session_state[_CLOCK] = replace(clock(), play=speed)
    keep_lasting(PLAY, str(speed))


def set_paused(moment: int | None) -> None:
    """Keep the moment at which the viewer's playback is paused (ns since the epoch, UTC); None if it
    plays."""
    st.session_state[_CLOCK] = replace(clock(), at=moment)
    keep_lasting(AT, clock().address[AT])


def choose_clock() -> str:
    """Let the viewer choose the clock of all pages. Returns a sentence if the URL, or a text that the viewer
    typed, is not valid; otherwise an empty text. If the time is not valid, the clock is live."""
    if _CLOCK not in st.session_state:
        _set(_from_address)
    no_zone = begin_zone()
    now = clock()
    for name, value in now.address.items():
        keep_lasting(name, value)
    wrong = " ".join(filter(None, [st.session_state.get(_WRONG, ""), no_zone]))
    if st.context.is_embedded:
        return wrong
    past = now.end is not None
    icon = ":material/history:" if past else ":material/schedule:"
    with st.popover(plain(f"{now.words}, {zone_label(now.end_time)}"), icon=icon, key="page-clock"):
        _choose_length_of(now)
        _choose_stretch(now)
        choose_zone()
    if past:
        with st.container(horizontal=True, gap="xsmall", width="content", key="page-clock-moves"):
            moves = {
                "Earlier": ("Shift+Left", now.moved(-0.5)),
                "Later": ("Shift+Right", now.moved(0.5)),
                "Wider": ("Shift+Down", now.wider()),
            }
            for name, (keys, then) in moves.items() if now.length is not None and now.play is None else ():
                key = f"_clock_{name.lower()}"
                st.button(name, key=key, help=keys, shortcut=keys, on_click=_go, args=(then,))
            if now.length is not None:
                then = replace(now, play=SLOWEST if now.play is None else None, at=None)
                name = "Play" if now.play is None else "Stop playing"
                st.button(name, key="_clock_play", on_click=_go, args=(then,))
            st.button("Live", key="_clock_live", type="primary", on_click=_go, args=(LIVE,))
    return wrong


def _choose_length_of(now: Clock) -> None:
    live = now.end is None
    shown = OWN if now.length is None else _in_words(now.length)
    offered = shown if live and shown in (OWN, *LENGTHS) else None
    written = "" if not live or offered or now.length is None else format_duration(now.length)
    # New widgets each time the clock is set: the browser's next requests may still carry the earlier values,
    # which would look like a choice.
    times = st.session_state.get(_TIMES, 0)
    st.pills(
        "Live",
        [OWN, *LENGTHS],
        default=offered,
        key=f"{_LENGTH}_{times}",
        on_change=_choose_length,
        args=(times,),
        width=300,
    )
    st.text_input(
        "Another length",
        written,
        key=f"{_WRITTEN}_{times}",
        placeholder="90 minutes",
        on_change=_choose_written,
        args=(times,),
        help="For example 90 minutes, 2d or PT45M",
    )


def _choose_stretch(now: Clock) -> None:
    # The boxes have whole minutes: the newest messages are before the end of this one.
    until = (now.end_time or pd.Timestamp.now("UTC").ceil("min")).tz_convert(zone())
    start = until - (now.length or pd.Timedelta(hours=1))
    for key, time in ((_FROM, start), (_TO, until)):
        given = time.tz_localize(None).to_pydatetime(warn=False).replace(microsecond=0)
        of = now, zone()
        if key not in st.session_state or st.session_state.get(f"{key}_of") != of:
            st.session_state[key] = given
        st.session_state[f"{key}_of"] = of
        st.session_state[f"{key}_exact"] = given, time
    with st.container(horizontal=True, gap="xsmall", key="page-clock-days"):
        for name in DAYS:
            st.button(name, key=f"_clock_{name}", on_click=_go_to_day, args=(name,))
    with st.form("_clock_stretch", border=False):
        st.datetime_input("From", key=_FROM, step=60)
        st.datetime_input("To", key=_TO, step=60, help=f"Times are in {plain(zone())}.")
        with st.container(horizontal=True, gap="xsmall", key="page-clock-form"):
            st.form_submit_button("Show this stretch", on_click=_go_to_chosen)
            st.form_submit_button("Play it", on_click=_go_to_chosen, kwargs={"play": SLOWEST})


def _go(to: Clock) -> None:
    _set(lambda: to)


def _choose_length(times: int) -> None:
    chosen = st.session_state.get(f"{_LENGTH}_{times}")
    # A browser that opens another page may report that nothing is chosen
    if chosen and times == st.session_state.get(_TIMES, 0):
        _set(lambda: LIVE if chosen == OWN else Clock(parse_duration(LENGTHS[chosen])))


def _choose_written(times: int) -> None:
    written = str(st.session_state.get(f"{_WRITTEN}_{times}") or "").strip()
    if written and times == st.session_state.get(_TIMES, 0):
        _set(lambda: Clock(_length(written)))


def _go_to_chosen(play: int | None = None) -> None:
    def chosen() -> Clock:
        start, end = map(_in_box, (_FROM, _TO))
        return replace(_stretch(start, end), play=play)

    _set(chosen)


def _go_to_day(name: str) -> None:
    _set(lambda: _stretch(*_day_of(name, pd.Timestamp.now(zone()))))


def _day_of(name: str, now: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The start and end of the stretch `name` at the time `now`, in the viewer's zone."""
    days = {"Yesterday": 1, "This week": now.weekday()}.get(name, 0)
    return _midnight(now, days), _midnight(now, 0) if name == "Yesterday" else now


def _midnight(time: pd.Timestamp, days: int) -> pd.Timestamp:
    """The first moment of the day `days` days before. Some zones change their clocks at midnight."""
    day = time.tz_localize(None).normalize() - pd.Timedelta(days=days)
    return day.tz_localize(time.tz, ambiguous=True, nonexistent="shift_forward")


def _set(find: Callable[[], Clock]) -> None:
    """Set the clock that `find` returns. If `find` raises, set it to Live and keep the error's sentence."""
    st.session_state.pop(_WRONG, None)
    st.session_state[_TIMES] = st.session_state.get(_TIMES, 0) + 1
    try:
        st.session_state[_CLOCK] = find()
    except (LookbackError, _WrongError) as wrong:
        st.session_state[_WRONG] = f"{wrong} The page looks as far back from now as it says itself."
        st.session_state[_CLOCK] = LIVE


def _from_address() -> Clock:
    last, start, end, play, at = (st.query_params.get(name) for name in (LAST, FROM, TO, PLAY, AT))
    if play:
        played = _played(play, last, start, end)
        return replace(played, at=_paused(at, played)) if at else played
    if end:
        if start:
            return _stretch(_parsed(start, "from"), _parsed(end, "to"))
        return Clock(_length(last) if last else None, _past(_parsed(end, "to")))
    if start:
        raise _WrongError(
            f"The start {cut(start, _LONGEST_SHOWN)!r} needs an end: a link has from=… and to=…."
        )
    return Clock(_length(last)) if last else LIVE


def _played(play: str, last: str | None, start: str | None, end: str | None) -> Clock:
    """A stretch that is played. Without an end, it ends now. Raises _WrongError and DurationError."""
    speed = {str(each): each for each in SPEEDS}.get(play)
    if speed is None:
        offered = ", ".join(map(str, SPEEDS))
        raise _WrongError(f"play={cut(play, _LONGEST_SHOWN)!r} is not a speed. Write one of {offered}.")
    until = _parsed(end, "to") if end else pd.Timestamp(_now(), tz="UTC")
    if not start and not last:
        raise _WrongError(f"A playback needs a start: a link has from=… and play={speed}.")
    since = _parsed(start, "from") if start else until - _length(str(last))
    return replace(_stretch(since, until), play=speed)


def _paused(text: str, played: Clock) -> int:
    """The time at which a playback is paused. Raises _WrongError."""
    moment = _exact(text, AT)
    assert played.end_time is not None
    assert played.length is not None
    if not played.end_time - played.length <= moment <= played.end_time:
        raise _WrongError(f"at={cut(text, _LONGEST_SHOWN)!r} is not in the stretch {played.words}.")
    return int(moment.value)


def _stretch(start: pd.Timestamp, end: pd.Timestamp) -> Clock:
    """The stretch from `start` to `end`, cut at now. Raises _WrongError."""
    shown = f"from {_iso(start)} to {_iso(end)}"
    if start >= end:
        raise _WrongError(f"The stretch {shown} ends before it starts.")
    if start.value >= _now():
        raise _WrongError(f"The stretch {shown} is still to come.")
    until = _past(end)
    length = pd.Timedelta(until - start.value, unit="ns")
    if length > LONGEST:
        raise _WrongError(f"The stretch {shown} is longer than {LONGEST.days} days.")
    return Clock(length, until)


def _past(end: pd.Timestamp) -> int:
    """The end of a stretch, at most now, in ns since the epoch, UTC."""
    return min(int(end.value), _now())


def _now() -> int:
    """Now, in whole seconds, ns since the epoch, UTC."""
    return int(pd.Timestamp.now("UTC").floor("s").as_unit("ns").value)


def _parsed(text: str, name: str) -> pd.Timestamp:
    """A time of the URL in whole milliseconds, in UTC unless it says otherwise. Raises _WrongError."""
    return _exact(text, name).floor("ms")


def _exact(text: str, name: str) -> pd.Timestamp:
    """A time of the URL in nanoseconds, in UTC unless it says otherwise. Raises _WrongError."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        time = pd.Timestamp(text)
        return (time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")).as_unit("ns")
    except ValueError:
        raise _WrongError(
            f"{name}={cut(text, _LONGEST_SHOWN)!r} is not a time. Write for example 2026-11-29T14:20:00Z."
        ) from None


def _in_box(key: str) -> pd.Timestamp:
    """The time in a box of the form. If the viewer has not changed it, the exact time that it was given,
    since the time on the clock may occur twice. Raises _WrongError."""
    chosen = st.session_state.get(key)
    given, exact = st.session_state.get(f"{key}_exact", (None, None))
    return exact if given is not None and chosen == given else _of_viewer(chosen)


def _of_viewer(chosen: datetime | None) -> pd.Timestamp:
    """A time that the viewer chose in their zone, in UTC. A time that the clocks skip becomes an hour later;
    of a time that occurs twice, the earlier is meant. Raises _WrongError."""
    if chosen is None:
        raise _WrongError("A stretch needs a start and an end.")
    time = pd.Timestamp(chosen).as_unit("ns")
    local = time.tz_localize(zone(), ambiguous=True, nonexistent=pd.Timedelta(hours=1))
    return local.tz_convert("UTC")


def _length(text: str) -> pd.Timedelta:
    """The length that a viewer typed. Raises DurationError."""
    return parse_duration(text if text[:1] == "P" else text.strip().lower().removeprefix("last "))


def _in_words(length: pd.Timedelta) -> str:
    """The name of an offered length, such as "Last hour", or else "Last" with the duration."""
    for words, text in LENGTHS.items():
        if parse_duration(text) == length:
            return words
    return f"Last {format_duration(length)}"


def _iso(time: pd.Timestamp) -> str:
    """A time in UTC in the form that the URL has."""
    time = time.tz_convert("UTC").tz_localize(None)
    if time.value % 1_000_000:
        return f"{time.isoformat(timespec='nanoseconds')}Z"
    return f"{time.isoformat(timespec='milliseconds' if time.value % 1_000_000_000 else 'seconds')}Z"


def _day(time: pd.Timestamp, this_year: int) -> str:
    return time.strftime("%d %b") + ("" if time.year == this_year else f" {time.year}")


def _time(time: pd.Timestamp, *, exact: bool = False) -> str:
    if exact:
        return f"{time:%H:%M:%S}.{time.microsecond // 1000:03}"
    return time.strftime("%H:%M:%S" if time.second else "%H:%M")


def _comes_twice(time: pd.Timestamp) -> bool:
    """True if the clocks of its zone show this time once more, because they are set back."""
    shown = time.tz_localize(None)
    ways = (shown.tz_localize(time.tz, ambiguous=first) for first in (True, False))
    return len({way.value for way in ways}) > 1
