"""Slow runs of a page: each is counted, and there is one event each time the page becomes slow or fast
again."""

import logging
import threading
import time

import pytest

from components.inside import page_runs
from components.inside.page_runs import note_run, page_events, page_run
from components.spent import Spent, measured, timed


@pytest.fixture(autouse=True)
def own_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without slow pages."""
    monkeypatch.setattr(page_runs, "_slow", {})
    monkeypatch.setattr(page_runs, "_events", {})


def whats(page: str) -> list[str]:
    """The kinds of the page's events."""
    return [event.what for event in page_events([page]).get(page, ())]


def test_slow_and_fast_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Fifty slow runs make one event and one log line, even with fast runs between them. The page becoming
    fast again is a second event, with the number of slow runs and the longest."""
    with caplog.at_level(logging.INFO, logger="nats_client"):
        for _ in range(49):
            note_run("p", Spent(page_runs.SLOW + 1))
            note_run("p", Spent(0.1))
        note_run("p", Spent(page_runs.SLOW + 2))
        assert whats("p") == ["slow"]
        monkeypatch.setattr(page_runs, "CALM", 0.0)
        note_run("p", Spent(0.1))
        note_run("p", Spent(0.1))
    assert whats("p") == ["slow", "fast again"]
    why = page_events(["p"])["p"][-1].why
    assert why.startswith(f"50 slow runs, the longest {page_runs.SLOW + 2:.2f} s")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert all(record.getMessage().startswith("page p: ") for record in caplog.records)


def test_viewers_at_once_make_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the runs of many viewers become slow or fast at the same moment, there is one event."""
    monkeypatch.setattr(page_runs, "CALM", 0.0)
    for seconds in (page_runs.SLOW + 1, 0.0):
        ready = threading.Barrier(8)

        def run(seconds: float = seconds, ready: threading.Barrier = ready) -> None:
            ready.wait()
            for _ in range(50):
                note_run("p", Spent(seconds))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert whats("p") == ["slow", "fast again"]


def test_the_reason_names_what_took_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event has the time of the run and where it was spent: in each component, without the components it
    calls, and in the page's own code. It also has how much of it was computing."""

    @timed
    def inner_chart() -> None:
        time.sleep(0.3)

    @timed
    def outer_chart() -> None:
        inner_chart()

    monkeypatch.setattr(page_runs, "SLOW", 0.1)
    with page_run("p"):
        outer_chart()
        time.sleep(0.1)
    (event,) = page_events(["p"])["p"]
    assert "s in inner_chart, " in event.why
    assert "s in the page's own code; " in event.why
    assert "outer_chart" not in event.why
    assert event.why.endswith("s of it computing")
    took = float(event.why.split(" s, above 0.1 s: ")[0])
    in_chart = float(event.why.split(": ")[1].split(" s in inner_chart")[0])
    assert took > in_chart >= 0.3


def test_time_is_counted_once() -> None:
    """The times of components and of the components they call add up to the whole, however they are nested
    and however they end."""

    @timed
    def inner() -> None:
        time.sleep(0.02)
        raise LookupError

    @timed
    def outer() -> None:
        for _ in range(2):
            with pytest.raises(LookupError):
                inner()
        time.sleep(0.02)

    with measured(spent := Spent()):
        outer()
        outer()
    assert spent.parts["inner"] >= 0.08
    assert spent.parts["outer"] >= 0.04
    assert sum(spent.parts.values()) + spent.own == pytest.approx(spent.total)
    assert spent.computing <= spent.total


def test_wait_for_the_first_rows_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting once for the replay, at a viewer's first read, does not make a page slow."""
    spent = Spent(page_runs.SLOW + 1, parts={"wait_once": 1.5, "live": 0.1})
    note_run("p", spent)
    assert whats("p") == []


def test_a_run_that_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends with an exception counts if it was slow until then, and otherwise not."""
    for slow, events in ((60.0, []), (0.0, ["slow"])):
        monkeypatch.setattr(page_runs, "SLOW", slow)
        with pytest.raises(LookupError), page_run("p"):
            raise LookupError
        assert whats("p") == events


def test_only_the_pages_asked_for() -> None:
    """page_events() returns only the events of the named pages."""
    for page in ("mine", "secret"):
        note_run(page, Spent(page_runs.SLOW + 1))
    assert list(page_events(["mine", "none"])) == ["mine"]
