"""Decodes messages into rows, in batches."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..subjects import ENVELOPE
from ..table.values import EXACT, Batch, Ints, Values
from .decoder import LONGEST_TEXT, Answer, Decoder, Headers, Row
from .decoders import decoder_of
from .payload_times import own_time, own_times, read_times
from .raw import Malformed, Raw
from .row_columns import as_iso_times, as_text, columns_of
from .unpacked import is_packed, unpacked

MOST_HEADERS = 20
"""Maximum headers that are columns."""
_HEADER = re.compile(r"[!-9;-~]{1,200}")
"""Any printable characters but the colon (ADR-4)."""
MOST_ROWS = 1_000_000
"""Maximum rows of one message."""
MOST_UNPACKED = 1 << 26
"""Maximum bytes of all compressed payloads of one batch, after decompression."""


def decode(
    raw: Raw, decoder: str, time_field: str | None, headers: Sequence[str] = ()
) -> tuple[Batch, list[Malformed], int]:
    """Decode `raw`. Returns the rows, at most 10 samples of malformed messages, and the number of malformed
    messages. Raises ValueError if they need too much memory or time at once; the caller then decodes them one
    at a time. Exceptions of the decoding libraries are not caught.

    An object becomes one row, an array one row per item, a scalar a row with the column `value`. With a
    `time_field`, that field of the payload is the row's time: ISO 8601, or a number since the epoch, also as
    text. The size of the number decides between seconds, milliseconds, microseconds and nanoseconds.
    "params.ts" is a field of a nested object. Times without a zone are in UTC, or in the zone after an @:
    "ts@Europe/Berlin". A row without a readable time is malformed. An empty payload becomes a row without
    fields, at the storage time. Each of `headers` becomes a column with the texts of that header, or with
    times if all texts are in ISO 8601. The names of headers are matched in any case. Fields with the name of
    an ENVELOPE column or of such a header become `payload{name}`.
    """
    reads = decoder_of(decoder)
    taken = {*ENVELOPE, *headers}
    if (
        not _headers_name_format(raw, reads)
        and (batch := _by_column(raw, reads, time_field, taken)) is not None
    ):
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
        own, zone = own_time(time_field)
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
    columns = columns_of(rows, taken)
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


def read_values(raw: Raw, decoder: str) -> list[Answer]:
    """The value of each message as the `decoder` returns it, not in columns; or the reason why it has
    none."""
    try:
        return list(_values(raw, decoder_of(decoder)))
    except Exception as error:
        if len(raw) > 1:  # one bad payload must not make the others fail
            return [answer for one in raw.split() for answer in read_values(one, decoder)]
        return [(False, str(error) if isinstance(error, ValueError) else repr(error))]


def read_value(payload: bytes, subject: str, headers: Mapping[str, str], decoder: str) -> Any:
    """The value of one payload as the `decoder` returns it, not in columns. Raises ValueError. Exceptions of
    the decoding libraries are not caught."""
    raw = Raw([0], [0], [subject], [payload], {0: dict(headers)} if headers else {})
    for good, value in _values(raw, decoder_of(decoder)):
        if not good:
            raise ValueError(value)
        return value
    raise AssertionError("each message has an answer")


def check_headers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the `names` of headers as a tuple, each once. Raises SettingsError if there are more than
    MOST_HEADERS, or if a name is not valid for a header or is that of an ENVELOPE column."""
    if isinstance(names, str) or len(names) > MOST_HEADERS:
        raise SettingsError(f"headers is a tuple of at most {MOST_HEADERS} names, such as ('traceparent',).")
    for name in names:
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name in ENVELOPE:
            raise SettingsError(f"{str(name)[:100]!r} is not the name of a header.")
    return tuple(dict.fromkeys(names))


def _header_columns(raw: Raw, at: Sequence[int], names: Sequence[str]) -> dict[str, Values]:
    """One column per header, with one value for each message index in `at`."""
    found: dict[str, Values] = {}
    if not names:
        return found
    lower = {seq: _in_lower_case(headers) for seq, headers in raw.headers.items()}
    none: dict[str, str] = {}
    for name in names:
        key = name.lower()
        texts = [as_text(lower.get(raw.seq[i], none).get(key)) for i in at]
        times = as_iso_times(texts) if any(text is not None for text in texts) else None
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
        own = columns.values.get(time_field)  # None for a nested field, or one with a zone
        times = own_times(own) if own is not None else None
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


def _headers_name_format(raw: Raw, reads: Decoder) -> bool:
    """True if headers may decide how to decode a message. Then the faster ways, which do not read headers,
    cannot be used."""
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
    """The value of each message, or the reason why it has none."""
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
    """True, the decompressed payload of a message and its headers by their names in lower case. If the
    payload cannot be decompressed: False, the reason and the headers."""
    payload = raw.payload[i]
    sent = raw.headers.get(raw.seq[i]) if raw.headers else None
    headers = {name.lower(): text for name, text in sent.items()} if sent else {}
    if not is_packed(payload) and "content-encoding" not in headers:
        return True, payload, headers
    try:
        return True, unpacked(payload, headers), headers
    except ValueError as error:
        return False, str(error), headers
