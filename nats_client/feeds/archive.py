"""The rows of a stream from before its own history: out of the archive that a history service keeps.

Where the two meet is a sequence and not a time, so there is no seam: the archive is asked for what lies below
the oldest row of the window. The question is SQL over the table `messages`, as docs/history.md describes it.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..decoding.decoders import Raw
from ..errors import AnswerBroken, LookbackError
from ..requests.query import Query

PART = 50_000
"""Rows that are fetched at once, the newest first."""

_EXTENT = """
SELECT min(seq) AS first, min(time) AS first_time, max(seq) AS last, max(time) AS last_time
FROM messages WHERE stream = $stream AND created = CAST($created AS TIMESTAMPTZ)"""
# Anchored at both ends, since DuckDB's ~ matches the whole and PostgreSQL's any part.
_WHICH = """
FROM messages WHERE stream = $stream AND created = CAST($created AS TIMESTAMPTZ)
AND seq < $before AND time >= CAST($since AS TIMESTAMPTZ) AND subject ~ $pattern"""
_COUNT = f"SELECT count(*) AS rows {_WHICH}"
_ROWS = f"SELECT seq, time, subject, payload, raw {_WHICH} ORDER BY seq DESC LIMIT {PART}"


@dataclass(frozen=True)
class Extent:
    """What the archive holds of a stream; sequences are 0 where it holds nothing."""

    created: str = ""
    """When that stream was created: another one of the same name has nothing to do with it."""
    first: int = 0
    first_time: int = 0
    """When the server had stored that message, ns since the epoch, UTC; the database keeps microseconds."""
    last: int = 0
    last_time: int = 0


class Archive:
    """Questions to the archive about one stream and filter. Everything here runs on the client's loop."""

    def __init__(self, ask: Callable[[dict[str, Any]], Query], stream: str, subject: str | None) -> None:
        """`ask` puts a question to the history service."""
        self.extent = Extent()
        """As it was when it was last looked at."""
        self.error: LookbackError | None = None
        """Why the archive cannot be read at the moment."""
        self.done = 0
        """Rows of the current fetch so far."""
        self.pending = 0
        """Rows that are still to come."""
        self._ask = ask
        self._stream = stream
        self._pattern = _pattern(subject or ">")

    async def look(self, created: str) -> Extent:
        """What the archive holds of the stream that was created at that time (ISO 8601). Raises
        LookbackError."""
        row = (await self._answer(_EXTENT, created)).iloc[0].to_dict()
        times = [pd.Timestamp(row[name]) for name in ("first_time", "last_time")]
        if not any(map(pd.isna, times)):
            first, last = (int(time.as_unit("ns").value) for time in times)
            self.extent = Extent(created, int(row["first"]), first, int(row["last"]), last)
        else:
            self.extent = Extent(created)
        return self.extent

    async def holds(self, created: str, seq: int) -> int:
        """The newest sequence that is archived; looked up only where it was below `seq` when last seen."""
        known = self.extent.created == created and self.extent.last >= seq
        return (self.extent if known else await self.look(created)).last

    async def rows(self, created: str, since: int, before: int) -> AsyncIterator[Raw]:
        """Messages below the sequence `before` that were stored at or after `since` (ns since the epoch,
        UTC), in parts: the newest part first, each in order. Raises LookbackError."""
        asked = {"since": pd.Timestamp(since, unit="ns", tz="UTC").isoformat(timespec="microseconds")}
        asked["pattern"] = self._pattern
        counted = await self._answer(_COUNT, created, before=before, **asked)
        self.done, self.pending = 0, int(counted["rows"].iloc[0])
        try:
            while self.pending:
                part = (await self._answer(_ROWS, created, before=before, **asked)).iloc[::-1]
                if not len(part):
                    return
                raw = _raw(part)
                before = raw.seq[0]
                self.done += len(raw)
                self.pending = max(0, self.pending - len(raw))
                yield raw
        finally:
            self.pending = 0

    async def _answer(self, sql: str, created: str, **parameters: Any) -> pd.DataFrame:
        named = {"stream": self._stream, "created": _microseconds(created), **parameters}
        query = self._ask({"sql": sql, "parameters": named})
        try:
            await query.ended()
            if query.state != "done":
                raise query.error or AnswerBroken("The archive did not answer in full.")
            return query.frame()
        finally:
            await query.close()


def _raw(rows: pd.DataFrame) -> Raw:
    payloads = [
        raw if isinstance(raw, bytes) else str(text).encode()
        for text, raw in zip(rows["payload"], rows["raw"], strict=True)
    ]
    times = rows["time"].dt.as_unit("ns").astype("int64").tolist()
    return Raw(rows["seq"].astype("int64").tolist(), times, rows["subject"].astype(str).tolist(), payloads)


def _pattern(subject: str) -> str:
    """A filter as a regular expression."""
    wild = {"*": "[^.]+", ">": ".+"}
    return "^" + r"\.".join(wild.get(token) or re.escape(token) for token in subject.split(".")) + "$"


def _microseconds(time: str) -> str:
    """An ISO 8601 time as databases keep it: cut to microseconds, not rounded."""
    return pd.Timestamp(time).floor("us").isoformat()
