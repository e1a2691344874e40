"""The page Comparison's ratio of two counts, and its checks of the service's reply."""

from collections.abc import Callable

import pytest

from components.websocket_demo.page import _headline, _rows
from components.websocket_demo.run import COUNTED, STEADY, ComparisonRun, Ratio


def ratios(theirs: Callable[[int], float], seconds: int) -> list[float | None]:
    """The ratio at each second, if this side takes 100 bytes a second and the other side `theirs(second)`."""
    ratio, sent, found = Ratio(), 0.0, []
    for second in range(seconds):
        sent += theirs(second)
        ratio.add(second, 100.0 * second, sent)
        found.append(ratio.value())
    return found


def test_measuring_until_it_holds_still() -> None:
    """A steady ratio is reported after STEADY seconds and not before; a climbing ratio is reported once it is
    steady."""
    steady = ratios(lambda _: 800, 40)
    assert [value for value in steady if value is None] == steady[: int(STEADY)]
    assert set(steady[int(STEADY) :]) == {8.0}
    climbing = ratios(lambda second: 100 * 1.1 ** min(second, 60), 140)
    assert set(climbing[:60]) == {None}
    final = 1.1**60
    assert climbing[-1] == pytest.approx(final, rel=0.01)
    assert all(value > 0.6 * final for value in climbing if value is not None)


def test_what_went_before_is_forgotten() -> None:
    """A ratio is computed from the last minute at most. It is reported even if the rate alternates each
    second."""
    swinging = ratios(lambda second: 600 if second % 2 else 1000, 100)
    assert None not in swinging[int(2 * STEADY) :]
    assert all(value == pytest.approx(8, rel=0.1) for value in swinging if value is not None)
    assert ratios(lambda second: 800 if second < 50 else 880, 50 + int(COUNTED) + 5)[-1] == pytest.approx(8.8)


@pytest.mark.parametrize("key", ["rate", "series", "start", "published"])
@pytest.mark.parametrize("value", ["<img src=x onerror=alert(1)>", None, [], float("inf"), "1<b>"])
def test_no_text_of_the_service_is_taken(key: str, value: object) -> None:
    """A reply in which a number is missing or not a number is refused, and nothing of it reaches the page."""
    run = ComparisonRun()
    right = {"rate": 1, "series": 1, "start": 1, "published": 1, "server": None, "connection": None}
    run._take_reply(right)
    before = _headline(run), _rows(run)
    with pytest.raises((LookupError, TypeError, ValueError, OverflowError)):
        run._take_reply({**right, key: value})
    assert (_headline(run), _rows(run)) == before
    for server in ({"cpu": "<b>", "port": 1, "compression": 1}, {"cpu": 1, "port": "1 *;", "compression": 1}):
        with pytest.raises(ValueError):
            run._take_reply({**right, "server": server})
        assert run.port is None
