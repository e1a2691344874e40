"""Decodes CSV. The first line names the columns, unless the decoder's name does: `csv:time,host,ms`."""

import csv
import io
from typing import Any

from ..errors import SettingsError
from .decoder import Decoder

DELIMITERS = ",;\t|"
MOST_FIELDS = 256
"""Maximum fields of a line."""


def read_csv(payload: bytes, names: list[str] | None = None) -> Any:
    """Decode one payload into an array of objects. Numeric fields become numbers and empty fields become
    None. Raises ValueError."""
    try:
        text = payload.decode("utf-8-sig").rstrip("\0\r\n")
    except UnicodeDecodeError:
        raise ValueError("not CSV: not UTF-8 text") from None
    first = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line]
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from None
    if names is None:
        if len(lines) < 2:
            raise ValueError("not CSV: a line with names and one with values, or names as in 'csv:time,ms'")
        names = [each.strip() or f"column {i}" for i, each in enumerate(lines.pop(0), 1)]
        if len(set(names)) < len(names):
            raise ValueError("not CSV: two columns have the same name")
    for i, line in enumerate(lines, 1):
        if len(line) != len(names) or len(line) > MOST_FIELDS:
            raise ValueError(f"not CSV: {len(line)} fields in line {i} and {len(names)} names")
    return [dict(zip(names, map(csv_value, line), strict=True)) for line in lines]


def csv_value(text: str) -> Any:
    """The value of a field: None if it is blank, a number if it is one, otherwise the text. Numbers with
    leading zeros or a plus sign stay texts, such as the code 007, and so do integers of 19 or more digits."""
    text = text.strip()
    if not text:
        return None
    if text[0] in "0123456789-.+" and len(text) <= 40:
        bare = text.lstrip("-")
        if bare.isdecimal() and bare.isascii() and (bare == "0" or bare[0] != "0"):
            return int(text) if len(bare) < 19 else text
        if bare[:1] != "+" and not (len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()):
            try:
                return float(text) if "_" not in text else text
            except ValueError:
                return text
    return text


def csv_of(options: str) -> Decoder:
    """The decoder for lines without a first line of names. Raises SettingsError."""
    names = [each.strip() for each in options.split(",")]
    if not all(names) or len(set(names)) < len(names) or len(names) > MOST_FIELDS:
        raise SettingsError(
            f"The decoder 'csv' needs different names, such as 'csv:time,host,ms', not {options!r}."
        )
    return Decoder(lambda payload: read_csv(payload, names))


CSV = Decoder(read_csv, configured=csv_of)
