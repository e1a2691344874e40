"""Decodes payloads into columns, in batches.

Decoders are chosen by name, because the name is part of the key by which pages share a feed.
"""

import re
import zoneinfo
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from ..errors import SettingsError, one_of
from ..subjects import ENVELOPE
from ..table.iso_times import ISO_TIME, MISSING, IsoTimes, parse_iso_times
from ..table.values import EXACT, NULL, Batch, Coded, Floats, Ints, Mixed, Values
from . import avro_payloads, protobuf_payloads
from .agent_payloads import FLUENT_BIT, TELEGRAF
from .arrow_payloads import ARROW
from .auto_payloads import AUTO
from .avro_payloads import AVRO
from .cbor_payloads import CBOR
from .cloudevents_payloads import CLOUDEVENTS
from .csv_payloads import CSV
from .decoder import LONGEST_TEXT, Answer, Decoder, Headers, Row
from .json_payloads import JSON
from .line_protocol import LINE_PROTOCOL
from .msgpack_payloads import MSGPACK
from .own_decoders import decoder_file, own_decoder, own_names
from .protobuf_payloads import PROTOBUF
from .schema_files import files_with, stamp
from .text_payloads import TEXT
from .unpacked import is_packed, unpacked

DEEPEST = 4
"""Levels of nested objects that become columns (a.b.c); deeper ones are kept as JSON text."""
NUMERIC = {int, float, bool}
DECODERS: dict[str, Decoder] = {
    "json": JSON,
    "auto": AUTO,
    "text": TEXT,
    "msgpack": MSGPACK,
    "cbor": CBOR,
    "protobuf": PROTOBUF,
    "avro": AVRO,
    "arrow": ARROW,
    "csv": CSV,
    "influx": LINE_PROTOCOL,
    "telegraf": TELEGRAF,
    "fluentbit": FLUENT_BIT,
    "cloudevents": CLOUDEVENTS,
}
"""Decoders by name. To add one, add a file to this folder and a line here."""
BY_PATH = ("json", "msgpack", "cbor")
"""Those whose option is the path of an array."""
LONGEST_NAME = 1000
"""Maximum characters of a decoder's name with its options."""
MOST_HEADERS = 20
"""Maximum headers that are columns."""
_HEADER = re.compile(r"[!-9;-~]{1,200}")
"""Any printable characters but the colon (ADR-4)."""
MOST_ROWS = 1_000_000
"""Maximum rows of one message."""
MOST_CELLS = 2_000_000
"""Rows times fields of one batch whose rows differ, besides MOST_PER_VALUE for each value that they have."""
MOST_PER_VALUE = 32
MOST_UNPACKED = 1 << 26
"""Maximum bytes that the messages of one batch may have more than they were sent with, after
decompression."""
LONGEST_TIME = 64
"""Characters of a text that are read as a time."""
_HAS_ZONE = re.compile(r"(?:[zZ]|[T ]\S*[+-]\d{2}:?\d{0,2})\s*$")
_EPOCH = re.compile(r"-?\d{9,19}(?:\.\d{1,9})?")
"""Fewer digits may be a date in ISO 8601."""
NANOSECONDS = 1e17
"""A time at least this large is in nanoseconds since the epoch."""


@dataclass(frozen=True)
class Malformed:
    """A sample of a payload that could not be decoded, for display."""

    subject: str
    seq: int
    reason: str
    payload: str
    """Its first 200 bytes, as text."""


@dataclass(slots=True)
class Raw:
    """Messages as received, one entry per message in each list. `received` is when the server stored it, ns
    since the epoch, UTC."""

    seq: "array[int] | list[int]" = field(default_factory=lambda: array("q"))
    received: "array[int] | list[int]" = field(default_factory=lambda: array("q"))
    subject: list[str] = field(default_factory=list)
    payload: list[bytes] = field(default_factory=list)
    headers: dict[int, dict[str, str]] = field(default_factory=dict)
    """By stream sequence; only of messages with headers."""

    def __len__(self) -> int:
        return len(self.seq)

    def split(self) -> "list[Raw]":
        """One Raw per message."""
        each = zip(self.seq, self.received, self.subject, self.payload, strict=True)
        return [
            Raw([seq], [received], [subject], [payload], self.headers)
            for seq, received, subject, payload in each
        ]

    def before(self, count: int) -> "Raw":
        """The first `count` messages."""
        return self if count >= len(self) else self._at(slice(0, count))

    def after(self, count: int) -> "Raw":
        """All but the first `count` messages."""
        return Raw() if count >= len(self) else self._at(slice(count, None))

    def pick(self, places: list[int]) -> "Raw":
        """The messages at these places, which ascend."""
        return Raw(
            [self.seq[i] for i in places],
            [self.received[i] for i in places],
            [self.subject[i] for i in places],
            [self.payload[i] for i in places],
            self.headers,
        )

    def _at(self, part: slice) -> "Raw":
        return Raw(self.seq[part], self.received[part], self.subject[part], self.payload[part], self.headers)


Truths = npt.NDArray[np.bool_]


def decode(
    raw: Raw, decoder: str, time_field: str | None, headers: Sequence[str] = ()
) -> tuple[Batch, list[Malformed], int]:
    """Decode `raw`. Returns the rows, at most 10 samples of malformed messages, and the number of malformed
    messages. Raises ValueError if they need too much memory or time at once, so that the caller decodes them
    one at a time; and what a library raises.

    An object becomes one row, an array one row per item, a scalar a row with the column `value`. With a
    `time_field`, that field of the payload is the row's time: ISO 8601, or a number of seconds, milliseconds,
    microseconds or nanoseconds since the epoch, also as text; its size decides which. "params.ts" is a field
    of a nested object. Times without a zone are in UTC, or in the zone after an @: "ts@Europe/Berlin". A row
    without a readable time is malformed. An empty payload becomes a row without fields, at the storage time.
    Each of `headers` is a column with the text of that header, in any case, or a time if all are in ISO 8601.
    Fields with the name of an ENVELOPE column or of such a header become `payload{name}`.
    """
    reads = decoder_of(decoder)
    taken = {*ENVELOPE, *headers}
    if not _tell_format(raw, reads) and (batch := _by_column(raw, reads, time_field, taken)) is not None:
        held = _header_columns(raw, range(len(raw)), headers)
        return replace(batch, values={**held, **batch.values}), [], 0
    bad: list[tuple[int, str]] = []
    rows = reads.rows(raw.payload)
    if rows is not None:
        at: Ints = np.arange(len(rows))
    else:
        rows, origin = _each(raw, reads, bad)
        at = np.asarray(origin, dtype=np.int64)

    received = np.asarray(raw.received, dtype=np.int64)[at]
    time = received
    if time_field is not None:
        own, zone = _own_time(time_field)
        time, readable = read_times([own(row) for row in rows], zone)
        for i in np.flatnonzero(~readable).tolist():
            if not raw.payload[at[i]]:  # an empty payload has no time of its own
                time[i], readable[i] = received[i], True
        if not readable.all():
            bad += [
                (int(at[i]), f"no valid time in the field {time_field!r}")
                for i in np.flatnonzero(~readable).tolist()
            ]
            rows = [row for row, good in zip(rows, readable.tolist(), strict=True) if good]
            at, received, time = at[readable], received[readable], time[readable]
    columns = _columns_of(rows, taken)
    seq = np.asarray(raw.seq, dtype=np.int64)[at]
    whole = len(at) == len(raw) and bool((at == np.arange(len(raw))).all())
    subject = raw.subject if whole else [raw.subject[i] for i in at.tolist()]
    batch = Batch(
        seq,
        received,
        time,
        subject,
        {**_header_columns(raw, at.tolist(), headers), **columns.values},
        frozenset(columns.integral),
        columns.not_finite,
        frozenset(columns.truths),
    )
    samples = [
        Malformed(raw.subject[i], raw.seq[i], reason, raw.payload[i][:200].decode("utf-8", "replace"))
        for i, reason in bad[:10]
    ]
    return batch, samples, len({i for i, _ in bad})


def _header_columns(raw: Raw, at: Sequence[int], names: Sequence[str]) -> dict[str, Values]:
    """One column per header, with a value for the messages at these places."""
    found: dict[str, Values] = {}
    if not names:
        return found
    lower = {seq: _in_lower_case(headers) for seq, headers in raw.headers.items()}
    none: dict[str, str] = {}
    for name in names:
        key = name.lower()
        texts = [_as_text(lower.get(raw.seq[i], none).get(key)) for i in at]
        times = _as_iso_times(texts) if any(text is not None for text in texts) else None
        found[name] = texts if times is None else times
    return found


def _in_lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in lower case; values whose names differ in case only are joined."""
    found: dict[str, str] = {}
    for name, text in headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _by_column(raw: Raw, reads: Decoder, time_field: str | None, taken: Collection[str]) -> Batch | None:
    """Decode by columns; None if the messages are too different for that."""
    columns = reads.columns(raw.payload, LONGEST_TEXT, EXACT)
    if columns is None:
        return None
    received = np.asarray(raw.received, dtype=np.int64)
    time = received
    if time_field is not None:
        own = columns.values.get(time_field)  # not if it is nested or has a zone
        times = _own_times(own) if own is not None else None
        if times is None:
            return None
        time = times
    renamed = {name: f"payload{name}" if name in taken else name for name in columns.values}
    if len(set(renamed.values())) < len(renamed):
        return None
    return Batch(
        np.asarray(raw.seq, dtype=np.int64),
        received,
        time,
        raw.subject,
        {renamed[name]: values for name, values in columns.values.items()},
        frozenset(renamed[name] for name in columns.integral),
        truths=frozenset(renamed[name] for name in columns.truths),
    )


def _own_times(values: Values) -> Ints | None:
    """Convert a column to row times, like read_times(); None if one is unreadable."""
    if isinstance(values, Coded):
        if (values.codes < 0).any():
            return None
        times, readable = read_times(values.labels)
        return times[values.codes] if readable.all() else None
    assert isinstance(values, np.ndarray)
    if values.dtype == ISO_TIME:
        ns: Ints = cast(IsoTimes, values)["ns"]
        return ns.copy() if (ns != MISSING["ns"]).all() else None
    numbers = cast(Floats, values)
    if not (np.abs(numbers) > 1).any():  # true and false are not times
        return None
    times, readable = _times_of(numbers)
    return times if readable.all() else None


def _tell_format(raw: Raw, reads: Decoder) -> bool:
    """True if headers may say how to decode a message, so that faster ways do not do."""
    return reads.message is not None and any(
        name[:3].lower() == "ce-" or name[:8].lower() == "content-"
        for headers in raw.headers.values()
        for name in headers
    )


def _each(raw: Raw, reads: Decoder, bad: list[tuple[int, str]]) -> tuple[list[Row], list[int]]:
    """Decode messages one by one. Returns the rows and, for each row, the index of its message. Appends the
    index and the reason of each malformed message to `bad`."""
    rows: list[Row] = []
    origin: list[int] = []
    for i, (good, value) in enumerate(_values(raw, reads)):
        if not good:
            bad.append((i, value))
        elif type(value) is dict:
            rows.append(value)
            origin.append(i)
        elif isinstance(value, list):
            if len(value) > MOST_ROWS:
                bad.append((i, f"more than {MOST_ROWS:,} rows in one message"))
                continue
            for item in value:
                rows.append(item if isinstance(item, dict) else {"value": item})
                origin.append(i)
        else:
            rows.append({"value": value})
            origin.append(i)
    return rows, origin


def _values(raw: Raw, reads: Decoder) -> Iterable[Answer]:
    """The value of each message, or why there is none."""
    if reads.many is not None:
        ready = [_unpacked(raw, i) for i in range(len(raw))]
        asked = [i for i, (good, payload, _) in enumerate(ready) if good and payload]
        questions = [(ready[i][1], raw.subject[i], dict(ready[i][2])) for i in asked]
        found: list[Answer] = [(good, payload or {} if good else payload) for good, payload, _ in ready]
        for i, answer in zip(asked, reads.many(questions), strict=True):
            found[i] = answer
        return found
    return _one_by_one(raw, reads)


def _one_by_one(raw: Raw, reads: Decoder) -> Iterable[Answer]:
    grown = 0
    for i, sent in enumerate(raw.payload):
        good, payload, headers = _unpacked(raw, i)
        if not good:
            yield False, payload
            continue
        if payload is not sent and (grown := grown + len(payload)) > MOST_UNPACKED:
            # The caller then decodes them one at a time, so that they need not all be in memory.
            raise ValueError("too large after decompression")
        if not payload and not headers:  # such as a marker
            yield True, {}
            continue
        try:
            if reads.message is not None:
                yield True, reads.message(payload, raw.subject[i], headers)
            else:
                yield True, reads.one(payload) if payload else {}
        except ValueError as error:
            yield False, str(error)
        except (RecursionError, MemoryError, OverflowError) as error:
            yield False, f"nested too deeply or too large: {type(error).__name__}"


def _unpacked(raw: Raw, i: int) -> tuple[bool, Any, Headers]:
    """True, the payload of a message without compression and its headers in lower case; or False and why it
    cannot be had."""
    payload = raw.payload[i]
    sent = raw.headers.get(raw.seq[i]) if raw.headers else None
    headers = {name.lower(): text for name, text in sent.items()} if sent else {}
    if not is_packed(payload) and "content-encoding" not in headers:
        return True, payload, headers
    try:
        return True, unpacked(payload, headers), headers
    except ValueError as error:
        return False, str(error), headers


def read_values(raw: Raw, decoder: str) -> list[Answer]:
    """The value of each message, as the `decoder` reads it, and not in columns; or why there is none."""
    try:
        return list(_values(raw, decoder_of(decoder)))
    except Exception as error:
        if len(raw) > 1:  # one payload must not take the others with it
            return [answer for one in raw.split() for answer in read_values(one, decoder)]
        return [(False, str(error) if isinstance(error, ValueError) else repr(error))]


def reads_whole(name: str) -> str:
    """The name of the decoder that reads all of a payload, where the one with this `name` reads the rows of
    an array in it."""
    base, colon, _ = name.partition(":")
    return base if colon and base in BY_PATH else name


def read_value(payload: bytes, subject: str, headers: Mapping[str, str], decoder: str) -> Any:
    """The value of one payload, as the `decoder` reads it, and not in columns. Raises ValueError, and what a
    library raises."""
    raw = Raw([0], [0], [subject], [payload], {0: dict(headers)} if headers else {})
    for good, value in _values(raw, decoder_of(decoder)):
        if not good:
            raise ValueError(value)
        return value
    raise AssertionError("each message has an answer")


def decoder_of(name: str) -> Decoder:
    """The decoder with this name, as check_decoder() returns it. Raises SettingsError if there is none."""
    name = name.partition("#")[0]
    if name in DECODERS:
        return DECODERS[name]
    base, colon, options = name.partition(":")
    if not colon:
        return own_decoder(name)
    configured = DECODERS[base].configured
    assert configured is not None
    return configured(options)


def check_decoder(name: str) -> str:
    """Return `name` if there is such a decoder: one of DECODERS, with options after a colon where it takes
    some, or a file of the folder of decoders. If files of that folder decide what it does, the name gets
    their state after a "#", so that feeds read again what was decoded with a file that was edited since.
    Raises SettingsError if there is no such decoder, or its options are not valid."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise SettingsError(f"A decoder is named by at most {LONGEST_NAME} characters.")
    base, colon, options = name.partition(":")
    found = DECODERS.get(base)
    if found is None:
        if not colon and base in own_names():
            return f"{name}#{stamp(decoder_file(name))[0]:x}"
        known = [*DECODERS, *own_names()]
        raise SettingsError(f"There is no decoder {name!r}. " + one_of(name, known, what="decoder"))
    if not colon and not found.needs_options:
        return name
    if found.configured is None:
        raise SettingsError(f"The decoder {base!r} takes no options after a colon.")
    found.configured(options)
    schemas = files_with(*protobuf_payloads.ENDINGS, *avro_payloads.ENDINGS)
    used = [file for file in schemas if file.name == options.rpartition("@")[2]]
    return f"{name}#{stamp(used[0])[0]:x}" if used else name


def check_headers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the `names` of headers as a tuple. Raises SettingsError if one cannot be that of a header or of
    a column."""
    if isinstance(names, str) or len(names) > MOST_HEADERS:
        raise SettingsError(f"headers is a tuple of at most {MOST_HEADERS} names, such as ('traceparent',).")
    for name in names:
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name in ENVELOPE:
            raise SettingsError(f"{str(name)[:100]!r} is not the name of a header.")
    return tuple(dict.fromkeys(names))


def offered_decoders() -> list[str]:
    """Names of all decoders that a viewer can choose: DECODERS, one for each type and schema of the folder of
    decoders, and the decoders in it."""
    plain = [name for name, each in DECODERS.items() if not each.needs_options]
    return [*plain, *protobuf_payloads.offered(), *avro_payloads.offered(), *own_names()]


class _SameNameError(Exception):
    """Two fields of a row would be the same column."""


def _columns_of(rows: list[Row], taken: Collection[str]) -> "_Columns":
    columns = _Columns(taken)
    try:
        columns.add(rows)
    except _SameNameError:
        columns = _Columns(())
        columns.add([_flat(row, taken) for row in rows], depth=DEEPEST)
    return columns


def _flat(row: Row, taken: Collection[str]) -> Row:
    """The row with nested objects as dotted names. A name that is taken already gets " (2)" at its end."""
    found: Row = {}
    left = [(f"payload{key}" if key in taken else key, value, 0) for key, value in row.items()]
    while left:
        left.sort(key=lambda each: type(each[1]) is dict)  # a name that is written with its dots comes first
        nested: list[tuple[str, Any, int]] = []
        for name, value, depth in left:
            if type(value) is dict and depth < DEEPEST:
                nested += [(f"{name}.{key}", item, depth + 1) for key, item in value.items()]
                continue
            while name in found:
                name += " (2)"
            found[name] = value
        left = nested
    return found


class _Columns:
    """Builds one column per key of some rows. Keys of nested objects are named by their path ("a.b"). Keys in
    `taken` get the prefix "payload"."""

    def __init__(self, taken: Collection[str]) -> None:
        self._taken = taken
        self.values: dict[str, Values] = {}
        self._absent: list[int] = []  # rows that lack the field being added
        self.integral: set[str] = set()
        """Columns that hold only integers."""
        self.truths: set[str] = set()
        """Columns whose numbers are all true and false."""
        self.not_finite = 0
        """Number of values that were NaN or infinite."""

    def add(self, rows: list[Row], path: str = "", depth: int = 0) -> None:
        """Add the keys of `rows` as columns. Raises ValueError if there are too many for that."""
        alike = bool(rows) and all(map(rows[0].keys().__eq__, map(dict.keys, rows)))
        names = list(rows[0] if alike else dict.fromkeys(key for row in rows for key in row))
        if not alike and len(rows) * len(names) > MOST_CELLS + MOST_PER_VALUE * sum(map(len, rows)):
            # Of several messages, the caller then decodes them one at a time.
            raise ValueError(
                f"{len(names):,} different fields in {len(rows):,} rows, which have few of them each"
            )
        for key in names:
            values = list(map(itemgetter(key), rows)) if alike else [row.get(key) for row in rows]
            name = path + (f"payload{key}" if key in self._taken and not path else key)
            kinds = set(map(type, values))
            nested_in: list[int] = []
            if dict in kinds and depth < DEEPEST:
                nested = [value if type(value) is dict else {} for value in values]
                self.add(nested, f"{name}.", depth + 1)
                kinds.discard(dict)
                nested_in = [i for i, value in enumerate(values) if type(value) is dict]
                values = [None if type(value) is dict else value for value in values]
            if nested_in or type(None) in kinds:
                kinds.discard(type(None))
                absent = [] if alike else [i for i, row in enumerate(rows) if key not in row]
                self._absent = [*absent, *nested_in]  # an object is no null
            if kinds:
                self._add(name, values, kinds)
            elif len(self._absent) < len(rows):  # only nulls
                self._put(name, self._nulls_in(np.full(len(rows), NULL)))
            self._absent = []

    def _put(self, name: str, values: Values) -> None:
        if name in self.values:
            raise _SameNameError
        self.values[name] = values

    def _add(self, name: str, values: list[Any], kinds: set[type]) -> None:
        if kinds & NUMERIC:
            self._add_numbers(name, values, kinds)
            return
        if kinds == {str}:
            if (times := _as_iso_times(values)) is not None:
                self._put(name, times)
                return
            if None not in values and max(map(len, values)) <= LONGEST_TEXT:
                self._put(name, values)
                return
        self._put(name, [_as_text(value) for value in values])

    def _nulls_in(self, column: Floats) -> Floats:
        """Set rows that lack the field to NaN, to tell them from explicit nulls. Returns `column`."""
        column[self._absent] = np.nan
        return column

    def _add_numbers(self, name: str, values: list[Any], kinds: set[type]) -> None:
        """Add `values`, some of which are numbers, as float64. Other values, and integers that float64 cannot
        represent exactly, are also kept as texts, in a Mixed column."""
        missing = values.count(None)
        texts: list[str | None] | None = None
        if not kinds <= NUMERIC:
            texts = [None if value is None or type(value) in NUMERIC else _as_text(value) for value in values]
            values = [value if value is None or type(value) in NUMERIC else np.nan for value in values]
            missing += sum(text is not None for text in texts)
        if missing:
            values = [NULL if value is None else value for value in values]
        column = self._nulls_in(np.array(values, dtype=np.float64))
        if int in kinds and len(large := np.flatnonzero(np.abs(column) >= EXACT)):
            texts = texts or [None] * len(values)
            for i in large.tolist():
                if type(values[i]) is int:
                    texts[i] = str(values[i])
        finite = np.isfinite(column)
        if not finite.all():
            self.not_finite += len(column) - int(finite.sum()) - missing
            column[np.isinf(column)] = np.nan
        self._put(name, column if texts is None else Mixed(column, texts))
        if kinds == {int} and not missing:
            self.integral.add(name)
        if kinds & NUMERIC == {bool}:
            self.truths.add(name)


def _as_iso_times(values: list[Any]) -> IsoTimes | None:
    """Parse texts, some of which may be None, as times. None unless all are ISO 8601 times in UTC."""
    if None not in values:
        return parse_iso_times(values)
    held = [i for i, value in enumerate(values) if value is not None]
    times = _as_iso_times([values[i] for i in held])
    if times is None:
        return None
    found = np.full(len(values), MISSING)
    found[held] = times
    return found


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    try:
        text: str = value if type(value) is str else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise ValueError("nested too deeply") from None
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _own_time(field: str) -> tuple[Callable[[Row], Any], str | None]:
    """How to get a row's own time, and the zone of times that have none. `field` may be a path of nested
    fields, "params.ts", and may name a zone after an @, "params.ts@Europe/Berlin"."""
    name, _, zone = field.rpartition("@")
    if not name or not is_zone(zone):
        name, zone = field, ""
    path = name.split(".")

    def own(row: Row) -> Any:
        if name in row or len(path) == 1:
            return row.get(name)
        found: Any = row
        for key in path:
            found = found.get(key) if type(found) is dict else None
        return found

    return own, zone or None


@lru_cache(maxsize=256)
def is_zone(name: str) -> bool:
    """True if `name` is a time zone, such as Europe/Berlin or UTC."""
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def read_times(values: Sequence[Any], zone: str | None = None) -> tuple[Ints, Truths]:
    """Parse times from payloads, as `decode` does. Returns int64 ns since the epoch, UTC, and which values
    were readable. Times without a zone are in `zone`, by default in UTC; in the hour that is repeated when
    summer time ends, they are in summer time."""
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        numbers = np.array(values, dtype=np.float64)
        nanoseconds, readable = _times_of(numbers)
        if (large := np.flatnonzero(readable & (np.abs(numbers) >= EXACT))).size:
            # float64 cannot represent today's time in ns exactly, so such integers are not converted.
            for i in large.tolist():
                if type(values[i]) is int and abs(numbers[i]) >= NANOSECONDS:
                    nanoseconds[i] = values[i]
        return nanoseconds, readable
    if kinds <= {str}:
        times = parse_iso_times(values) if zone is None or all(map(_HAS_ZONE.search, values)) else None
        if times is not None:
            return times["ns"].copy(), np.ones(len(values), dtype=bool)
        return _times_in(list(values), zone)
    found, readable = np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
    for group in ({int, float}, {str}) if len(kinds) > 1 else ():
        if at := [i for i, value in enumerate(values) if type(value) in group]:
            found[at], readable[at] = read_times([values[i] for i in at], zone)
    return found, readable


def _times_in(texts: list[str], zone: str | None) -> tuple[Ints, Truths]:
    """Parse texts, which may be ISO 8601 or the digits of a time since the epoch."""
    written = (
        pd.Series(texts, dtype="str")
        .str.slice(0, LONGEST_TIME)
        .str.strip()
        .str.replace(",", ".", regex=False)
    )
    parsed = pd.to_datetime(written, utc=True, format="ISO8601", errors="coerce").dt.as_unit("ns")
    if zone is not None:
        bare = parsed.notna() & ~written.str.contains(_HAS_ZONE)
        local = parsed[bare].dt.tz_localize(None)
        summer = np.ones(len(local), dtype=bool)
        moved = local.dt.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
        parsed[bare] = moved.dt.tz_convert("UTC")
    found = parsed.to_numpy("datetime64[ns]").view(np.int64).copy()
    readable = parsed.notna().to_numpy(bool).copy()
    for i in np.flatnonzero(written.str.fullmatch(_EPOCH).to_numpy(bool)).tolist():
        text = written.iloc[i]
        times, good = read_times([float(text) if "." in text else int(text)])
        found[i], readable[i] = times[0], good[0]
    return found, readable


def _times_of(numbers: Floats) -> tuple[Ints, Truths]:
    """Convert numbers to int64 ns since the epoch, and return which are readable. Their size decides the
    unit: units differ by a factor of 1,000 and today is 1.7e9 s, so the bounds hold for centuries."""
    size = np.abs(numbers)
    scale = np.where(size < 1e11, 1e9, np.where(size < 1e14, 1e6, np.where(size < NANOSECONDS, 1e3, 1.0)))
    readable = np.isfinite(numbers) & (size * scale < 9.2e18)
    held = np.where(readable, numbers, 0.0)
    # In two parts, because float64 cannot hold today's time to the nanosecond.
    whole = np.trunc(held)
    unit = scale.astype(np.int64)
    return whole.astype(np.int64) * unit + np.rint((held - whole) * scale).astype(np.int64), readable
