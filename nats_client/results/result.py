"""A result of SQL that is kept current for all its readers."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa

from ..errors import ClosedError, ColumnError, LookbackError, SqlEnded, SqlError
from ..events import Event, Events
from ..feeds.derived import Derived
from ..feeds.health import FeedKey, Health, Message
from ..memory import PROCESS, SMALLEST, Memory
from ..sql.apart import ask_apart
from ..sql.arrow import ResultRows, Table, has_times
from ..sql.bounded import Limits, Parameter
from ..sql.engine import Stop, ask
from ..sql.guard import Statement, check_select
from ..table.snapshot import Snapshot
from ..table.window import Window
from ..watchers import Watchers
from .inputs import Input, Moment, Rows
from .result_bins import ResultBins
from .turns import Turns

FASTEST = 0.25
"""Minimum seconds from the end of one calculation to the end of the next."""
SHARE = 4
"""After a calculation, a result pauses for this many times its duration. So it calculates at most a fifth of
the time."""
BEAT = 1.0
"""Poll interval in seconds, for inputs that do not notify."""
UNREAD = 60.0
"""Seconds without a reader after which a result is dropped."""
MOST = 200
"""Maximum results per process."""
AT_ONCE = 4
"""Maximum concurrent calculations per process, for each of four kinds: slow and quick ones, of SQL from pages
and of SQL that viewers typed."""
SHARE_OF_TURNS = 1
"""Maximum concurrent calculations of typed SQL per asker, for slow and for quick ones each."""
LONG = 0.5
"""Seconds from which on a calculation counts as slow. A new result counts as slow, too, until it has been
measured, so that it does not delay quick ones."""
SLOW = 1.0
"""If calculations are further apart than this many seconds, pace() reports it."""
DEFAULT_LOOK_BACK = pd.Timedelta(minutes=5)
"""The look-back of a result without timestamps."""

Work = Callable[[Mapping[str, Table], Limits, Stop], pa.Table]
"""A function that calculates a result from tables."""

_log = logging.getLogger(__name__)
_short_turns, _long_turns = Turns(AT_ONCE), Turns(AT_ONCE)
_short_typed_turns, _long_typed_turns = Turns(AT_ONCE, SHARE_OF_TURNS), Turns(AT_ONCE, SHARE_OF_TURNS)


def _typed(value: Parameter) -> Hashable:
    """A value with its type, also inside lists: 1 and True are equal in Python, but not in SQL."""
    if isinstance(value, tuple):
        return tuple, tuple(map(_typed, value))
    return type(value), value


class Query:
    """The work of a plain SELECT."""

    def __init__(
        self,
        sql: str,
        names: tuple[str, ...],
        parameters: Mapping[str, Parameter],
        *,
        typed: bool = False,
    ) -> None:
        """`typed`: a viewer wrote the SQL, so it runs in a separate process. Raises SqlError, with the place
        of the mistake."""
        self.statement: Statement = check_select(sql, names)
        self.typed = typed
        self.sql = sql
        self._parameters = dict(parameters)
        if missing := sorted(self.statement.parameters - self._parameters.keys()):
            raise SqlError(
                f"The parameter ${missing[0]} has no value. Give it: parameters={{{missing[0]!r}: …}}."
            )

    @property
    def identity(self) -> Hashable:
        """Equal for equal work."""
        used = sorted(self.statement.parameters)
        return self.sql, tuple((name, _typed(self._parameters[name])) for name in used), self.typed

    @property
    def moment(self) -> bool:
        """True if the result also depends on the clock."""
        return self.statement.moment

    def __call__(self, tables: Mapping[str, Table], limits: Limits, stop: Stop) -> pa.Table:
        """The result. Raises SqlError."""
        answer = ask_apart if self.typed else ask
        return answer(self.statement, tables, self._parameters, limits, stop)


class Result(Derived):
    """A result of SQL, computed in a thread of its own while it has readers. It is computed only when its
    inputs have changed, at most four times a second, and less often if it takes long. Readers use it like a
    feed."""

    _bins_class = ResultBins

    def __init__(
        self,
        work: Any,
        inputs: Mapping[str, Input],
        *,
        limits: Limits | None = None,
        memory: Memory = PROCESS,
    ) -> None:
        """`work`: a Query, or an object with the same `identity`, `moment`, `typed`, `sql` and call."""
        super().__init__()
        self._work = work
        self._inputs = dict(inputs)
        self._limits = self._own_limits = limits or Limits()
        self._memory = memory
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._first = threading.Event()
        self._stop = Stop()
        self._thread: threading.Thread | None = None
        self._closed = ""
        self._dropped = False
        self._watchers = Watchers()
        self._askers: dict[str, str] = {}
        self._rows = ResultRows()
        self._snapshot: Snapshot = Window().snapshot()
        self._state: Hashable = None
        self._dated = 0
        self._timeless = False
        self._bytes = 0
        self._took = 0.0
        self._is_quick = False
        self.last_read = time.monotonic()
        self.error: LookbackError | None = None
        """Why there is no result; None if there is one, or none yet."""
        looks = [each.look_back for each in self._inputs.values() if each.look_back is not None]
        self.look_back: pd.Timedelta = max(looks, default=DEFAULT_LOOK_BACK)
        """How far back it reaches: the longest look-back of its inputs."""
        self._has_look_back = bool(looks)
        self._events = Events(f"SQL over {', '.join(sorted(self._inputs)) or 'nothing'}")
        memory.join(self, lambda _: self.drop("memory is short, and nobody read it"))

    # -- what a feed offers, from any thread -------------------------------------------------------------

    @property
    def name_key(self) -> object:
        """An identifier that stays the same after a restart of the app."""
        return self._work.identity, tuple((name, each.name_key) for name, each in self._inputs.items())

    @property
    def key(self) -> FeedKey:
        """A key without a stream. Its `end` is that of the first feed or result among the inputs."""
        feeds = [
            each.feed if isinstance(each, Rows) else each.result
            for each in self._inputs.values()
            if isinstance(each, Rows | ResultOf)
        ]
        return FeedKey(None, None, "sql", None, end=next((feed.key.end for feed in feeds), None))

    @property
    def sql(self) -> str:
        """The SQL."""
        return str(self._work.sql)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The inputs by table name."""
        return self._inputs

    def now(self) -> int:
        """The server's clock, ns since the epoch, UTC; this machine's if no input has one."""
        for each in self._inputs.values():
            if (now := each.now()) is not None:
                return now
        return time.time_ns()

    def snapshot(self) -> Snapshot:
        """The newest result, without rows if there is none yet. Does not wait. Raises ClosedError."""
        self._read()
        return self._snapshot

    def frame(self) -> pd.DataFrame:
        """`snapshot().frame()`."""
        return self.snapshot().frame()

    def newest(self) -> list[Message]:
        """Always empty: a result has no messages."""
        return []

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the first result or error. False on timeout."""
        self._read()
        return self._first.wait(timeout)

    @property
    def ready(self) -> bool:
        """True once there has been a result or an error."""
        return self._first.is_set()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each new result, on its thread, so it must return at once. Returns a function
        that ends this."""
        end = self._watchers.add(changed)
        if not self._closed:
            self._read()
        return end

    def join(self, tab: str, asker: str) -> bool:
        """Register the viewer in `tab`: the result is computed in the turns of `asker`. False if it is
        closed."""
        with self._lock:
            self._askers = {**self._askers, tab: asker}
            return not self._closed

    def leave(self, tab: str) -> None:
        """Unregister the viewer in `tab`. Without any viewer, the result is dropped."""
        with self._lock:
            self._askers = {each: asker for each, asker in self._askers.items() if each != tab}
            if self._askers:
                return
            self._closed = self._closed or "its viewer has asked for something else"
        self.drop(self._closed)

    @property
    def health(self) -> Health:
        """The health of its inputs."""
        return self.health_of(self.look_back)

    def health_of(self, look_back: pd.Timedelta) -> Health:
        """The health of its inputs: that of the worst feed, with the gaps of all feeds. The look-back does
        not matter."""
        found = [health for each in self._inputs.values() if (health := each.health()) is not None]
        rows = self._snapshot
        if not found:
            phase = "following" if self._first.is_set() else "connecting"
            return replace(EMPTY_HEALTH, phase=phase, rows=len(rows), bytes=self._bytes)  # type: ignore[arg-type]
        worst = min(found, key=lambda health: _PHASES.index(health.phase))
        gaps = tuple(sorted({gap for health in found for gap in health.gaps}, key=lambda gap: gap.start))
        starts = [health.history_start for health in found if health.history_start is not None]
        return replace(
            worst,
            gaps=gaps,
            history_start=min(starts) if len(starts) == len(found) else None,
            malformed=0,
            samples=(),
            rows=len(rows),
            bytes=self._bytes,
            hint="",
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest events: errors of the SQL, and the end of the result."""
        return self._events.newest

    @property
    def timeless(self) -> bool:
        """True if the result has no times of its own, so all rows have the time of the calculation."""
        return self._timeless

    def structure(self) -> Hashable:
        """A value that changes when the page must rerun. It consists of the columns, the error, and whether
        the result is ready, has rows or is closed."""
        error = "" if self.error is None else str(self.error)
        shown = tuple(self._snapshot.columns.items()), len(self._snapshot) > 0
        return self.ready, shown, error, self._closed

    def pace(self) -> str:
        """How often it is computed, if that is rare: "SQL every 4 s, takes 700 ms"; otherwise empty."""
        took = self._took
        if (every := took * (1 + SHARE)) <= SLOW:
            return ""
        length = f"{took:.1f} s" if took >= 1 else f"{round(took, 1) * 1000:.0f} ms"
        return f"SQL every {every:.0f} s, takes {length}"

    # -- memory, from any thread -------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and of the values derived from them."""
        return self._bytes + self.derived_bytes

    def shrink(self, nbytes: int, ceiling: int) -> None:
        """Limit the rows to `nbytes` from now on. A larger result is an error."""
        self.forget_derived()
        self._limits = replace(self._own_limits, nbytes=max(SMALLEST, min(nbytes, self._own_limits.nbytes)))

    def relax(self) -> None:
        """Lift the limit of shrink()."""
        self._limits = self._own_limits

    def drop(self, why: str) -> None:
        """Stop computing it and release the rows. Readers get ClosedError from now on. Repeating it is
        harmless; the first `why` stays."""
        with self._lock:
            self._closed = self._closed or why
            first, self._dropped = not self._dropped, True
        if first:
            self._events.note("closed", self._closed)
        self._stop.stop()
        self._wake.set()
        self._first.set()
        self._snapshot = Window().snapshot()
        self._rows = ResultRows()
        self._bytes = 0
        self.forget_derived()
        self._memory.leave(self)

    @property
    def closed(self) -> bool:
        """True after drop()."""
        return bool(self._closed)

    def _read(self) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError(f"This result is no longer kept: {self._closed}. Ask again.")
            self.last_read = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="result", daemon=True)
                self._thread.start()

    # -- in the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        ends = [each.watch(self._wake.set) for each in self._inputs.values()]
        try:
            while not self._closed:
                start = time.monotonic()
                self._wake.clear()
                try:
                    self._compute()
                except Exception as error:  # the last rows stay; it is retried after the pause
                    self._fail(error)
                took = time.monotonic() - start
                if self._unread():
                    self.drop(f"nobody read it for {UNREAD:g} s")
                    return
                self._pause(max(FASTEST, SHARE * took))
                self._wake.wait(BEAT)
        finally:
            for end in ends:
                end()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._closed and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, BEAT))

    def _unread(self) -> bool:
        return not self._watchers and time.monotonic() - self.last_read > UNREAD

    def _compute(self) -> None:
        moment = Moment()
        # Once for each input, so that two tables of one bucket or query have the same version
        read = {each: each.take(moment) for each in dict.fromkeys(self._inputs.values())}
        taken = {name: read[each] for name, each in self._inputs.items()}
        now = self.now()
        state: Hashable = (
            tuple(state for state, _ in taken.values()),
            now // 1_000_000_000 if self._work.moment else None,
            self._limits,
        )
        if state == self._state:
            self._date_again(now)
            return
        tables = {name: table for name, (_, table) in taken.items()}
        if self._work.typed:
            turns = _short_typed_turns if self._is_quick else _long_typed_turns
        else:
            turns = _short_turns if self._is_quick else _long_turns
        with turns.taken(lambda: self._askers.values() or ("",)):
            if self._closed:
                return
            start, spent = time.monotonic(), self._stop.spent
            error: LookbackError | None = None
            try:
                found = self._work(tables, self._limits, self._stop)
            except SqlEnded:  # the next attempt may succeed
                raise
            except SqlError as wrong:
                empty = any(not len(table) for table in tables.values())
                error = None if empty and isinstance(wrong, ColumnError) else wrong
                found = None
            self._took = time.monotonic() - start
            # Processor time decides: on a busy machine, a quick calculation takes long, too.
            self._is_quick = ((self._stop.spent - spent) or self._took) < LONG
        self._put(found, now, error)
        self._state = state

    def _put(self, found: pa.Table | None, now: int, error: LookbackError | None) -> None:
        if found is None:
            found = pa.table({})
        rows = self._rows.snapshot(found, now)
        if not self._has_look_back and len(rows) and rows.time[0] < now - self.look_back.value:
            self.look_back = round_up(now - int(rows.time[0]), self.look_back)
        if self._closed:
            return
        self._snapshot, self._dated = self._as_of(rows, now), now
        self._timeless = not has_times(found)
        self._bytes = found.nbytes + 24 * len(rows)
        self._note(error)
        self._first.set()
        self._memory.note(self)
        self._watchers.notify()

    def _note(self, error: LookbackError | None) -> None:
        if error is not None:
            # Without the error's text: it may quote values of payloads, and each would be a line of the log
            level = logging.INFO if self._work.typed else logging.WARNING
            self._events.note("no result", "its SQL failed; the page shows why", level)
        self.error = error

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, LookbackError):
            if not self._closed:
                _log.exception("A result stands still.")
            error = SqlError("The result could not be computed. The app's log says why.")
        self._note(error)
        self._state = None
        self._first.set()
        self._watchers.notify()

    def _as_of(self, rows: Snapshot, now: int) -> Snapshot:
        # Rows of a result do not leave the look-back one by one; only those of the inputs do.
        return rows.kept_since(now - self.look_back.value + self._slack)

    @property
    def _slack(self) -> int:
        return int(self.look_back.value // 4)

    def _date_again(self, now: int) -> None:
        if now - self._dated > self._slack // 2:
            self._snapshot, self._dated = self._as_of(self._snapshot, now), now


@dataclass(frozen=True)
class ResultOf:
    """A result as an input of another result."""

    result: Result

    @property
    def name_key(self) -> object:
        """See Input."""
        return self.result.name_key

    @property
    def look_back(self) -> pd.Timedelta | None:
        """See Input."""
        return self.result.look_back

    def take(self, moment: Moment) -> tuple[Hashable, Table]:
        """See Input. Raises the error of the result, if it has one."""
        rows = self.result.snapshot()
        if self.result.error is not None:
            raise self.result.error
        return rows.version, rows

    def now(self) -> int | None:
        """See Input."""
        return self.result.now()

    def health(self) -> Health | None:
        """See Input."""
        return self.result.health

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See Input."""
        return self.result.watch(changed)


class Results:
    """The results of a process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, Result] = {}

    def get(
        self, rights: str, work: Any, inputs: Mapping[str, Input], *, limits: Limits | None = None
    ) -> Result:
        """The result shared by all readers with these `rights` and equal arguments. Raises SqlError if there
        are too many results."""
        key = rights, work.identity, tuple(inputs.items()), limits
        with self._lock:
            for known, result in list(self._held.items()):
                if result.closed:
                    del self._held[known]
            if (found := self._held.get(key)) is not None:
                return found
            if len(self._held) >= MOST:
                raise SqlError(
                    f"{MOST} different queries are open in this app. Close some pages, or try again in "
                    f"{UNREAD:.0f} s: what nobody reads ends by then."
                )
            found = self._held[key] = Result(work, inputs, limits=limits)
            return found

    def close(self) -> None:
        """Drop all results."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for result in held:
            result.drop("the app closes it")


def round_up(ns: int, held: pd.Timedelta | None = None) -> pd.Timedelta:
    """A round length of at least `ns`. It is `held` if that is long enough and not much longer, so it rarely
    changes."""
    if held is not None and ns <= held.value <= 1.6 * ns:
        return held
    unit = 1_000_000_000
    while 10 * unit < ns:
        unit *= 10
    return pd.Timedelta(next(int(digit * unit) for digit in _ROUND if digit * unit >= ns))


_ROUND = (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
_PHASES = ["stopped", "reconnecting", "connecting", "replaying", "halted", "following"]
EMPTY_HEALTH = Health(
    stream=None,
    subject=None,
    name="SQL",
    phase="following",
    since=0.0,
    why=None,
    done=0,
    pending=0,
    rows=0,
    bytes=0,
    newest=None,
    malformed=0,
    samples=(),
    dropped=0,
    dropped_until=0,
    mistyped=0,
    surplus_fields=0,
    restarts=0,
    recreated=0,
    gaps=(),
    begins=None,
    earlier=0,
    archive=None,
    limits="",
)
"""The health of rows without a stream."""
