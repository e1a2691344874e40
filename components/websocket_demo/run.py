"""What the page Comparison measures while it is open: a run, in which the scripts of the page and of its left
half meet the routes of its right half. See docs/comparison.md."""

import math
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from nats_client import LookbackError, parse_duration
from nats_client.errors import AnswerBroken
from nats_client.series.bins import step_for

from ..data.live import View
from ..data.request import request
from ..web.sign_in import holds, owner, rights
from ..web.traffic import Traffic, own_traffic

SERVICE = "comparison"
TICKET_LIVES = 60.0  # seconds
ALIVE = 60.0  # seconds without a refresh of its page after which a run is over
MOST_RUNS = 200
RENEW_AT = 0.6  # of a token's life
WINDOW = 5.0  # seconds that rates are taken over
SETTLE = 3.0  # seconds after a change, or the end of the replays, until counting begins: some is under way
STEADY = 12.0  # seconds that the comparison of both counts takes at the least
COUNTED = 60.0  # seconds, at the most
AGREE, STAY = 0.15, 0.4  # by which the logarithms of its halves may differ before it is told, and once it is
RECENT = 10.0  # seconds that latencies are taken over
HISTORY = 180.0  # seconds of the chart of both
HEIGHT = 260  # pixels of either chart


class Meter:
    """A count that only grows, and when it was what."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque()

    def add(self, time: float, count: float | None) -> None:
        """The count at a time, in seconds; None: not known, then all of it is forgotten."""
        if count is None:
            self._marks.clear()
            return
        self._marks.append((time, count))
        while len(self._marks) > 2 and self._marks[1][0] < time - WINDOW:
            self._marks.popleft()

    def restart(self) -> None:
        """Take rates from the last count on."""
        while len(self._marks) > 1:
            self._marks.popleft()

    def rate(self) -> float | None:
        """Per second, over the last WINDOW; None while that cannot be said."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (start, before), (end, now) = self._marks[0], self._marks[-1]
        return max(0.0, now - before) / (end - start)

    @property
    def total(self) -> float | None:
        """The last count."""
        return self._marks[-1][1] if self._marks else None


class Ratio:
    """How many times as many bytes one side takes as the other, over the same seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float, float]] = deque()
        self._told = False

    def restart(self) -> None:
        """Count from now on."""
        self._marks.clear()
        self._told = False

    def add(self, time: float, ours: float | None, theirs: float | None) -> None:
        """The counts of both at a time, in seconds."""
        if ours is None or theirs is None:
            return
        self._marks.append((time, ours, theirs))
        while self._marks[0][0] < time - COUNTED:
            self._marks.popleft()
        self._told = self._span() >= STEADY and self._holds()
        if self._span() >= 2 * STEADY and not self._told:  # the older half was of something else
            for _ in range(len(self._marks) // 2):
                self._marks.popleft()

    def value(self) -> float | None:
        """Theirs by ours; None until both halves of at least STEADY seconds agree."""
        return self._of(0, -1) if self._told else None

    def _span(self) -> float:
        return self._marks[-1][0] - self._marks[0][0] if self._marks else 0.0

    def _holds(self) -> bool:
        middle = len(self._marks) // 2
        before, after = self._of(0, middle), self._of(middle, -1)
        if before is None or after is None:
            return False
        return abs(math.log(after / before)) < (STAY if self._told else AGREE)

    def _of(self, start: int, end: int) -> float | None:
        (_, ours, theirs), (_, our_end, their_end) = self._marks[start], self._marks[end]
        sent, other = our_end - ours, their_end - theirs
        return other / sent if sent > 0 and other > 0 else None


@dataclass(frozen=True)
class Latency:
    """From publishing until something, in ms."""

    median: float
    p95: float


@dataclass
class Side:
    """What one half of the page costs."""

    wire: Meter = field(default_factory=Meter)
    """Bytes that travelled, compressed where they are."""
    plain: Meter = field(default_factory=Meter)
    """Bytes of the websocket's messages before compression."""
    payload: Meter = field(default_factory=Meter)
    """Bytes of the stream's own messages in them."""
    messages: Meter = field(default_factory=Meter)
    cpu: float | None = None
    """Percent of one core that the server takes which feeds it."""
    to_pixel: Latency | None = None
    to_browser: Latency | None = None

    @property
    def rate(self) -> float | None:
        """Bytes a second: on the wire where that is known, else before compression."""
        rate = self.wire.rate()
        return self.plain.rate() if rate is None else rate


@dataclass
class Token:
    """What the right half logs in with."""

    jwt: str = field(repr=False)
    inbox_prefix: str
    port: int
    renew_at: float
    """By the monotonic clock, as the next."""
    ends_at: float

    @property
    def lives(self) -> float:
        """Seconds from now."""
        return max(0.0, self.ends_at - time.monotonic())


@dataclass(frozen=True)
class Sent:
    """The left half was sent rows."""

    by: tuple[str, Traffic] | None
    """Over which websocket."""
    until: int
    """The time of the view, in ms since the epoch by the server's clock."""
    published: np.ndarray
    """When those that are new in it were published, in ms."""
    generation: int
    """Of the window: another one is sent anew, whole."""
    live: bool
    """Whether the replay is over."""


@dataclass(frozen=True)
class Report:
    """What the right half has seen, by our clock in ms since the epoch."""

    at: float
    bytes: float
    left: list[tuple[int, float]]
    """When the left half was drawn, and up to which time."""
    to_pixel: Latency | None
    to_browser: Latency | None
    live: bool
    """Whether its replay is over."""


class Run:
    """One page that is open. Its script owns the figures; what its left half's script and the routes of its
    right half tell waits in a queue until that script runs next."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(18)
        self.owner, self.rights = owner(), rights()
        """The sign-in that it belongs to, and what that was good for; None where nobody has to sign in."""
        self.seen = time.monotonic()
        self.ours, self.theirs = Side(), Side()
        self.ratio = Ratio()
        """Their bytes by ours."""
        self.published = Meter()
        self.rate = self.series = 0
        """What is published, whoever has chosen it."""
        self.look_back = parse_duration("PT1M")
        self.start = 1
        """Sequence of the first message of the look-back."""
        self.compression = False
        self.port: int | None = None
        """Of the NATS server's websocket listener."""
        self.api_prefix = "$JS.API"
        self.name: str | None = None
        """Of the right half's connection."""
        self.history: deque[tuple[float, float | None, float | None]] = deque()
        self.token: Token | None = None
        self._told: deque[Sent | Report] = deque(maxlen=1000)
        self._ticket = ("", 0.0)  # and until when it is good
        self._handed: tuple[str, ...] = ()  # tokens that were handed out and may still live, the newest last
        self._traffic: dict[str, Traffic] = {}
        self._sent: dict[int, Mapping[str, Any]] = {}  # by connection id
        self._chunks: deque[tuple[int, np.ndarray]] = deque()
        self._end: tuple[int, int] | None = None  # generation and ordinal up to where rows are noted
        self._shown = False
        self._drawn: deque[tuple[float, np.ndarray]] = deque()
        self._cpu: tuple[float, float] | None = None
        self._of: object = None  # what is counted: another rate, look-back or window is something else
        self._generation = -1
        self._live = {"ours": False, "theirs": False}
        self._settled = math.inf  # when counting begins, on the monotonic clock

    @property
    def alive(self) -> bool:
        """Whether its page is still looked at."""
        return time.monotonic() < self.seen + ALIVE

    def is_of(self, sign_in: str | None) -> bool:
        """Whether it belongs to `sign_in`, which still has the rights that it had."""
        return self.owner is None or (sign_in == self.owner and holds(self.owner, self.rights))

    def ticket(self) -> str:
        """What the right half shows once to be given its token; another one when it was not used in time."""
        if not self._handed and time.monotonic() > self._ticket[1]:
            self._ticket = secrets.token_urlsafe(18), time.monotonic() + TICKET_LIVES
        return self._ticket[0]

    def hand_out(self, ticket: str, cookie: str) -> Token | None:
        """The token, for who shows the ticket for the first time or holds a token of this run; else None."""
        token, (right, ends) = self.token, self._ticket
        if not self.alive or token is None or not token.lives:
            return None
        first = not self._handed and time.monotonic() < ends
        shown = first and secrets.compare_digest(ticket.encode(), right.encode())
        held = any(secrets.compare_digest(cookie.encode(), jwt.encode()) for jwt in self._handed)
        if not shown and not held:
            return None
        if token.jwt not in self._handed:
            self._handed = (*self._handed[-1:], token.jwt)
        return token

    @property
    def renew(self) -> bool:
        """Whether there is a newer token than the one that was handed out."""
        return bool(self._handed) and self.token is not None and self.token.jwt != self._handed[-1]

    def keep_token(self) -> None:
        """Ask for a token, or for the next one. Raises what request() raises."""
        now = time.monotonic()
        if self.token is not None and now < self.token.renew_at:
            return
        # A payload of its own, since equal requests share their answer.
        told = request(f"{SERVICE}.token", {"nonce": secrets.token_hex(8)}, every=0).value()
        try:
            jwt, inbox, port, lives = (
                told["jwt"],
                told["inbox_prefix"],
                int(told["port"]),
                float(told["lives"]),
            )
            if not re.fullmatch(r"[\w.-]+", jwt, re.ASCII) or not isinstance(inbox, str) or not lives > 0:
                raise ValueError
        except (LookupError, TypeError, ValueError, OverflowError):
            raise AnswerBroken("The service `comparison` has given a token that cannot be read.") from None
        self.token = Token(jwt, inbox, port, now + RENEW_AT * lives, now + lives)

    def ask(self, rate: int, series: int, changed: float) -> None:
        """Have it published, and take in what the service tells. Raises what request() raises."""
        wish = {
            "rate": rate,
            "series": series,
            "look_back": self.look_back.total_seconds(),
            "changed": changed,
            "connection": self.name,
        }
        told = request(f"{SERVICE}.run", wish, every=0).value()
        try:
            self._hear(told)
        except (LookupError, TypeError, ValueError, OverflowError):
            raise AnswerBroken("The service `comparison` has answered what cannot be read.") from None
        self.seen = now = time.monotonic()
        while self._told:
            self._take(self._told.popleft())
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

    def _hear(self, told: Any) -> None:
        """Take in an answer of the service. Raises LookupError, TypeError, ValueError or OverflowError on
        what cannot be read."""
        server, sent = told["server"], told["connection"]
        rate, series, start, published = (int(told[key]) for key in ("rate", "series", "start", "published"))
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
        """Compare both over the same seconds, which begin when the rate has changed and both replays are
        over."""
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

    def note(self, view: View) -> None:
        """The left half, whose script calls this, is about to be sent the rows of `view`."""
        snapshot = view.snapshot
        mark = (snapshot.generation, snapshot.end)
        if self._end is not None and self._end[0] == mark[0]:
            published = 1000 * np.array(snapshot.numbers("time", max(self._end[1], snapshot.first)))
        else:
            published = np.zeros(0)  # the past was published before anybody looked
        self._end = mark
        live = view.health.phase == "following"
        self._told.append(Sent(own_traffic(), view.now // 1_000_000, published, mark[0], live))

    def _take(self, told: Sent | Report) -> None:
        if isinstance(told, Sent):
            if told.by is not None:
                self._traffic[told.by[0]] = told.by[1]
            self._chunks.append((told.until, told.published))
            self._generation, self._live["ours"] = told.generation, told.live
            return
        self.theirs.plain.add(told.at / 1000, told.bytes)
        self._live["theirs"] = told.live
        self.theirs.to_pixel, self.theirs.to_browser = told.to_pixel, told.to_browser
        for until, at in told.left:
            self._drawn_at(until, at)

    def _drawn_at(self, until: int, at: float) -> None:
        """The left half shows, since `at`, the rows of the view of the time `until`."""
        fresh = []
        while self._chunks and self._chunks[0][0] <= until:
            fresh.append(self._chunks.popleft()[1])
        if fresh and self._shown:  # what its first picture shows came while the page was loading
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
        """What the right half has seen, of itself and of the left one; the answer is what it is to do.
        Raises LookupError, TypeError and ValueError on what cannot be read."""
        offset = float(report["offset"])
        left = [(int(until), float(at) + offset) for until, at in report["left"]][:20]
        told = {key: Latency(*map(float, report[key])) for key in ("pixel", "browser") if report[key]}
        if (name := report["name"]) is not None:
            self.name = str(name)[:64]
        self._told.append(
            Report(
                float(report["at"]) + offset,
                float(report["bytes"]),
                left,
                told.get("pixel"),
                told.get("browser"),
                report["live"] is True,
            )
        )
        return {**self.settings(), "renew": self.renew}

    def settings(self) -> dict[str, Any]:
        """What the right half is to draw."""
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


_runs: dict[str, Run] = {}


def find_run(key: str, sign_in: Callable[[], str | None] = owner) -> Run | None:
    """The run of that key, while its page is looked at and for the sign-in that it belongs to; default: the
    viewer's."""
    run = _runs.get(key)
    return run if run is not None and run.alive and run.is_of(sign_in()) else None


def own_run() -> Run:
    """The run of this viewer's page; a new one where there is none, or it is over."""
    run = find_run(st.session_state.get("_comparison", ""))
    if run is not None:
        return run
    run = Run()
    for key, each in list(_runs.items()):
        if not each.alive:
            _runs.pop(key, None)
    if len(_runs) >= MOST_RUNS:
        raise LookbackError(f"{MOST_RUNS} comparisons are open already. Close one.")
    _runs[run.key] = run
    st.session_state["_comparison"] = run.key
    return run
