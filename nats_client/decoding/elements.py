"""Rows from an array inside a payload: "json:data.readings" has one row per element of that array."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import SettingsError
from .decoder import LONGEST_TEXT, Decoder, Row

DEEPEST = 4
"""Levels of objects around the array whose fields are repeated."""
MOST_REPEATED = 4_000_000
"""Values of fields around the array that are repeated in the rows of one message."""
MOST_ELEMENTS = 1_000_000
"""Elements of the arrays of one message."""
_SCALARS = (str, int, float, bool, type(None))


def with_path(name: str, read: Callable[[bytes], Any]) -> Decoder:
    """The decoder `name`, which reads a payload with `read`, and takes a path as its option."""

    def configured(path: str) -> Decoder:
        keys = check_path(name, path)
        return Decoder(lambda payload: elements_at(read(payload), keys))

    return Decoder(read, configured=configured)


def check_path(name: str, path: str) -> list[str]:
    """The keys of a path such as "data.readings". Raises SettingsError."""
    keys = path.split(".")
    if not all(keys) or keys[0] == "$" or any(each in path for each in "[]*#"):
        raise SettingsError(
            f"The decoder {name!r} takes the path of an array, names with dots between them, such as "
            f"'{name}:data.readings', and not {path[:100]!r}."
        )
    return keys


def elements_at(value: Any, keys: list[str]) -> list[Any]:
    """One row per element of the array at the path `keys`: its fields, or the column `value` if it is not an
    object. The single values of the objects around it are repeated in each row. If the payload has several
    values, or the path leads through an array, the rows of all of them are returned. A field around the array
    that has the name of an element's field gets " (2)" at its end. Raises ValueError if there is no array."""
    found = [part for each in (value if type(value) is list else [value]) for part in _arrays(each, keys, "")]
    count = sum(len(items) for items, _ in found)
    if count > MOST_ELEMENTS:
        raise ValueError(f"more than {MOST_ELEMENTS:,} elements at {'.'.join(keys)!r}")
    if sum(len(items) * sum(map(len, around)) for items, around in found) > MOST_REPEATED:
        raise ValueError(
            f"{count:,} elements at {'.'.join(keys)!r}, and too many fields around them to repeat for each"
        )
    return [row for items, around in found for row in _rows(items, around)]


def _arrays(value: Any, keys: list[str], path: str) -> Iterator[tuple[list[Any], tuple[Row, ...]]]:
    """Each array at the path `keys`, with the fields of each object around it by their dotted names. `path`
    is the path of `value` itself. Raises ValueError if there is no array."""
    if type(value) is not dict:
        raise ValueError(_what_is_there(value, keys, path))
    whole = ".".join(keys)
    key, rest = (whole, []) if whole in value else (keys[0], keys[1:])
    at = _joined(path, key)
    if key not in value:
        raise ValueError(f"no array at {_joined(path, whole)!r}: there is no field {at!r}")
    held, around = value[key], _around({name: each for name, each in value.items() if name != key}, path)
    if not rest:
        if type(held) is not list:
            raise ValueError(_what_is_there(held, [], at))
        yield held, (around,)
        return
    for each in held if type(held) is list else [held]:
        for items, inner in _arrays(each, rest, at):
            yield items, (around, *inner)


def _around(fields: Row, path: str) -> Row:
    """The single values of an object and of the objects nested in it, by their dotted names."""
    found: Row = {}
    waiting = deque([(path, fields, 0)])
    while waiting:
        start, held, depth = waiting.popleft()
        for name, value in held.items():
            own = _joined(start, name)
            if type(value) is dict and depth < DEEPEST:
                waiting.append((own, value, depth + 1))
            elif type(value) is str and len(value) > LONGEST_TEXT:
                _put(found, own, f"{value[: LONGEST_TEXT - 1]}…")  # cut once, and not once for each row
            elif type(value) in _SCALARS:
                _put(found, own, value)
    return found


def _rows(items: list[Any], around: tuple[Row, ...]) -> Iterator[Row]:
    objects = [item for item in items if type(item) is dict]
    taken = set().union(*objects) if objects else set()
    if len(objects) < len(items):
        taken.add("value")
    beside: Row = {}
    for name, value in [pair for each in around if items for pair in each.items()]:
        _put(beside, name, value, taken)
    for item in items:
        yield {**(item if type(item) is dict else {"value": item}), **beside}


def _put(row: Row, name: str, value: Any, taken: "set[str] | frozenset[str]" = frozenset()) -> None:
    while name in row or name in taken:
        name += " (2)"
    row[name] = value


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _what_is_there(value: Any, keys: list[str], path: str) -> str:
    kind = {dict: "an object", list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    what = kind.get(type(value), "a number" if isinstance(value, int | float) else "another value")
    asked = _joined(path, ".".join(keys))
    return f"no array at {asked!r}: " + (f"{path!r} is {what}" if path else f"the payload is {what}")
