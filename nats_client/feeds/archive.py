"""Reads messages that have left a stream from the archive of a history service.

Stream and archive are joined by sequence and not by time, so nothing is missing or duplicated: the archive is
queried for rows below the oldest sequence of the window. The query is SQL over the table `messages`, which
docs/history.md describes.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..decoding.raw import Raw
from ..errors import AnswerBroken, LookbackError
from ..requests.query import Query
from ..subjects import filters_of

LATEST = 2**63 - 1
"""The latest time that int64 can hold, ns since the epoch, UTC: in the year 2262."""
PART = 50_000
"""Rows per query, newest first."""

_EXTENT = """
SELECT min(seq) AS first, min(time) AS first_time, max(seq) AS last, max(time) AS last_time
FROM messages WHERE stream = $stream AND created = CAST($created AS TIMESTAMPTZ)"""
# Anchored at both ends, because DuckDB's ~ matches the whole text and PostgreSQL's any part of it.
_WHICH = """
FROM messages WHERE stream = $stream AND created = CAST($created AS TIMESTAMPTZ)
AND seq < $before AND subject ~ $pattern"""
_WHEN = "AND time >= CAST($since AS TIMESTAMPTZ) AND time < CAST($end AS TIMESTAMPTZ)"
_COUNT = f"SELECT count(*) AS rows, min(seq) AS first, max(seq) AS last {_WHICH} {_WHEN}"
_ABOVE = f"SELECT count(*) AS rows {_WHICH} AND seq >= $seq {_WHEN}"
# By sequence: a server whose clock was set back stored messages out of the order of their times.
_ROWS = f"""
SELECT seq, time, subject, payload, raw {_WHICH} AND seq >= $first ORDER BY seq DESC LIMIT {PART}"""


@dataclass(frozen=True)
class Extent:
    """The range of a stream that the archive holds; sequences are 0 if it holds nothing."""

    created: str = ""
    """When that stream was created. It distinguishes streams of the same name."""
    first: int = 0
    first_time: int = 0
    """When the server stored that message, ns since the epoch, UTC; the database keeps microseconds."""
    last: int = 0
    last_time: int = 0


class Archive:
    """Queries the archive for one stream and filter. Everything here runs on the client's loop."""

    def __init__(self, ask: Callable[[dict[str, Any]], Query], stream: str, subject: str | None) -> None:
        """`ask` sends a query to the history service."""
        self.extent = Extent()
        """The range at the last query."""
        self.error: LookbackError | None = None
        """Why the archive cannot be read now; None if it can."""
        self.done = 0
        """Rows of the current fetch received so far."""
        self.pending = 0
        """Rows of the current fetch still to come."""
        self._ask = ask
        self._stream = stream
        self._pattern = _pattern(subject or ">")

    async def query_extent(self, created: str) -> Extent:
        """Query the range that the archive holds of the stream created at `created` (ISO 8601). Raises
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
        """The newest archived sequence. Queried only if the last known one is below `seq`. Raises
        LookbackError."""
        known = self.extent.created == created and self.extent.last >= seq
        return (self.extent if known else await self.query_extent(created)).last

    async def rows(self, created: str, since: int, before: int, end: int | None = None) -> AsyncIterator[Raw]:
        """All messages below the sequence `before`, from the first to the last that was stored at or after
        `since` and before `end` (ns since the epoch, UTC). They are returned in batches: the newest batch
        first, each in ascending order. Raises LookbackError."""
        times = {"since": _text(since), "end": _text(LATEST if end is None else end)}
        of = {"pattern": self._pattern}
        counted = (await self._answer(_COUNT, created, before=before, **times, **of)).iloc[0].to_dict()
        self.done, self.pending = 0, int(counted["rows"])
        if not self.pending:
            return
        first, before = int(counted["first"]), int(counted["last"]) + 1
        try:
            while before > first:
                part = (await self._answer(_ROWS, created, before=before, first=first, **of)).iloc[::-1]
                if not len(part):
                    return
                raw = _raw(part)
                before = raw.seq[0]
                self.done += len(raw)
                self.pending = max(0, self.pending - len(raw))
                yield raw
        finally:
            self.pending = 0

    async def any_above(self, created: str, since: int, end: int, seq: int, below: int) -> bool:
        """True if there are messages with a sequence from `seq` to below `below` that were stored at or after
        `since` and before `end` (ns since the epoch, UTC). Raises LookbackError."""
        found = await self._answer(
            _ABOVE,
            created,
            since=_text(since),
            end=_text(end),
            seq=seq,
            before=below,
            pattern=self._pattern,
        )
        return bool(found["rows"].iloc[0])

    async def _answer(self, sql: str, created: str, **parameters: Any) -> pd.DataFrame:
        named = {"stream": self._stream, "created": _microseconds(created), **parameters}
        query = self._ask({"sql": sql, "parameters": named})
        try:
            await query.ended()
            if query.state != "done":
                raise query.error or AnswerBroken("The archive's reply is incomplete.")
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


def _text(time: int) -> str:
    return pd.Timestamp(time, unit="ns", tz="UTC").isoformat(timespec="microseconds")


def _pattern(joined: str) -> str:
    """Convert the filters of a Pattern to a regular expression."""
    wild = {"*": "[^.]+", ">": ".+"}
    parts = [
        r"\.".join(wild.get(token) or re.escape(token) for token in subject.split("."))
        for subject in filters_of(joined)
    ]
    return f"^({'|'.join(parts)})$" if len(parts) > 1 else f"^{parts[0]}$"


def _microseconds(time: str) -> str:
    """An ISO 8601 time with the precision of databases: truncated to microseconds, not rounded."""
    return pd.Timestamp(time).floor("us").isoformat()
