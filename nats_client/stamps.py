"""Times written in ISO 8601, kept as numbers: nine bytes in place of a text that no other row has.

Only what can be written out again letter by letter is taken: date and time of day to the second, up to nine
digits of a fraction, and UTC as `Z` or `+00:00`. https://www.rfc-editor.org/rfc/rfc3339
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

STAMP = np.dtype([("ns", np.int64), ("form", np.uint8)])
"""A time in ns since the epoch, UTC, and how it was written, an index into _FORMS."""
Stamps = npt.NDArray[np.void]
"""An array of STAMP."""
MISSING = np.array((np.iinfo(np.int64).min, 0), dtype=STAMP)
"""No time; as a datetime64, NaT."""

_FORMS = [*product("T ", range(10), ("Z", "+00:00"))]
"""Between date and time, digits of the fraction, zone."""
_NUMBER = {form: number for number, form in enumerate(_FORMS)}
_TO_THE_SECOND = len("2000-01-01T00:00:00")


def read_stamps(texts: Sequence[str]) -> Stamps | None:
    """`texts` as an array of STAMP; None where any of them is something else."""
    if not texts or not texts[0][:4].isdigit():
        return None
    lengths = set(map(len, texts))
    if len(lengths) == 1:
        return _read_alike(texts)
    if len(lengths) > 12 or min(lengths) <= _TO_THE_SECOND:
        return None
    found = np.empty(len(texts), dtype=STAMP)
    each = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    for length in lengths:
        place = np.flatnonzero(each == length)
        part = _read_alike([texts[i] for i in place.tolist()])
        if part is None:
            return None
        found[place] = part
    return found


def _read_alike(texts: Sequence[str]) -> Stamps | None:
    """The same for texts of one length, which must be written alike in all else as well."""
    first = texts[0]
    digits = len(first.removesuffix("Z").removesuffix("+00:00")) - _TO_THE_SECOND
    digits -= digits > 0
    number = _NUMBER.get((first[10:11], digits, first[_TO_THE_SECOND + digits + (digits > 0) :]))
    joined = "".join(texts)
    if number is None or not joined.isascii():
        return None
    letters = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(len(texts), -1)
    pattern = f"0000-00-00{first[10]}00:00:00" + (f".{digits * '0'}" if digits else "") + _FORMS[number][2]
    model = np.frombuffer(pattern.encode(), dtype=np.uint8)
    zone = _TO_THE_SECOND + digits + (digits > 0)
    free = model == ord("0")
    free[zone:] = False
    if not (letters[:, ~free] == model[~free]).all() or not (letters[:, free] - ord("0") <= 9).all():
        return None
    text = np.ascontiguousarray(letters[:, :zone]).view(f"S{zone}").ravel()
    # Years from 1700 to 2199: 64 bits hold their nanoseconds since the epoch.
    begins, goes_on = letters[:, 0], letters[:, 1]
    if not np.where(
        begins == ord("1"), goes_on >= ord("7"), (begins == ord("2")) & (goes_on < ord("2"))
    ).all():
        return None
    found = np.empty(len(texts), dtype=STAMP)
    try:
        found["ns"] = text.astype("datetime64[ns]").view(np.int64)
    except ValueError:  # no such day, or time of day
        return None
    found["form"] = number
    return found


def stamp_texts(stamps: Stamps) -> list[str | None]:
    """The texts that `stamps` were read from; None where there was none."""
    texts = np.full(len(stamps), None, dtype=object)
    held = stamps["ns"] != MISSING["ns"]
    for number in np.unique(stamps["form"][held]).tolist():
        between, digits, zone = _FORMS[number]
        place = np.flatnonzero(held & (stamps["form"] == number))
        end = _TO_THE_SECOND + digits + (digits > 0)
        written = np.datetime_as_string(stamps["ns"][place].view("datetime64[ns]")).tolist()
        texts[place] = [f"{text[:10]}{between}{text[11:end]}{zone}" for text in written]
    found: list[str | None] = texts.tolist()
    return found
