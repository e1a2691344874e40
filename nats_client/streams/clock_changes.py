"""Finds the sequence at which a time begins in a stream whose storage times do not always ascend.

A server stores each message with the time of its own clock. If the clock was set back, or another node of a
cluster became the stream's leader, messages are stored with an earlier time than those before. The server
finds a time by bisection. If the times pass it at several places, the server may find any of them. So the
times around the server's answer are sampled, close by and as far as REACH away. Only if they do not ascend,
the right place is searched for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from .by_sequence import BySequence, ns

REACH = 2 * 3600 * 1_000_000_000
"""How far a clock may have been set back, ns."""
PARTS = 16
"""Parts into which the messages within REACH are divided. A time is sampled at the start of each."""

Find = Callable[[int], Awaitable[int]]
"""The sequence that the server finds for a time, ns since the epoch, UTC."""
_Place = tuple[int, int]  # a sequence, and when it was stored
_EARLIEST, _LATEST = -(2**63), 2**63 - 1


async def first_at(reader: BySequence, find: Find, at: int, time: int) -> int:
    """The sequence of the first message stored at or after `time` (ns since the epoch, UTC). `at` is the
    sequence that the server found for it. Raises RequestFailed."""
    low = min(at, await find(time - REACH))
    places = [(low - 1, _EARLIEST), *await _sample(reader, low, at, near=at), (at, _LATEST)]
    for before, after in pairwise(places):
        if after[1] >= time:
            return await _passes(reader, before, after, time)
        if after[1] < before[1]:
            top = await _top(reader, before, after)
            if top[1] >= time:
                return await _passes(reader, before, top, time)
    return at


async def all_from(reader: BySequence, find: Find, at: int, time: int) -> int:
    """The sequence from which on all messages were stored at or after `time` (ns since the epoch, UTC). `at`
    is the sequence that the server found for it. Raises RequestFailed."""
    high = max(at, await find(time + REACH))
    places = [(at - 1, _EARLIEST), *await _sample(reader, at, high, near=at), (high, _LATEST)]
    for before, after in reversed([*pairwise(places)]):
        if before[1] < time:
            return await _passes(reader, before, after, time)
        if after[1] < before[1]:
            bottom = await _at(reader, (await _top(reader, before, after))[0] + 1)
            if bottom is not None and bottom[1] < time:
                return await _passes(reader, bottom, after, time)
    return at


async def _sample(reader: BySequence, low: int, high: int, near: int) -> list[_Place]:
    """Some messages from `low` to below `high`, most of them close to `near`, which is one of the two."""
    width = high - low
    close = [2**i for i in range(width.bit_length()) if 2**i < width]
    seqs = {near + step - 1 if near == low else near - step for step in close}
    seqs |= {low + width * i // PARTS for i in range(PARTS)} if width else set()
    found = await asyncio.gather(*(_at(reader, seq) for seq in sorted(seqs)))
    return sorted({place for place in found if place is not None and place[0] < high})


async def _at(reader: BySequence, seq: int) -> _Place | None:
    """The first message at or after `seq`; None if there is none."""
    found = await reader.next_at(seq)
    return None if found is None else (int(found["seq"]), ns(found["time"]))


async def _passes(reader: BySequence, before: _Place, after: _Place, time: int) -> int:
    """Where ascending times pass `time`: the first sequence after `before` that was stored then or later."""
    low, high = before[0], after[0]
    while high - low > 1:
        middle = (low + high) // 2
        found = await _at(reader, middle)
        if found is None or found[1] >= time:
            high = middle
        else:
            low = found[0]
    return high


async def _top(reader: BySequence, before: _Place, after: _Place) -> _Place:
    """The last message before the clock was set back, between two with descending times."""
    low, high = before, after[0]
    while high - low[0] > 1:
        middle = (low[0] + high) // 2
        found = await _at(reader, middle)
        if found is None or found[0] >= high or found[1] < before[1]:
            high = middle
        else:
            low = found
    return low
