"""Numbers and their units as text. static/units.js has the same rules for browsers.

A whole number keeps all its digits. Any other number keeps eight, or three after the point if it is large.
"""

from decimal import Decimal
from numbers import Integral

WIDEST = 2**53
"""From here on, a float is no longer exact as a whole number."""
_NAMES = {"bytes": "B", "bytes/s": "B/s", "percent": "%", "us": "µs"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_SECONDS = {"ns": -9, "µs": -6, "ms": -3, "s": 0}
"""Durations by the power of ten of a second."""
_MINUTES = {"min": 60, "h": 3600, "d": 86400}
"""Durations in seconds."""
_LARGE, _TINY = 1e5, 1e-6
_LEAST, _MOST = 1e-15, 1e21
"""Beyond these, numbers are not scaled."""


def number_text(value: float | int) -> str:
    """A number without a unit: "1,234.5678", "1.5e-7"; "n/a" for NaN. It must not be infinite."""
    if value != value:
        return "n/a"
    sign, digits = _digits(value, 8)
    approximate = not isinstance(value, Integral) and abs(value) >= WIDEST
    if approximate or 0 < abs(value) < _TINY:
        mantissa, _, exponent = f"{Decimal(digits):.7e}".partition("e")
        return f"{'≈ ' if approximate else ''}{sign}{_bare(mantissa)}e{int(exponent):+d}"
    return sign + _grouped(digits)


def with_unit(value: float | int, unit: str) -> str:
    """A number with its unit, with all digits: "1.234567891 GB", "3.2 ms", "1 h 2 min 3.4 s", "38.6 %". Units
    that scale are bytes ("bytes", "B"), also per second, and durations ("ns", "µs", "ms", "s", "min", "h");
    any other is written after the number. "n/a" for NaN."""
    return _text(value, unit, 8)


def brief(value: float | int, unit: str) -> str:
    """Like with_unit(), shorter: bytes with three digits, durations with their two largest parts."""
    return _text(value, unit, 3)


def scales(unit: str) -> bool:
    """True if numbers with this unit are scaled: 1,500 B is 1.5 kB."""
    unit = _NAMES.get(unit, unit)
    return unit in ("B", "B/s") or unit in _SECONDS or unit in _MINUTES


def _text(value: float | int, unit: str, most: int) -> str:
    if value != value:
        return "n/a"
    unit = _NAMES.get(unit, unit)
    in_seconds = _MINUTES.get(unit, 10.0 ** _SECONDS.get(unit, 0))
    if not scales(unit) or (value and not _LEAST <= abs(value) * in_seconds < _MOST):
        return f"{number_text(value)} {unit}".strip()
    if unit in _MINUTES:  # no power of ten: a float is as exact as it gets
        value, unit = value * float(_MINUTES[unit]), "s"
    if unit in _SECONDS:
        sign, digits = _digits(value, 8)
        return sign + _duration(digits, _SECONDS[unit], unit, brief=most == 3)
    sign, digits = _digits(value, most)
    power = min(max(0, (_magnitude(digits)) // 3), len(_PREFIXES) - 1)
    return f"{sign}{_grouped(_shifted(digits, -3 * power))} {_PREFIXES[power]}{unit}"


def _duration(digits: str, power: int, unit: str, *, brief: bool) -> str:
    if not Decimal(digits):
        return f"0 {unit}"
    seconds = Decimal(_shifted(digits, power))
    if seconds < 60:
        power = max(-9, min(0, 3 * (seconds.adjusted() // 3)))
        name = next(name for name, each in _SECONDS.items() if each == power)
        return f"{_bare(f'{seconds.scaleb(-power):f}')} {name}"
    if brief:
        part = 1 if seconds < 3600 else 60 if seconds < 86400 else 3600
        seconds = Decimal(int(seconds / part + Decimal("0.5")) * part)
    whole, parts = int(seconds), []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{_grouped(str(count))} {name}")
    if rest := whole + seconds % 1:
        parts.append(f"{_bare(f'{rest:f}')} s")
    return " ".join(parts)


def _digits(value: float | int, most: int) -> tuple[str, str]:
    """The sign, and the `most` first decimal digits. If `most` is eight, a large number has all digits before
    the point and three after it."""
    sign = "-" if value < 0 else ""
    size = abs(int(value) if isinstance(value, Integral) else float(value))
    if most == 8 and isinstance(size, int):
        return sign, str(size)
    exact = Decimal(repr(size))  # as browsers round it
    if most == 8 and _LARGE <= size < WIDEST:
        return sign, _bare(f"{exact:.3f}")
    return sign, _bare(f"{Decimal(f'{exact:.{most - 1}e}'):f}")


def _magnitude(digits: str) -> int:
    """The power of ten of the first digit."""
    return Decimal(digits).adjusted() if Decimal(digits) else 0


def _shifted(digits: str, by: int) -> str:
    return _bare(f"{Decimal(digits).scaleb(by):f}")


def _bare(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _grouped(digits: str) -> str:
    whole, point, rest = digits.partition(".")
    return f"{int(whole):,}{point}{rest}"
