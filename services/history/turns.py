"""Limits the running queries: a number at once, a fair share for each asker, a bounded queue.

A long query needs one of `at_once` turns, of which an asker gets at most half. Half as many again are for
queries that end soon, so a small query is answered while long ones have all other turns. A query that does
not end within BRIEF seconds needs an ordinary turn, and ends if none is free.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass

BRIEF = 4.0  # seconds; enough for a small query, also on a busy machine
MOST_WAITING = 256  # requests; at most half of them of one asker


class Busy(Exception):  # noqa: N818 - a state that passes
    """No turn is free. The text says whose queries hold the turns."""


@dataclass(eq=False)
class Turn:
    """One query's turn."""

    turns: "Turns"
    asker: str
    brief: bool
    """True if it is for BRIEF seconds only."""

    def extend(self) -> bool:
        """Make it an ordinary turn, if one is free for its asker. Returns False if not."""
        if self.brief and self.turns._has_room(self.asker, brief=False):
            self.turns._held[True].remove(self)
            self.turns._held[False].add(self)
            self.brief = False
            self.turns._give()
        return not self.brief

    def release(self) -> None:
        """Free the turn. Idempotent."""
        held = self.turns._held[self.brief]
        if self in held:
            held.remove(self)
            self.turns._give()


@dataclass(eq=False)
class _Waiting:
    asker: str
    turn: asyncio.Future[Turn]


class Turns:
    """The turns of one database. Everything happens on one event loop."""

    def __init__(self, at_once: int, patience: float) -> None:
        """`patience`: seconds that a query waits for a turn, at most."""
        self.at_once = at_once
        self.brief = max(1, at_once // 2)
        self._patience = patience
        self._held: dict[bool, set[Turn]] = {False: set(), True: set()}
        self._queue: list[_Waiting] = []

    async def take(self, asker: str) -> Turn:
        """Wait for a turn: first come, first served, but askers with fewer turns first. Raises Busy."""
        mine = sum(waiting.asker == asker for waiting in self._queue)
        if len(self._queue) >= MOST_WAITING or mine >= MOST_WAITING // 2:
            raise Busy(f"{len(self._queue)} requests are waiting.")
        waiting = _Waiting(asker, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._give()
        try:
            await asyncio.wait({waiting.turn}, timeout=self._patience)
            if not waiting.turn.done():
                raise Busy(self.in_words(asker))
            return waiting.turn.result()
        except asyncio.CancelledError:
            if waiting.turn.done():
                waiting.turn.result().release()
            raise
        finally:
            if waiting in self._queue:
                self._queue.remove(waiting)

    def in_words(self, asker: str) -> str:
        """Why there is no turn."""
        if self._has_its_share(asker):
            return f"{self._share} of its turns, as many as one asker may have, are yours."
        return f"It is at work on {self.at_once} queries."

    @property
    def _share(self) -> int:
        return max(1, (self.at_once + 1) // 2)

    def _has_its_share(self, asker: str) -> bool:
        return sum(turn.asker == asker for turn in self._held[False]) >= self._share

    def _has_room(self, asker: str, *, brief: bool) -> bool:
        if brief:  # no share here: such a turn is soon free again
            return len(self._held[True]) < self.brief
        return len(self._held[False]) < self.at_once and not self._has_its_share(asker)

    def _give(self) -> None:
        """Assign free turns."""
        while True:
            held = Counter(turn.asker for turns in self._held.values() for turn in turns)
            for waiting in sorted(self._queue, key=lambda each: held[each.asker]):
                brief = not self._has_room(waiting.asker, brief=False)
                if not brief or self._has_room(waiting.asker, brief=True):
                    self._queue.remove(waiting)
                    turn = Turn(self, waiting.asker, brief)
                    self._held[brief].add(turn)
                    waiting.turn.set_result(turn)
                    break
            else:
                return
