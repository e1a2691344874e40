"""Stores ISO 8601 times as numbers: nine bytes instead of a text that is different in each row.

Only texts that can be restored exactly are accepted: date and time of day to the second, up to nine
fractional digits, and UTC as `Z` or `+00:00`. https://www.rfc-editor.org/rfc/rfc3339
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

ISO_TIME = np.dtype([("ns", np.int64), ("form", np.uint8)])
"""A time in ns since the epoch, UTC, and its written form, an index into _FORMS."""
IsoTimes = npt.NDArray[np.void]
"""An array of ISO_TIME."""
Letters = npt.NDArray[np.uint8]
MISSING = np.array((np.iinfo(np.int64).min, 0), dtype=ISO_TIME)
"""No time; as a datetime64, NaT."""

_FORMS = [*product("T ", range(10), ("Z", "+00:00"))]
"""Separator between date and time, number of fractional digits, zone."""
_TO_THE_SECOND = len("2000-01-01T00:00:00")


def _models() -> dict[int, list[tuple[int, Letters, Letters]]]:
    """By text length: each form's index, the lowest character at each position, and the range above it."""
    found: dict[int, list[tuple[int, Letters, Letters]]] = {}
    for number, (between, digits, zone) in enumerate(_FORMS):
        text = f"????-??-??{between}??:??:??{'.' * (digits > 0)}{'?' * digits}{zone}"
        least = np.frombuffer(text.replace("?", "0").encode(), dtype=np.uint8)
        span = np.array([9 if letter == "?" else 0 for letter in text], dtype=np.uint8)
        found.setdefault(len(text), []).append((number, least, span))
    return found


_MODELS = _models()
LONGEST = max(_MODELS)
"""Length of the longest form."""


def parse_iso_times(texts: Sequence[str]) -> IsoTimes | None:
    """Parse `texts` to an array of ISO_TIME; None if any of them is not in one of the forms."""
    lengths = set(map(len, texts))
    if not lengths <= _MODELS.keys() or not texts[0][:4].isdigit():
        return None
    joined = "".join(texts)
    if not joined.isascii():
        return None
    letters = np.frombuffer(joined.encode(), dtype=np.uint8)
    return parse_joined(letters, np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))


def parse_joined(letters: Letters, lengths: npt.NDArray[np.integer]) -> IsoTimes | None:
    """Like parse_iso_times(), for ASCII texts with these `lengths` that are concatenated in `letters`."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest:
        return _parse_alike(letters.reshape(len(lengths), -1))
    found = np.empty(len(lengths), dtype=ISO_TIME)
    begins = np.cumsum(lengths) - lengths
    for length in np.unique(lengths).tolist():
        place = np.flatnonzero(lengths == length)
        part = _parse_alike(letters[begins[place][:, None] + np.arange(length)])
        if part is None:
            return None
        found[place] = part
    return found


def _parse_alike(letters: Letters) -> IsoTimes | None:
    """Parse the rows of `letters`; None unless all of them have the same form."""
    for form in _MODELS.get(letters.shape[1], ()):
        number, least, span = form
        if (letters[0] - least <= span).all():  # unsigned: lower characters wrap around to high values
            break
    else:
        return None
    if not (letters - least <= span).all():
        return None
    # Years 1700 to 2199: their nanoseconds since the epoch fit into 64 bits.
    millennium, century = letters[:, 0], letters[:, 1]
    before = (millennium == ord("1")) & (century >= ord("7"))
    if not (before | (millennium == ord("2")) & (century < ord("2"))).all():
        return None
    end = letters.shape[1] - len(_FORMS[number][2])
    text = np.ascontiguousarray(letters[:, :end]).view(f"S{end}").ravel()
    found = np.empty(len(letters), dtype=ISO_TIME)
    try:
        found["ns"] = text.astype("datetime64[ns]").view(np.int64)
    except ValueError:  # no such day, or time of day
        return None
    found["form"] = number
    return found


def iso_texts(times: IsoTimes) -> list[str | None]:
    """The original texts of `times`; None for MISSING."""
    texts = np.full(len(times), None, dtype=object)
    held = times["ns"] != MISSING["ns"]
    for number in np.unique(times["form"][held]).tolist():
        between, digits, zone = _FORMS[number]
        place = np.flatnonzero(held & (times["form"] == number))
        end = _TO_THE_SECOND + digits + (digits > 0)
        written = np.datetime_as_string(times["ns"][place].view("datetime64[ns]")).tolist()
        texts[place] = [f"{text[:10]}{between}{text[11:end]}{zone}" for text in written]
    found: list[str | None] = texts.tolist()
    return found
