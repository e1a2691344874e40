"""What is worked out once for all viewers of a feed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nats_client.table.memo import MOST, Readings


def test_made_once_a_moment() -> None:
    """Who asks for the same at the same moment gets the same; another moment has it made anew."""
    readings, made = Readings(), []

    def make() -> list[int]:
        made.append(1)
        return [len(made)]

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: readings.once("key", 7, make), range(200)))
    assert all(each is given[0] for each in given)
    assert readings.once("key", 8, make) == [2]
    assert readings.once("other", 8, make) == [3]


def test_what_is_asked_for_stays() -> None:
    """Of more than are kept, the one that nobody has asked for the longest goes."""
    readings = Readings()
    for key in range(MOST):
        readings.once(key, None, lambda: key)
    readings.once(0, None, lambda: -1)
    readings.once("one more", None, lambda: -1)
    assert readings.once(0, None, lambda: -1) == 0
    assert readings.once(1, None, lambda: -1) == -1


def test_what_cannot_be_made() -> None:
    """A reading that fails is raised, and tried again by who asks next."""
    readings = Readings()
    with pytest.raises(ZeroDivisionError):
        readings.once("key", 1, lambda: 1 // 0)
    assert readings.once("key", 1, lambda: 5) == 5
