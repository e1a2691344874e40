"""The keys and values of a bucket at one version, as a mapping or a table."""

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
    """The bytes written; empty unless the operation is PUT."""
    revision: int
    updated: int
    """When the server stored it, ns since the epoch, UTC."""
    operation: Operation

    @property
    def value(self) -> Any:
        """The payload decoded as JSON, else as UTF-8 text, else a str with its length and its bytes in
        hex."""
        for read in (read_json, read_text):
            with suppress(ValueError):
                return read(self.payload)
        return _hex(self.payload)

    @property
    def pretty(self) -> str | None:
        """The payload as indented JSON; None if it is not JSON."""
        with suppress(ValueError, RecursionError):
            orjson.loads(self.payload)  # stricter than json: no NaN, no lone surrogates
            return json.dumps(json.loads(self.payload), indent=2, ensure_ascii=False)
        return None

    def text(self, length: int) -> str:
        """The payload as text, at most `length` characters; in hex if it is not UTF-8."""
        try:
            text = self.payload.decode()
        except UnicodeDecodeError:
            text = _hex(self.payload, length)
        return text if len(text) <= length else text[: length - 1] + "…"


def _hex(payload: bytes, most: int | None = None) -> str:
    return f"{len(payload):,} bytes: {payload[:most].hex(' ')}"


class Values(Mapping[str, Any]):
    """A mapping of the keys of a bucket, in alphabetical order, to their values at one version. Immutable and
    thread-safe.

    A value is decoded on each access, so changing a returned object or array affects no other reader. A
    missing key raises KeyNotFound, which is a KeyError and names the nearest key.

    If the bucket has more keys than may be held, the mapping is not `complete`. A key that is not held is
    then requested from the server when it is read; if that fails, TooManyKeys is raised. len() and iteration
    always raise TooManyKeys. `entries()` and `frame()` return the keys that are held.
    """

    def __init__(
        self,
        bucket: str,
        version: int,
        entries: dict[str, Entry],
        ask: Callable[[str], Entry | None] | None = None,
        unknown: Mapping[str, int] | None = None,
    ) -> None:
        """`ask` requests the newest revision of a key that is not held; None if all keys are held."""
        self.bucket = bucket
        self.version = version
        """Counter of changes since the watch began; 0 before the bucket was first read."""
        self._entries = entries
        self._ask = ask
        self._asked: dict[str, Entry | None] = {}
        self.unknown = unknown or {}
        """For values as of an earlier time: the keys that the bucket has now, but whose existence and value
        at that time are unknown. Maps each to the time at which its history begins, ns since the epoch,
        UTC."""

    @property
    def complete(self) -> bool:
        """True if all keys of the bucket are held."""
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
        """Number of keys held; if the mapping is complete, these are all keys of the bucket."""
        return self._length

    def _check_complete(self) -> None:
        if not self.complete:
            raise TooManyKeys(
                f"The bucket {self.bucket!r} has more keys than the {self._length:,} held here, so they "
                "cannot be counted or iterated over. Read single keys by name, or the held ones with "
                "entries()."
            )

    def _find(self, key: str) -> Entry | None:
        found = self._entries.get(key)
        if found is not None or self._ask is None:
            return found
        if key not in self._asked:
            self._asked[key] = self._ask(key)
        return self._asked[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`; `default` if the key does not exist. Raises TooManyKeys if it is not held and
        cannot be requested."""
        found = self._find(key)
        return found.value if found is not None and found.operation == "PUT" else default

    def entry(self, key: str) -> Entry:
        """The newest revision of `key`. Raises KeyNotFound if the key does not exist, was deleted, or is one
        of `unknown`, and TooManyKeys if it is not held and cannot be requested."""
        found = self._find(key)
        if found is not None and found.operation == "PUT":
            return found
        if (begins := self.unknown.get(key)) is not None:
            when = pd.Timestamp(begins, tz="UTC").isoformat(sep=" ", timespec="seconds")
            raise KeyNotFound(
                f"The value of {key!r} in the bucket {self.bucket!r} is not known as of then: the history of "
                f"this key that the bucket keeps begins at {when}."
            )
        how = f" any more: it was deleted with revision {found.revision}" if found else ""
        near = one_of(key, islice(self, 5000), what="key") if self.complete else ""
        raise KeyNotFound(f"The bucket {self.bucket!r} has no key {key!r}{how}. {near}".strip())

    def revision(self, key: str) -> int:
        """The number of the newest revision of `key`, even if that is a deletion; 0 if there is none."""
        found = self._find(key)
        return found.revision if found is not None else 0

    def entries(self, *, deleted: bool = False) -> list[Entry]:
        """The newest revision of each held key, sorted by key. With `deleted`, deleted keys are included if
        the bucket still keeps the deletion."""
        return [entry for entry in self._sorted if deleted or entry.operation == "PUT"]

    def frame(self, now: int) -> pd.DataFrame:
        """`entries()` as a table, with ages at `now` (ns since the epoch, UTC); see `entries_frame`."""
        return entries_frame(self.entries(), now)


def entries_frame(entries: Iterable[Entry], now: int, length: int = 300) -> pd.DataFrame:
    """A table with one row per entry: `key`, `value` (the payload as text, at most `length` characters),
    `revision` (int64), `updated` (UTC, the server's clock), `age` (Timedelta, at `now` in ns since the
    epoch), `operation`."""
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
