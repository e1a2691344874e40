"""The keys of a bucket and their values at one version, and tables of them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, Literal

import orjson
import pandas as pd

from ..decoding.json_payloads import read_json
from ..decoding.text_payloads import read_text
from ..errors import KeyNotFound, TooManyKeys, one_of

Operation = Literal["PUT", "DEL", "PURGE"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision of a key."""

    key: str
    payload: bytes
    """What was written; empty where the operation is not PUT."""
    revision: int
    updated: int
    """When the server stored it, ns since the epoch, UTC."""
    operation: Operation

    @property
    def value(self) -> Any:
        """The payload as what it is: JSON, else text, else a text with its bytes in hex and their number."""
        for read in (read_json, read_text):
            with suppress(ValueError):
                return read(self.payload)
        return _hex(self.payload)

    @property
    def pretty(self) -> str | None:
        """JSON on lines of its own, indented; None where the payload is none."""
        with suppress(ValueError, RecursionError):
            orjson.loads(self.payload)  # stricter: no NaN, no half of a character
            return json.dumps(json.loads(self.payload), indent=2, ensure_ascii=False)
        return None

    def text(self, length: int) -> str:
        """The payload as it was written, at most `length` characters of it; bytes that are no text in hex."""
        try:
            text = self.payload.decode()
        except UnicodeDecodeError:
            text = _hex(self.payload, length)
        return text if len(text) <= length else text[: length - 1] + "…"


def _hex(payload: bytes, most: int | None = None) -> str:
    return f"{len(payload):,} bytes: {payload[:most].hex(' ')}"


class Values(Mapping[str, Any]):
    """The keys of a bucket, in alphabetical order, and their values, at one version. It never changes, and
    may be read in any thread.

    A value is decoded as it is read, so objects and arrays are the reader's own. A key that is not there is
    a KeyNotFound, which is a KeyError and names the nearest keys.

    Where the bucket has more keys than may be held, it is not `complete`: the server is asked for a key that
    is not held when somebody reads it. TooManyKeys is raised where it can't be, and by len() and iteration.
    `entries()` and `frame()` then give the keys that are held.
    """

    def __init__(
        self,
        bucket: str,
        version: int,
        entries: dict[str, Entry],
        ask: Callable[[str], Entry | None] | None = None,
    ) -> None:
        """`ask` gives the newest revision of a key that is not held; None where all are."""
        self.bucket = bucket
        self.version = version
        """Counts the changes since the watch began; 0 while nothing is known of the bucket yet."""
        self._entries = entries
        self._ask = ask
        self._asked: dict[str, Entry | None] = {}

    @property
    def complete(self) -> bool:
        """Whether all keys of the bucket are held."""
        return self._ask is None

    @cached_property
    def _length(self) -> int:
        return sum(entry.operation == "PUT" for entry in self._entries.values())

    @cached_property
    def _sorted(self) -> list[Entry]:
        return sorted(self._entries.values(), key=attrgetter("key"))

    def __getitem__(self, key: str) -> Any:
        return self.entry(key).value

    def __iter__(self) -> Iterator[str]:
        self._check_complete()
        return (entry.key for entry in self._sorted if entry.operation == "PUT")

    def __len__(self) -> int:
        self._check_complete()
        return self._length

    def __contains__(self, key: object) -> bool:
        found = self._find(key) if isinstance(key, str) else None
        return found is not None and found.operation == "PUT"

    @property
    def held(self) -> int:
        """How many keys are held: all that the bucket has, where the mapping is complete."""
        return self._length

    def _check_complete(self) -> None:
        if not self.complete:
            raise TooManyKeys(
                f"The bucket {self.bucket!r} has more keys than the {self._length:,} that its mapping may "
                "hold, so they can be neither counted nor gone through. Read each key by its name, or those "
                "that are held with entries()."
            )

    def _find(self, key: str) -> Entry | None:
        found = self._entries.get(key)
        if found is not None or self._ask is None:
            return found
        if key not in self._asked:
            self._asked[key] = self._ask(key)
        return self._asked[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`; `default` where there is none."""
        found = self._find(key)
        return found.value if found is not None and found.operation == "PUT" else default

    def entry(self, key: str) -> Entry:
        """The newest revision of `key`. Raises KeyNotFound when it is not there, or deleted."""
        found = self._find(key)
        if found is not None and found.operation == "PUT":
            return found
        how = f" any more: it was deleted with revision {found.revision}" if found else ""
        near = one_of(key, islice(self, 5000), what="key") if self.complete else ""
        raise KeyNotFound(f"The bucket {self.bucket!r} has no key {key!r}{how}. {near}".strip())

    def revision(self, key: str) -> int:
        """The newest revision of `key`, also where that is a deletion; 0 where there is none."""
        found = self._find(key)
        return found.revision if found is not None else 0

    def entries(self, *, deleted: bool = False) -> list[Entry]:
        """The newest revision of each key that is held, by key; with `deleted`, also of those whose
        deletion the bucket still keeps."""
        return [entry for entry in self._sorted if deleted or entry.operation == "PUT"]

    def frame(self, now: int) -> pd.DataFrame:
        """A table of `entries()` at `now` (ns since the epoch), as `entries_frame` makes it."""
        return entries_frame(self.entries(), now)


def entries_frame(entries: Iterable[Entry], now: int, length: int = 300) -> pd.DataFrame:
    """A row for each entry: `key`, `value` (text as it was written, at most `length` characters), `revision`,
    `updated` (UTC, the server's clock), `age` (a Timedelta, at `now` in ns since the epoch), `operation`."""
    rows = list(entries)
    updated = pd.to_datetime([entry.updated for entry in rows], utc=True).as_unit("ns")
    return pd.DataFrame(
        {
            "key": pd.Series([entry.key for entry in rows], dtype="str"),
            "value": pd.Series([entry.text(length) for entry in rows], dtype="str"),
            "revision": pd.Series([entry.revision for entry in rows], dtype="int64"),
            "updated": updated,
            "age": pd.Timestamp(now, tz="UTC") - updated,
            "operation": pd.Series([entry.operation for entry in rows], dtype="str"),
        }
    )
