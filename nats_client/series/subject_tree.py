"""Subjects as a tree of tokens with numbers and rates of messages, of which some levels are open."""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..table.labels import Labels
from ..table.snapshot import Snapshot
from ..table.values import Codes, Ints, Truths

DEEPEST = 16
"""Maximum levels of the tree; deeper tokens are joined to one token of the last level."""
MOST_CHILDREN = 100
"""Maximum branches of one level: those that are open, and those with the most messages."""
MOST_BRANCHES = 1_000
"""Maximum branches in all."""
MOST_OPEN = 30
"""Maximum levels that are open at the same time."""
OPENED = 200
"""Maximum number of branches with which a search still opens levels by itself."""
_SPARE = 10_000
"""Minimum number of subjects that are kept after they have left the window."""
RECENT = 10 * 10**9
"""The time over which the rate is measured, ns."""


@dataclass(frozen=True)
class Branch:
    """A token in one place, and the subjects that begin with its path."""

    path: str
    """The tokens up to here."""
    depth: int
    """0 for a first token."""
    token: str
    """Empty for the subject `path` itself, which is a branch beside the longer subjects."""
    subjects: int
    messages: int
    per_second: float
    goes_on: bool
    """True if it has branches."""
    is_open: bool
    """True if its branches follow in the list."""
    left_out: int
    """Branches of it that do not follow, because there are too many."""


@dataclass(frozen=True)
class Branches:
    """The part of a tree that is open."""

    found: list[Branch]
    """The branches in alphabetical order, each followed by its own branches."""
    subjects: int
    """Number of matching subjects in all."""
    left_out: int
    """First tokens that are not shown, because there are too many."""


class SubjectTree:
    """The subjects of a window, and those of the stream's own counts, that contain `text`, whatever its case.

    Without the stream's own counts, messages are counted from the rows. Thread-safe.
    """

    def __init__(self, text: str = "") -> None:
        self._lock = threading.Lock()
        self._labels = Labels()
        self._of: Labels | None = None  # the labels of the rows; its codes are translated
        self._codes: Codes = np.zeros(0, dtype=np.int32)
        self._counts: Mapping[str, int] | None = None  # of which the codes and numbers are known
        self._listed: Codes = np.zeros(0, dtype=np.int32)
        self._numbers: Ints = np.zeros(0, dtype=np.int64)
        self._text = text.lower()
        self._matched: Labels | None = None
        self._matches: Truths = np.zeros(0, dtype=np.bool_)

    @property
    def nbytes(self) -> int:
        """Estimated bytes."""
        arrays = (self._codes, self._matches, self._listed, self._numbers)
        return self._labels.nbytes + sum(each.nbytes for each in arrays)

    def branches(
        self, rows: Snapshot, now: int, counts: Mapping[str, int] | None, opened: Collection[str]
    ) -> Branches:
        """The tree with the levels of the paths `opened`. `counts`: the stream's number of messages by
        subject, if known; the mapping must not change. `now`: ns since the epoch, UTC."""
        with self._lock:
            labels, messages, recent, there = self._counted(rows, now, counts)
            if self._text:
                there = there & self._matching(labels, len(there))
            codes = np.flatnonzero(there).astype(np.int32)
            walk = _Walk(labels, messages, recent, set(list(opened)[:MOST_OPEN]), bool(self._text))
            left_out = walk.level(codes, "", 0)
            return Branches(walk.found, len(codes), left_out)

    def _counted(
        self, rows: Snapshot, now: int, counts: Mapping[str, int] | None
    ) -> tuple[Labels, Ints, Ints, Truths]:
        """By subject: all messages, messages of the last RECENT ns, and whether the subject still exists."""
        part = rows.received_as("_subject")
        texts = part.labels.texts
        if counts is None:
            messages, recent = _count(rows, now, part.data, len(texts))
            return part.labels, messages, recent, messages > 0
        if len(self._labels.texts) > 2 * (len(texts) + len(counts)) + _SPARE:
            self._labels, self._of, self._counts = Labels(), None, None  # most of its subjects are gone
        if part.labels is not self._of:
            self._of, self._codes = part.labels, np.zeros(0, dtype=np.int32)
        self._codes = np.concatenate([self._codes, self._labels.encode(texts[len(self._codes) :])])
        if counts is not self._counts:
            self._counts, self._listed = counts, self._labels.encode(list(counts))
            self._numbers = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
        listed = self._listed
        size = len(self._labels.texts)
        seen, recent = _count(rows, now, self._codes[part.data], size)
        there = seen > 0
        messages = np.zeros(size, dtype=np.int64)
        messages[listed] = self._numbers
        there[listed] = True
        return self._labels, messages, recent, there

    def _matching(self, labels: Labels, count: int) -> Truths:
        if labels is not self._matched:
            self._matched, self._matches = labels, np.zeros(0, dtype=np.bool_)
        fresh = [self._text in subject.lower() for subject in labels.texts[len(self._matches) : count]]
        self._matches = np.concatenate([self._matches, np.array(fresh, dtype=np.bool_)])
        return self._matches[:count]


def _count(rows: Snapshot, now: int, codes: Codes, size: int) -> tuple[Ints, Ints]:
    """Messages by code: all, and those of the last RECENT ns. Several rows may be of one message."""
    if not len(rows):
        return np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    first = np.diff(rows.seq, prepend=rows.seq[0] - 1) != 0
    start = int(np.searchsorted(rows.received, now - RECENT, "right"))
    recent = codes[start:][first[start:]]
    return np.bincount(codes[first], minlength=size), np.bincount(recent, minlength=size)


class _Walk:
    """Collects the branches of open levels."""

    def __init__(
        self, labels: Labels, messages: Ints, recent: Ints, opened: set[str], searched: bool
    ) -> None:
        self.found: list[Branch] = []
        self._labels, self._messages, self._recent = labels, messages, recent
        self._opened, self._searched = opened, searched

    def level(self, codes: Codes, path: str, depth: int) -> int:
        """Add the branches of `path`, to which the subjects `codes` belong. Returns how many are left out."""
        place = self._labels.tokens(depth, depth == DEEPEST - 1)
        used, slot = _slots(place.of(codes), len(place.labels.texts))
        deeper, size = self._goes_on(codes, depth), len(used)
        subjects = np.bincount(slot, minlength=size)
        messages = np.bincount(slot, weights=self._messages[codes], minlength=size)
        recent = np.bincount(slot, weights=self._recent[codes], minlength=size)
        goes_on = np.bincount(slot[deeper], minlength=size) > 0
        there = np.flatnonzero(subjects)
        most = max(0, min(MOST_CHILDREN, MOST_BRANCHES - len(self.found)))
        left_out = max(0, len(there) - most)
        if left_out:
            shut = ~np.isin(used[there], self._open_below(path, place.labels))
            there = there[np.lexsort((there, -messages[there], shut))[:most]]
        # A subject that ends here has no token, and the code -1.
        texts = {each: place.labels.texts[used[each]] if used[each] >= 0 else "" for each in there.tolist()}
        for each, token in sorted(texts.items(), key=lambda item: _by_name(item[1])):
            own = f"{path}.{token}" if path and token else path or token
            is_open = bool(goes_on[each]) and (own in self._opened or self._opens(subjects[each]))
            at = len(self.found)
            self.found.append(
                Branch(
                    own,
                    depth,
                    token,
                    int(subjects[each]),
                    int(messages[each]),
                    float(recent[each]) * 10**9 / RECENT,
                    bool(goes_on[each]),
                    is_open,
                    0,
                )
            )
            if is_open:
                more = self.level(codes[slot == each], own, depth + 1)
                if more:
                    self.found[at] = replace(self.found[at], left_out=more)
        return left_out

    def _open_below(self, path: str, tokens: Labels) -> list[int]:
        """The codes of those tokens after `path` that are open."""
        start = f"{path}." if path else ""
        below = [each[len(start) :] for each in self._opened if each.startswith(start)]
        return [tokens.code_of[token] for token in below if token in tokens.code_of]

    def _opens(self, subjects: int) -> bool:
        """True if a search opens a branch with so many subjects by itself."""
        return self._searched and len(self.found) + subjects <= OPENED

    def _goes_on(self, codes: Codes, depth: int) -> Truths:
        """True for the subjects that have a token after the one at `depth`."""
        if depth == DEEPEST - 1:
            return np.zeros(len(codes), dtype=np.bool_)
        after = self._labels.tokens(depth + 1, depth + 1 == DEEPEST - 1)
        return np.asarray(after.of(codes) >= 0)


def _slots(tokens: Codes, most: int) -> tuple[Codes, Ints]:
    """The codes that may occur, and the index of each of `tokens` among them."""
    if len(tokens) * 8 < most:
        used, slots = np.unique(tokens, return_inverse=True)
        return used, slots
    return np.arange(-1, most, dtype=np.int32), tokens + np.int64(1)


def _by_name(token: str) -> tuple[bool, int, str]:
    """Numbers by their value, before all other tokens."""
    return (False, len(token), token) if token.isdecimal() else (True, 0, token)
