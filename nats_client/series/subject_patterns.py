"""Patterns of subjects: tokens that vary a lot are *, the others stay, as in orders.eu and devices.*.temp."""

import re
from collections.abc import Sequence

import numpy as np

from ..table.values import Codes

MOST = 64
"""Maximum number of patterns."""
FEW = 8
"""Maximum number of different tokens in one place; with more, the place becomes *. The limit is lower if
there would be more than MOST patterns."""
DEEPEST = 16
"""Maximum tokens of a pattern; > stands for all tokens after them."""
_VARIES = re.compile(
    r"[-+]?\d+(?:[_:-]\d+)*"  # numbers, dates
    r"|(?=.*\d)[0-9a-fA-F-]{8,}"  # hexadecimal digits, UUIDs
    r"|(?=.*\d)[0-9A-Za-z]{20,}"  # NUIDs
    r"|.{33,}",
    re.DOTALL,
)
"""A token that becomes * even if it is the only one in its place."""


class _Node:
    __slots__ = ("children", "leaf", "merged")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.leaf: int | None = None  # the number of the pattern that ends here
        self.merged = False  # all tokens of this place are *


class SubjectPatterns:
    """The patterns of the subjects in a list that only grows. They depend on which subjects there are, and
    not on their order. The memory depends on MOST, besides four bytes per subject. Not thread-safe."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        """Patterns by their number."""
        self.codes: Codes = np.zeros(0, dtype=np.int32)
        """The number of the pattern of each subject, by its place in the list."""
        self._root = _Node()
        self._few = FEW
        self._next = 0
        self._leaves = 0
        self._became: dict[int, int] = {}  # numbers of patterns that were merged into others

    def add(self, subjects: Sequence[str], count: int) -> bool:
        """Add the subjects of the list up to `count`. Returns True if the pattern of an earlier subject has
        changed."""
        first, known = self._next, len(self.codes)
        if count <= known:
            return False
        fresh = [self._place(subject) for subject in subjects[known:count]]
        codes = np.concatenate([self.codes, np.array(fresh, dtype=np.int32)])
        changed = any(code < first for code in self._became)
        if self._became:
            final = np.arange(self._next, dtype=np.int32)
            for code in self._became:
                final[code] = self._final(code)
            codes = final[codes]
            self._became.clear()
        self.codes = codes
        self.names = {}
        self._name(self._root, [])
        return changed

    def _final(self, code: int) -> int:
        while code in self._became:
            code = self._became[code]
        return code

    def _place(self, subject: str) -> int:
        tokens = subject.split(".", DEEPEST)
        if len(tokens) > DEEPEST:
            tokens[DEEPEST] = ">"
        node = self._root
        for token in tokens:
            name = "*" if node.merged or _VARIES.fullmatch(token) else token
            found = node.children.get(name)
            if found is None:
                found = node.children[name] = _Node()
                if self._has_many(node):
                    self._merge_tokens(node)
                    found = node.children["*"]
            node = found
        if node.leaf is None:
            node.leaf, self._next, self._leaves = self._next, self._next + 1, self._leaves + 1
            leaf = node.leaf
            while self._leaves > MOST and self._few:
                self._few -= 1
                self._tidy(self._root)
            return leaf
        return node.leaf

    def _has_many(self, node: _Node) -> bool:
        return not node.merged and len(node.children) - ("*" in node.children) > self._few

    def _tidy(self, node: _Node) -> None:
        if self._has_many(node):
            self._merge_tokens(node)
        for child in node.children.values():
            self._tidy(child)

    def _merge_tokens(self, node: _Node) -> None:
        one, others = _Node(), list(node.children.values())
        node.children, node.merged = {"*": one}, True
        for other in others:
            self._merge(one, other)

    def _merge(self, one: _Node, other: _Node) -> None:
        if one.leaf is None:
            one.leaf = other.leaf
        elif other.leaf is not None:
            self._became[other.leaf] = one.leaf
            self._leaves -= 1
        if other.merged and not one.merged:
            self._merge_tokens(one)
        for token, child in other.children.items():
            key = "*" if one.merged else token
            if key in one.children:
                self._merge(one.children[key], child)
            else:
                one.children[key] = child
        if self._has_many(one):
            self._merge_tokens(one)

    def _name(self, node: _Node, tokens: list[str]) -> None:
        if node.leaf is not None:
            self.names[node.leaf] = ".".join(tokens)
        for token, child in node.children.items():
            self._name(child, [*tokens, token])
