"""The state and measurements of one open Comparison page. The script of the page, the script of its left
half, and the routes of its right half share it. See docs/comparison.md."""

import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from nats_client import LookbackError, parse_duration
from nats_client.errors import AnswerBroken
from nats_client.series.bins import step_for

from ..charts.pushed import ChartSource
from ..data.request import request
from ..push.source import Element
from ..push.tabs import Tab, own_tab
from ..web.sign_in import holds, owner, rights
from ..web.traffic import Traffic, own_traffic, traffic_of

SERVICE = "comparison"
TICKET_LIVES = 60.0  # seconds
ALIVE = 60.0  # a run ends after this many seconds without a refresh of its page
MOST_RUNS = 200
RENEW_AT = 0.6  # of a token's life
WINDOW = 5.0  # seconds over which rates are computed
SETTLE = 3.0  # seconds from a change or the end of the replays until counting starts, as data is under way
STEADY = 12.0  # the shortest time, in seconds, over which both counts are compared
COUNTED = 60.0  # the longest such time, in seconds
AGREE, STAY = 0.15, 0.4  # how far the logarithms of both halves may differ to show the ratio, and to keep it
RECENT = 10.0  # seconds over which latencies are computed
HISTORY = 180.0  # seconds in the chart of both sides
HEIGHT = 260  # pixels, of each chart


class Meter:
    """A growing count over time."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque()

    def add(self, time: float, count: float | None) -> None:
        """Add the count at `time` (seconds). None means unknown, and drops all earlier counts."""
        if count is None:
            self._marks.clear()
            return
        self._marks.append((time, count))
        while len(self._marks) > 2 and self._marks[1][0] < time - WINDOW:
            self._marks.popleft()

    def restart(self) -> None:
        """Compute rates from the last count on."""
        while len(self._marks) > 1:
            self._marks.popleft()

    def rate(self) -> float | None:
        """The rate per second over the last WINDOW; None if it is not known yet."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (start, before), (end, now) = self._marks[0], self._marks[-1]
        return max(0.0, now - before) / (end - start)

    @property
    def total(self) -> float | None:
        """The last count."""
        return self._marks[-1][1] if self._marks else None


class Ratio:
    """The ratio of the bytes of both sides over the same seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float, float]] = deque()
        self._shown = False

    def restart(self) -> None:
        """Count from now on."""
        self._marks.clear()
        self._shown = False

    def add(self, time: float, ours: float | None, theirs: float | None) -> None:
        """Add both counts at `time` (seconds)."""
        if ours is None or theirs is None:
            return
        self._marks.append((time, ours, theirs))
        while self._marks[0][0] < time - COUNTED:
            self._marks.popleft()
        self._shown = self._span() >= STEADY and self._holds()
        if self._span() >= 2 * STEADY and not self._shown:  # the older half had other conditions
            for _ in range(len(self._marks) // 2):
                self._marks.popleft()

    def value(self) -> float | None:
        """Theirs divided by ours; None until both halves of at least STEADY seconds agree."""
        return self._of(0, -1) if self._shown else None

    def _span(self) -> float:
        return self._marks[-1][0] - self._marks[0][0] if self._marks else 0.0

    def _holds(self) -> bool:
        middle = len(self._marks) // 2
        before, after = self._of(0, middle), self._of(middle, -1)
        if before is None or after is None:
            return False
        return abs(math.log(after / before)) < (STAY if self._shown else AGREE)

    def _of(self, start: int, end: int) -> float | None:
        (_, ours, theirs), (_, our_end, their_end) = self._marks[start], self._marks[end]
        sent, other = our_end - ours, their_end - theirs
        return other / sent if sent > 0 and other > 0 else None


@dataclass(frozen=True)
class Latency:
    """Time since publishing, in ms."""

    median: float
    p95: float


@dataclass
class Side:
    """The cost of one half of the page."""

    wire: Meter = field(default_factory=Meter)
    """Bytes on the wire, after compression."""
    plain: Meter = field(default_factory=Meter)
    """Bytes of the websocket's messages, before compression."""
    payload: Meter = field(default_factory=Meter)
    """Bytes of the stream's messages within them."""
    messages: Meter = field(default_factory=Meter)
    cpu: float | None = None
    """CPU of the server that feeds this side, in percent of one core."""
    to_pixel: Latency | None = None
    to_browser: Latency | None = None

    @property
    def rate(self) -> float | None:
        """Bytes per second: on the wire if known, else before compression."""
        rate = self.wire.rate()
        return self.plain.rate() if rate is None else rate


@dataclass
class Token:
    """The credentials with which the right half connects to NATS."""

    jwt: str = field(repr=False)
    inbox_prefix: str
    port: int
    renew_at: float
    """Seconds on the monotonic clock, like ends_at."""
    ends_at: float

    @property
    def lives(self) -> float:
        """Remaining life in seconds."""
        return max(0.0, self.ends_at - time.monotonic())


@dataclass(frozen=True)
class RowsSent:
    """Rows that were sent to the left half."""

    by: Mapping[str, Traffic]
    """Its websockets."""
    frame: int
    """The number of the frame that contained them."""
    published: np.ndarray
    """Publish times of the new rows, in ms."""
    generation: int
    """Generation of the window. When it changes, everything is sent again."""
    live: bool
    """True once the replay is done."""


@dataclass(frozen=True)
class Report:
    """The measurements of the right half; times in ms since the epoch, by the app's clock."""

    at: float
    bytes: float
    left: list[tuple[int, float]]
    """The frames that the left half has drawn, and when."""
    to_pixel: Latency | None
    to_browser: Latency | None
    live: bool
    """True once its replay is done."""


class ComparisonRun:
    """One open Comparison page. The page's script owns the figures. Reports of the left half's script and of
    the right half's routes wait in a queue until the page's script runs next."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(18)
        self.owner, self.rights = owner(), rights()
        """The sign-in that the run belongs to, None if sign-in is off; and its rights, "" if sign-in is
        off."""
        self.seen = time.monotonic()
        self.ours, self.theirs = Side(), Side()
        self.ratio = Ratio()
        """Their bytes divided by ours."""
        self.published = Meter()
        self.rate = self.series = 0
        """The rate and the number of series that are published now, whichever viewer chose them."""
        self.look_back = parse_duration("PT1M")
        self.start = 1
        """Sequence of the first message of the look-back."""
        self.compression = False
        self.port: int | None = None
        """Port of the NATS server's websocket listener."""
        self.api_prefix = "$JS.API"
        self.name: str | None = None
        """Name of the right half's connection."""
        self.history: deque[tuple[float, float | None, float | None]] = deque()
        self.token: Token | None = None
        self._reported: deque[RowsSent | Report] = deque(maxlen=1000)
        self._ticket = ("", 0.0)  # and its expiry, on the monotonic clock
        self._issued: tuple[
            str, ...
        ] = ()  # tokens given to the browser that may still be valid, oldest first
        self._traffic: dict[str, Traffic] = {}
        self._sent: dict[int, Mapping[str, Any]] = {}  # by connection id
        self._chunks: deque[tuple[int, np.ndarray]] = deque()
        self._end: tuple[int, int] | None = None  # generation and ordinal up to which rows are counted
        self._shown = False
        self._drawn: deque[tuple[float, np.ndarray]] = deque()
        self._cpu: tuple[float, float] | None = None
        self._of: object = None  # what is counted; a change of rate, look-back or window restarts counting
        self._generation = -1
        self._live = {"ours": False, "theirs": False}
        self._settled = math.inf  # when counting starts, on the monotonic clock

    @property
    def alive(self) -> bool:
        """True while its page is open."""
        return time.monotonic() < self.seen + ALIVE

    def is_of(self, sign_in: str | None) -> bool:
        """True if the run belongs to `sign_in` and that sign-in still has the same rights, or if sign-in is
        off."""
        return self.owner is None or (sign_in == self.owner and holds(self.owner, self.rights))

    def ticket(self) -> str:
        """A one-time ticket that the right half exchanges for its token. An expired ticket is replaced."""
        if not self._issued and time.monotonic() > self._ticket[1]:
            self._ticket = secrets.token_urlsafe(18), time.monotonic() + TICKET_LIVES
        return self._ticket[0]

    def redeem_ticket(self, ticket: str, cookie: str) -> Token | None:
        """The token, if `ticket` is shown for the first time or `cookie` is a token of this run; else
        None."""
        token, (right, ends) = self.token, self._ticket
        if not self.alive or token is None or not token.lives:
            return None
        first = not self._issued and time.monotonic() < ends
        shown = first and secrets.compare_digest(ticket.encode(), right.encode())
        held = any(secrets.compare_digest(cookie.encode(), jwt.encode()) for jwt in self._issued)
        if not shown and not held:
            return None
        if token.jwt not in self._issued:
            self._issued = (*self._issued[-1:], token.jwt)
        return token

    @property
    def renew(self) -> bool:
        """True if there is a newer token than the one the browser has."""
        return bool(self._issued) and self.token is not None and self.token.jwt != self._issued[-1]

    def keep_token(self) -> None:
        """Get a token, or the next one when it is due. Raises as request() does."""
        now = time.monotonic()
        if self.token is not None and now < self.token.renew_at:
            return
        # The nonce makes the request unique: equal requests share one reply.
        reply = request(f"{SERVICE}.token", {"nonce": secrets.token_hex(8)}, every=0).value()
        try:
            jwt, inbox, port, lives = (
                reply["jwt"],
                reply["inbox_prefix"],
                int(reply["port"]),
                float(reply["lives"]),
            )
            if not re.fullmatch(r"[\w.-]+", jwt, re.ASCII) or not isinstance(inbox, str) or not lives > 0:
                raise ValueError
        except (LookupError, TypeError, ValueError, OverflowError):
            raise AnswerBroken("The service `comparison` sent a token that is not valid.") from None
        self.token = Token(jwt, inbox, port, now + RENEW_AT * lives, now + lives)

    def ask(self, rate: int, series: int, changed: float) -> None:
        """Send the service the rate, the series and the look-back, and process its reply and all reports.
        `changed`: when the viewer chose them, seconds since the epoch. Raises as request() does."""
        wish = {
            "rate": rate,
            "series": series,
            "look_back": self.look_back.total_seconds(),
            "changed": changed,
            "connection": self.name,
        }
        reply = request(f"{SERVICE}.run", wish, every=0).value()
        try:
            self._take_reply(reply)
        except (LookupError, TypeError, ValueError, OverflowError):
            raise AnswerBroken("The service `comparison` sent a reply that is not valid.") from None
        self.seen = now = time.monotonic()
        while self._reported:
            self._take(self._reported.popleft())
        if found := list(self._sent.values()):
            self.theirs.messages.add(now, _sum(each["messages"] for each in found))
            self.theirs.payload.add(now, _sum(each["payload"] for each in found))
            self.theirs.wire.add(now, _sum(each["wire"] for each in found))
        if carried := list(self._traffic.values()):
            self.ours.messages.add(now, _sum(each.messages for each in carried))
            self.ours.plain.add(now, _sum(each.plain for each in carried))
            self.ours.wire.add(now, _sum(each.wire for each in carried))
        self._count(now)
        self._take_cpu()
        self.ours.to_pixel = self._to_pixel()
        self.history.append((now, self.ours.rate, self.theirs.rate))
        while self.history[0][0] < now - HISTORY:
            self.history.popleft()

    def _take_reply(self, reply: Any) -> None:
        """Process a reply of the service. Raises LookupError, TypeError, ValueError or OverflowError if it is
        not valid."""
        server, sent = reply["server"], reply["connection"]
        rate, series, start, published = (int(reply[key]) for key in ("rate", "series", "start", "published"))
        if server:
            self.theirs.cpu = float(server["cpu"])
            self.port = int(server["port"]) if server["port"] else None
            self.compression = bool(server["compression"])
        if sent:
            wire = sent["wire"]
            counts = {"messages": float(sent["messages"]), "payload": float(sent["payload"])}
            self._sent[int(sent["id"])] = {**counts, "wire": None if wire is None else float(wire)}
        self.rate, self.series, self.start = rate, series, start
        self.published.add(time.monotonic(), published)

    def _count(self, now: float) -> None:
        """Compare both counts over the same seconds, starting once the rate is settled and both replays are
        done."""
        of = (self.rate, self.series, self.look_back, self._generation)
        if of != self._of or not all(self._live.values()):
            self._of, self._settled = of, now + SETTLE
        if now < self._settled:
            self.ratio.restart()
            meters = [self.published]
            for side in (self.ours, self.theirs):
                meters += [side.wire, side.plain, side.payload]
            for meter in meters:
                meter.restart()
            return
        ours, theirs = self.ours, self.theirs
        known = ours.wire.total is not None and theirs.wire.total is not None
        both = (ours.wire, theirs.wire) if known else (ours.plain, theirs.plain)
        self.ratio.add(now, *(meter.total for meter in both))

    def _take_cpu(self) -> None:
        now, used = time.monotonic(), time.process_time()
        if self._cpu is not None and now - self._cpu[0] < 2:
            return
        if self._cpu is not None:
            self.ours.cpu = 100 * (used - self._cpu[1]) / (now - self._cpu[0])
        self._cpu = now, used

    def follow(self) -> None:
        """Record the frames that are sent to the current tab. Called by the left half's script."""
        tab = own_tab()
        self._traffic.update(own_traffic(tab.socket))
        tab.sent = partial(self._note, tab)

    def _note(self, tab: Tab, frame: int, elements: list[Element]) -> None:
        for source in (element.source for element in elements):
            if not isinstance(source, ChartSource) or (snapshot := source.snapshot) is None:
                continue
            mark = (snapshot.generation, snapshot.end)
            if self._end is not None and self._end[0] == mark[0]:
                published = 1000 * np.array(snapshot.numbers("time", max(self._end[1], snapshot.first)))
            else:
                published = np.zeros(0)  # older rows were published before the page was open
            self._end = mark
            live = source.feed.health_of(source.look_back).phase == "following"
            self._reported.append(RowsSent(traffic_of(tab.socket), frame, published, mark[0], live))

    def _take(self, news: RowsSent | Report) -> None:
        if isinstance(news, RowsSent):
            self._traffic.update(news.by)
            self._chunks.append((news.frame, news.published))
            self._generation, self._live["ours"] = news.generation, news.live
            return
        self.theirs.plain.add(news.at / 1000, news.bytes)
        self._live["theirs"] = news.live
        self.theirs.to_pixel, self.theirs.to_browser = news.to_pixel, news.to_browser
        for frame, at in news.left:
            self._drawn_at(frame, at)

    def _drawn_at(self, frame: int, at: float) -> None:
        """Record that the left half drew all frames up to `frame` at the time `at` (ms since the epoch)."""
        fresh = []
        while self._chunks and self._chunks[0][0] <= frame:
            fresh.append(self._chunks.popleft()[1])
        if fresh and self._shown:  # rows of the first picture arrived while the page was loading
            self._drawn.append((at, at - np.concatenate(fresh)))
        self._shown = True
        while self._drawn and self._drawn[0][0] < at - 1000 * RECENT:
            self._drawn.popleft()

    def _to_pixel(self) -> Latency | None:
        found = np.concatenate([each for _, each in self._drawn]) if self._drawn else np.zeros(0)
        if not len(found):
            return None
        median, p95 = np.percentile(found, (50, 95))
        return Latency(float(median), float(p95))

    def take_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Process a report of the right half, about itself and the left half. Returns its new settings, and
        whether it must renew its token. Raises LookupError, TypeError and ValueError if the report is not
        valid."""
        offset = float(report["offset"])
        left = [(int(until), float(at) + offset) for until, at in report["left"]][:20]
        latency = {key: Latency(*map(float, report[key])) for key in ("pixel", "browser") if report[key]}
        if (name := report["name"]) is not None:
            self.name = str(name)[:64]
        self._reported.append(
            Report(
                float(report["at"]) + offset,
                float(report["bytes"]),
                left,
                latency.get("pixel"),
                latency.get("browser"),
                report["live"] is True,
            )
        )
        return {**self.settings(), "renew": self.renew}

    def settings(self) -> dict[str, Any]:
        """The settings of the right half's chart. `look_back`, `step`: ms. `start`: the first sequence.
        `now`: ms since the epoch, UTC."""
        return {
            "look_back": self.look_back.value / 1e6,
            "step": step_for(self.look_back) / 1e6,
            "start": self.start,
            "height": HEIGHT,
            "now": 1000 * time.time(),
        }


def _sum(counts: Iterable[float | None]) -> float | None:
    found = list(counts)
    return None if None in found else sum(each for each in found if each is not None)


_runs: dict[str, ComparisonRun] = {}


def find_run(key: str, sign_in: Callable[[], str | None] = owner) -> ComparisonRun | None:
    """The run with that key, if its page is open and it belongs to `sign_in` (by default the viewer's)."""
    run = _runs.get(key)
    return run if run is not None and run.alive and run.is_of(sign_in()) else None


def own_run() -> ComparisonRun:
    """The run of this viewer's page; a new one if there is none or it has ended."""
    run = find_run(st.session_state.get("_comparison", ""))
    if run is not None:
        return run
    run = ComparisonRun()
    for key, each in list(_runs.items()):
        if not each.alive:
            _runs.pop(key, None)
    if len(_runs) >= MOST_RUNS:
        raise LookbackError(f"{MOST_RUNS} comparisons are already open. Close one and reload this page.")
    _runs[run.key] = run
    st.session_state["_comparison"] = run.key
    return run
