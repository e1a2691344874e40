"""The lag of each consumer over time, since the first listing."""

import threading
from array import array
from collections.abc import Collection, Mapping, Sequence

MOST = 240
"""Maximum points of a course. If there are more, neighbours are merged in pairs."""
OVER = 20.0
"""Seconds over which a change is averaged, once that much is known."""
UNKNOWN = -1

Key = tuple[str, str, str]
"""Stream, consumer, and the consumer's creation time."""


class LagCourses:
    """The courses of all consumers, on one time axis. Their size is bounded: the longer the axis, the more
    time each point covers. A point is the greatest lag within its time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: list[int] = []
        self._step = 0  # ns of one point
        self._lags: dict[Key, array[int]] = {}
        self._recent: list[tuple[int, Mapping[Key, int]]] = []

    def __bool__(self) -> bool:
        return bool(self._times)

    @property
    def since(self) -> int | None:
        """When the courses begin, ns since the epoch, UTC; None before the first note()."""
        return self._times[0] if self._times else None

    def note(self, now: int, lags: Mapping[Key, int], unknown: Collection[str] = ()) -> None:
        """Add the `lags` at `now` (ns since the epoch, UTC). The course of a consumer that is missing is
        dropped, unless its stream is one of `unknown`."""
        with self._lock:
            is_new = not self._times or now - self._times[-1] >= self._step
            if is_new:
                self._times.append(now)
            for key in [key for key in self._lags if key not in lags and key[0] not in unknown]:
                del self._lags[key]
            if is_new:
                for course in self._lags.values():
                    course.append(UNKNOWN)
            for key, lag in lags.items():
                known = self._lags.get(key)
                if known is None:
                    known = self._lags[key] = array("q", [UNKNOWN]) * len(self._times)
                known[-1] = max(known[-1], lag)
            if len(self._times) > MOST:
                self._halve()
            self._recent.append((now, lags))
            while len(self._recent) > 2 and self._recent[1][0] < now - OVER * 1e9:
                self._recent.pop(0)

    def of(self, key: Key, points: int = MOST) -> Sequence[int | None]:
        """The course of one consumer in at most `points` points, the oldest first; None where the lag is
        unknown. Empty if there is none."""
        with self._lock:
            course = self._lags.get(key)
            if course is None:
                return ()
            width = -(-len(course) // points)
            merged = [max(course[at : at + width]) for at in range(0, len(course), width)]
        return [None if lag == UNKNOWN else lag for lag in merged]

    def change(self, key: Key) -> float | None:
        """Growth of the lag over about the last OVER seconds, in messages a second; None if unknown."""
        with self._lock:
            known = [(when, lags[key]) for when, lags in self._recent if key in lags]
        if len(known) < 2:
            return None
        (since, before), (now, lag) = known[0], known[-1]
        return (lag - before) * 1e9 / (now - since) if now > since else None

    def _halve(self) -> None:
        self._times = self._times[::2]
        for key, course in self._lags.items():
            self._lags[key] = array("q", (max(course[at : at + 2]) for at in range(0, len(course), 2)))
        self._step = (self._times[-1] - self._times[0]) // (len(self._times) - 1)
