"""Codes for pairs of values of two text columns."""

import threading

import numpy as np

from ..table.snapshot import Snapshot
from ..table.values import Codes

BETWEEN = "\x1f"
"""The separator of the two values in a label. Within a value it is replaced by a blank."""
_MOST = 4
"""Generations whose codes are kept, because readers of an earlier one may still be at work."""


class _Known:
    """The pairs of one generation, by number."""

    def __init__(self, columns: tuple[list[str], list[str]]) -> None:
        self.columns = columns  # held, so that no other list can have its identity
        self.codes: dict[int, int] = {}
        self.labels: list[str] = []


class Pairs:
    """The pairs of values that two text columns have in one row. Thread-safe."""

    def __init__(self, first: str, second: str) -> None:
        self._names = first, second
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int, int], _Known] = {}

    def codes(self, snapshot: Snapshot, start: int | None = None) -> tuple[Codes, list[str]]:
        """As Snapshot.codes: -1 where one of the two values is missing. A label is both values, separated by
        BETWEEN. Raises ColumnError, which names the existing columns."""
        (ones, first), (others, second) = (snapshot.codes(name, start) for name in self._names)
        held = (ones >= 0) & (others >= 0)
        each, places = np.unique(ones[held].astype(np.int64) << 32 | others[held], return_inverse=True)
        with self._lock:
            of = snapshot.generation, id(first), id(second)
            known = self._known.get(of)
            if known is None:
                known = self._known[of] = _Known((first, second))
                while len(self._known) > _MOST:
                    del self._known[next(iter(self._known))]
            for pair in each.tolist():
                if pair not in known.codes:
                    known.codes[pair] = len(known.labels)
                    values = first[pair >> 32], second[pair & 0xFFFFFFFF]
                    known.labels.append(BETWEEN.join(value.replace(BETWEEN, " ") for value in values))
            numbers = np.array([known.codes[pair] for pair in each.tolist()], dtype=np.int32)
            found = np.full(len(ones), -1, dtype=np.int32)
            found[held] = numbers[places]
            return found, known.labels
