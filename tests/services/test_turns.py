"""The order in which queries get their turns."""

import asyncio

import pytest

from services.history.turns import MOST_WAITING, Busy, Turn, Turns


def test_share_and_brief_turns() -> None:
    """One asker has at most half of the turns, besides brief ones; another asker gets the rest."""

    async def main() -> None:
        turns = Turns(4, 0.05)
        mine = [await turns.take("a") for _ in range(4)]
        assert [turn.brief for turn in mine] == [False, False, True, True]
        with pytest.raises(Busy, match="are yours"):
            await turns.take("a")
        assert not mine[2].extend()
        others = [await turns.take("b") for _ in range(2)]
        assert [turn.brief for turn in others] == [False, False]
        with pytest.raises(Busy, match="4 queries"):
            await turns.take("c")

    asyncio.run(main())


def test_a_brief_turn_becomes_a_long_one_where_there_is_one() -> None:
    """A brief turn that is extended takes a free long one, and frees the brief one."""

    async def main() -> None:
        turns = Turns(1, 5)
        long, brief = await turns.take("a"), await turns.take("b")
        assert (long.brief, brief.brief) == (False, True)
        assert not brief.extend()
        waiting = asyncio.create_task(turns.take("c"))
        await asyncio.sleep(0)
        long.release()
        assert not (await waiting).brief  # waiting callers come first
        (await waiting).release()
        assert brief.extend()
        assert (await turns.take("d")).brief
        brief.release()
        brief.release()
        assert not (await turns.take("e")).brief

    asyncio.run(main())


def test_who_has_less_comes_first() -> None:
    """Of those waiting, the asker with the fewest turns comes first, then the one that has waited longest."""

    async def main() -> None:
        turns = Turns(2, 5)
        held = [await turns.take(asker) for asker in ("a", "b", "a")]
        order: list[str] = []

        async def one(asker: str) -> Turn:
            turn = await turns.take(asker)
            order.append(asker)
            return turn

        waiting = [asyncio.create_task(one(asker)) for asker in ("a", "b", "c", "d")]
        await asyncio.sleep(0)
        for turn in held:
            turn.release()
            await asyncio.sleep(0.01)
        assert order == ["c", "b", "a"]
        waiting[-1].cancel()
        (await waiting[2]).release()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())


def test_who_waits_no_longer_takes_no_turn() -> None:
    """A wait that is cancelled, even at the moment it gets the turn, leaves the turn to others."""

    async def main() -> None:
        turns = Turns(1, 5)
        held = [await turns.take("a"), await turns.take("b")]
        waiting = [asyncio.create_task(turns.take("c")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        for turn in held:
            turn.release()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not (await turns.take("d")).brief

    asyncio.run(main())


def test_the_queue_ends() -> None:
    """The number of waiting callers is limited, and one asker may be half of them; the next is refused at
    once."""

    async def main() -> None:
        turns = Turns(1, 60)
        waiting = [
            asyncio.create_task(turns.take(asker)) for asker in ("a", "b") for _ in range(MOST_WAITING // 2)
        ]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(turns.take("c")) for _ in range(10)]
        await asyncio.sleep(0.01)
        assert sum(task.done() and isinstance(task.exception(), Busy) for task in waiting) > 5
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
