"""Codes for the distinct texts of a column, and for the tokens of subjects."""

import threading
from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd

from .values import Coded, Codes, Floats, Truths, is_iso_time, number_of


class Labels:
    """The distinct texts of a column. It only grows at its end. Any thread may read it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.code_of: dict[str | None, int] = {None: -1}
        self.nbytes = 0
        self._index: pd.Index | None = None
        self._lock = threading.Lock()
        self._tokens: dict[tuple[int, bool], Tokens] = {}
        self._numbers: Floats = np.array([np.nan])
        self._times: Truths = np.array([False])

    def encode(self, values: "Sequence[str | None] | Coded") -> Codes:
        """Codes of `values`, int32. New labels are appended."""
        if isinstance(values, Coded):
            return np.append(self.encode(values.labels), np.int32(-1))[values.codes]
        code_of, first = self.code_of, len(self.texts)
        if new := set(values).difference(code_of):
            # If all are new they keep their order, and their codes need no lookup.
            fresh = cast(Sequence[str], values if len(new) == len(values) else list(new))  # None has a code
            code_of.update(zip(fresh, range(first, first + len(fresh)), strict=True))
            self.texts.extend(fresh)
            self.nbytes += 120 * len(fresh) + sum(map(len, fresh))
            if fresh is values:
                return np.arange(first, first + len(fresh), dtype=np.int32)
        return np.fromiter(map(code_of.__getitem__, values), dtype=np.int32, count=len(values))

    def index(self) -> pd.Index:
        """The labels as a pandas Index. It has at least the labels of all snapshots taken before."""
        with self._lock:
            if self._index is None or len(self._index) != len(self.texts):
                self._index = pd.Index(list(self.texts), dtype="str")
            return self._index

    def numbers(self) -> Floats:
        """Each label read as a number, NaN if it is not one. The last entry is NaN, for rows without a
        label."""
        if len(self._numbers) <= len(self.texts):
            with self._lock:
                known = self._numbers[:-1]
                fresh = list(map(number_of, self.texts[len(known) :]))
                self._numbers = np.concatenate([known, np.array([*fresh, np.nan])])
        return self._numbers

    def times(self) -> Truths:
        """Which labels are times in ISO 8601. The last entry is False, for rows without a label."""
        if len(self._times) <= len(self.texts):
            with self._lock:
                known = self._times[:-1]
                fresh = list(map(is_iso_time, self.texts[len(known) :]))
                self._times = np.concatenate([known, np.array([*fresh, False])])
        return self._times

    def tokens(self, place: int, rest: bool) -> "Tokens":
        """The token at index `place` of each subject; with `rest`, all tokens from there on."""
        with self._lock:
            if (found := self._tokens.get((place, rest))) is None:
                found = self._tokens[place, rest] = Tokens(self, place, rest)
            return found


class Tokens:
    """One token of the subjects in `subjects`. It is computed once per distinct subject and takes no memory
    per row. Any thread may read it."""

    def __init__(self, subjects: Labels, place: int, rest: bool) -> None:
        self.labels = Labels()
        self._subjects = subjects
        self._place, self._rest = place, rest
        self._lock = threading.Lock()
        self._known = 0
        self._codes: Codes = np.zeros(0, dtype=np.int32)

    def of(self, codes: Codes) -> Codes:
        """The token's codes for rows with these subject codes."""
        if self._known < len(self._subjects.texts):
            with self._lock:
                new = self._subjects.texts[self._known :]
                fresh = self.labels.encode([self._token(subject) for subject in new])
                held = self._codes[: self._known]
                # The last entry is for rows without a subject: their code is -1.
                self._codes = np.concatenate([held, fresh, np.array([-1], dtype=np.int32)])
                self._known += len(new)
        return self._codes[codes]

    def _token(self, subject: str) -> str | None:
        parts = subject.split(".", self._place + 1) if not self._rest else subject.split(".", self._place)
        return parts[self._place] if len(parts) > self._place else None
