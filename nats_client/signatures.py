"""Signatures and attribute names of a library's classes, to detect changes in private code that we use."""

import inspect
from collections.abc import Callable
from typing import Any


def written(function: Callable[..., Any]) -> str:
    """A function's signature without annotations, such as "async _close(self, status, do_cbs=True)"."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    head = signature.replace(parameters=bare, return_annotation=signature.empty)
    return f"{'async ' * inspect.iscoroutinefunction(function)}{function.__name__}{head}"


def names_in(owner: type, besides: str = "") -> set[str]:
    """Names of globals and attributes that the methods of `owner` use, except the method `besides`."""
    functions = [each for name, each in vars(owner).items() if inspect.isfunction(each) and name != besides]
    return {name for function in functions for name in function.__code__.co_names}
