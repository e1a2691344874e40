"""Functions as they are written: to tell whether a library's own still are what they were."""

import inspect
from collections.abc import Callable
from typing import Any


def written(function: Callable[..., Any]) -> str:
    """A function's head without annotations, such as "async _close(self, status, do_cbs=True)"."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    head = signature.replace(parameters=bare, return_annotation=signature.empty)
    return f"{'async ' * inspect.iscoroutinefunction(function)}{function.__name__}{head}"


def names_in(owner: type, besides: str = "") -> set[str]:
    """The attributes that the methods of a class name, but for the method `besides`."""
    functions = [each for name, each in vars(owner).items() if inspect.isfunction(each) and name != besides]
    return {name for function in functions for name in function.__code__.co_names}
