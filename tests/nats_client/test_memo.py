"""The memo: values computed once for all viewers of a feed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from nats_client.table.memo import MOST, Memo


def test_computed_once_per_version() -> None:
    """Callers with the same key and version get the same value; another version computes it again."""
    memo, made = Memo(), []

    def make() -> list[int]:
        made.append(1)
        return [len(made)]

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: memo.once("key", 7, make), range(200)))
    assert all(each is given[0] for each in given)
    assert memo.once("key", 8, make) == [2]
    assert memo.once("other", 8, make) == [3]


def test_least_recently_used_is_dropped() -> None:
    """Above the limit, the least recently used value is dropped."""
    memo = Memo()
    for key in range(MOST):
        memo.once(key, None, lambda: key)
    memo.once(0, None, lambda: -1)
    memo.once("one more", None, lambda: -1)
    assert memo.once(0, None, lambda: -1) == 0
    assert memo.once(1, None, lambda: -1) == -1


def test_error_is_not_cached() -> None:
    """An error is raised to the caller, and the next caller tries again."""
    memo = Memo()
    with pytest.raises(ZeroDivisionError):
        memo.once("key", 1, lambda: 1 // 0)
    assert memo.once("key", 1, lambda: 5) == 5
