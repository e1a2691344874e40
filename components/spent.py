"""Measures where the time of a page's run goes: by component, and the page's own code."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Spent:
    """The time of one run, in seconds."""

    total: float = 0.0
    computing: float = 0.0
    """CPU time of the run's own thread. For the rest of `total` the thread waited: for NATS, for a lock or
    for a CPU core."""
    parts: dict[str, float] = field(default_factory=dict)
    """By component, without the time of the components that it called."""
    inner: float = 0.0
    """Time of the components that the current component has called."""

    @property
    def own(self) -> float:
        """Time outside of the components: the page's own code."""
        return max(0.0, self.total - sum(self.parts.values()))


_current: ContextVar[Spent | None] = ContextVar("spent", default=None)


@contextmanager
def measured(spent: Spent) -> Iterator[None]:
    """Measure the block into `spent`, which is complete when the block ends, even with an exception."""
    token = _current.set(spent)
    began, computed = time.perf_counter(), time.thread_time()
    try:
        yield
    finally:
        spent.total = time.perf_counter() - began
        spent.computing = time.thread_time() - computed
        _current.reset(token)


def timed(function: Callable[P, T]) -> Callable[P, T]:
    """Measure the calls of `function` under its name."""
    name = function.__name__

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        spent = _current.get()
        if spent is None:
            return function(*arguments, **options)
        before, spent.inner = spent.inner, 0.0
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            took = time.perf_counter() - began
            spent.parts[name] = spent.parts.get(name, 0.0) + took - spent.inner
            spent.inner = before + took

    return call
