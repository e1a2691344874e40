"""The settings of the app and of the programs beside it: environment variables, declared as data.

    environment.SLOW_PAGE.read()

Those of the connection are in connection/settings.py; they are of the same kinds. docs/settings.md lists all.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import SettingsError

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
LEAST_MEMORY = 16 << 20
"""The smallest memory limit in bytes that still lets pages show anything."""
LARGEST = 1 << 50
"""Maximum of a size in bytes and of a number: the most that the system's own limits can hold."""
LONGEST = 1e9
"""Maximum seconds: the most that clocks and timers can hold."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?) *((?:[KMGT]i?)?B?)", re.IGNORECASE)
_WORDS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off", ""), False
)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """The kind of a setting's values: how they are read and shown."""

    type: str
    """The kind in words, such as "size"."""
    unit: str
    """The unit in words, such as "seconds"; empty if there is none."""
    read: Callable[[str, Any], T]
    """Converts the text or value that was given for the setting of this name. Raises SettingsError, which
    says what to set."""
    text: Callable[[T], str] = str
    """How a value is shown, without its unit."""

    def shown(self, value: T) -> str:
        """A value with its unit, as it is shown in the app."""
        return f"{self.text(value)} {self.unit if self.unit != 'bytes' else ''}".rstrip()


def _wrong(name: str, value: object, what: str) -> SettingsError:
    return SettingsError(f"The setting {name!r} is {value!r}. Set it to {what}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"The setting {name!r} must be a string, not {type(value).__name__}.")
    return value


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value)).expanduser()


def _path_text(path: Path) -> str:
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}"


def _websocket(name: str, value: Any) -> str:
    where = _text(name, value).rstrip("/")
    if not re.fullmatch(r"wss?://[\w.\[\]:-]+", where, re.ASCII):
        raise _wrong(name, where, "a host, such as wss://dashboards.example.com:8443")
    return where


def _flag(name: str, value: Any) -> bool:
    known = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(known, bool):
        raise _wrong(name, value, "true or false")
    return known


def size(least: int = LEAST_MEMORY) -> Kind[int]:
    """Bytes: a number, or a text such as "2 GiB"; at least `least`."""

    def read(name: str, value: Any) -> int:
        given = value
        found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is not None and len(found[1]) < 20:
            unit = found[2].upper().removesuffix("B")
            base = 1024 if unit.endswith("I") else 1000
            value = int(float(found[1]) * base ** " KMGT".index(unit[:1] or " "))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= LARGEST:
            limits = f"at least {_size_text(least)}" if least > 1 else "at least one byte"
            if isinstance(value, int) and value > LARGEST:
                limits = f"at most {_size_text(LARGEST)}"
            raise _wrong(name, given, f"a size of {limits}, such as '2 GiB' or '500 MB'")
        return value

    return Kind("size", "bytes", read, _size_text)


def _size_text(value: int) -> str:
    """A size without loss, in the largest unit that has no fraction."""
    for base, infix in ((1024, "i"), (1000, "")):
        for power in (4, 3, 2):
            if value and not value % base**power:
                return f"{value // base**power:,} {' KMGT'[power]}{infix}B"
    return f"{value:,} bytes"


def number(unit: str, most: int = LARGEST) -> Kind[int]:
    """A positive integer, given as an int or a text such as "100_000"; at most `most`."""

    def read(name: str, value: Any) -> int:
        try:
            found = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else 0
        except ValueError:
            found = 0
        if found < 1:
            raise _wrong(name, value, "an integer above zero")
        if found > most:
            raise _wrong(name, value, f"an integer of at most {most:,}")
        return found

    return Kind("whole number", unit, read, "{:,}".format)


def _seconds(name: str, value: Any) -> float:
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        found = 0.0
    if not 0 < found < math.inf:
        raise _wrong(name, value, "a number of seconds above zero")
    if found > LONGEST:
        raise _wrong(name, value, f"a number of seconds of at most {LONGEST:,.0f}")
    return found


TEXT = Kind("text", "", _text)
PATH = Kind("path", "", _path, _path_text)
FLAG = Kind("true or false", "", _flag, lambda value: str(value).lower())
SIZE = size()
SECONDS = Kind("number", "seconds", _seconds, lambda value: f"{value:,g}")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One environment variable."""

    variable: str
    kind: Kind[Any]
    default: T
    whose: str
    """What reads it: "app", "demo" (the embedded server) or "history"."""
    otherwise: str = "none"
    """In words, what is used if it is not set and has no default."""
    secret: bool = False
    """True if its value is never shown."""

    def read(self, env: Mapping[str, str] | None = None) -> T:
        """Its value in `env`, by default os.environ. An empty variable counts as not set. Raises
        SettingsError, which names the variable and says what to set."""
        given = (os.environ if env is None else env).get(self.variable)
        if not given:
            return self.default
        found: T = self.kind.read(self.variable, given)
        return found

    @property
    def default_text(self) -> str:
        """The default in words, without its unit."""
        return self.otherwise if self.default is None else self.kind.text(self.default)


_NO_PATH: Path | None = None
_NO_TEXT: str | None = None

PAGES = Setting("LOOKBACK_PAGES", PATH, ROOT / "pages", "app")
DECODERS = Setting("LOOKBACK_DECODERS", PATH, ROOT / "decoders", "app")
BUILT_IN = Setting("LOOKBACK_BUILT_IN", FLAG, True, "app")
RELOAD = Setting("LOOKBACK_RELOAD", FLAG, True, "app")
ANY_SUBJECT = Setting("LOOKBACK_ANY_SUBJECT", FLAG, False, "app")
SLOW_PAGE = Setting("LOOKBACK_SLOW_PAGE", SECONDS, 1.0, "app")
METRICS_TOKEN = Setting("LOOKBACK_METRICS_TOKEN", TEXT, _NO_TEXT, "app", secret=True)
WEBSOCKET = Setting("LOOKBACK_WEBSOCKET", Kind("URL", "", _websocket), _NO_TEXT, "app")
SQL_MEMORY = Setting("LOOKBACK_SQL_MEMORY", SIZE, 512 << 20, "app")
SQL_SECONDS = Setting("LOOKBACK_SQL_SECONDS", SECONDS, 10.0, "app")
DECODER_MEMORY = Setting("LOOKBACK_DECODER_MEMORY", size(64 << 20), 2 << 30, "app")
ROLES = Setting("LOOKBACK_ROLES", PATH, ROOT / "services" / "accounts" / "roles.toml", "app")
SIGN_IN_CHECK = Setting("LOOKBACK_SIGN_IN_CHECK", SECONDS, 30.0, "app")
SIGN_IN_GRACE = Setting("LOOKBACK_SIGN_IN_GRACE", SECONDS, 300.0, "app")
SIGN_IN_TABS = Setting("LOOKBACK_SIGN_IN_TABS", number("tabs"), 100, "app")

DATA_DIR = Setting("LOOKBACK_DATA_DIR", PATH, _NO_PATH, "demo", "the user's data directory")
NATS_SERVER_BIN = Setting("NATS_SERVER_BIN", PATH, _NO_PATH, "demo", "the installed one")
# The demo's streams reserve most of a GiB
SERVER_DISK = Setting("LOOKBACK_SERVER_DISK", size(1 << 30), 4 << 30, "demo")
SERVER_MEMORY = Setting("LOOKBACK_SERVER_MEMORY", SIZE, 256 << 20, "demo")

HISTORY_DSN = Setting("LOOKBACK_HISTORY_DSN", TEXT, _NO_TEXT, "history", secret=True)
HISTORY_READER_DSN = Setting(
    "LOOKBACK_HISTORY_READER_DSN", TEXT, _NO_TEXT, "history", "LOOKBACK_HISTORY_DSN", secret=True
)
HISTORY_ROWS = Setting("LOOKBACK_HISTORY_ROWS", number("rows"), 1_000_000, "history")
HISTORY_BYTES = Setting("LOOKBACK_HISTORY_BYTES", size(1), 256 << 20, "history")
HISTORY_SECONDS = Setting("LOOKBACK_HISTORY_SECONDS", SECONDS, 60.0, "history")
HISTORY_LONGEST = Setting("LOOKBACK_HISTORY_LONGEST", SECONDS, 900.0, "history")
HISTORY_AT_ONCE = Setting("LOOKBACK_HISTORY_AT_ONCE", number("queries", 1_000), 4, "history")
HISTORY_MEMORY = Setting("LOOKBACK_HISTORY_MEMORY", size(64 << 20), 1 << 30, "history")
ARCHIVE_EVERY = Setting("LOOKBACK_ARCHIVE_EVERY", SECONDS, 300.0, "history")
ARCHIVE_DAYS = Setting("LOOKBACK_ARCHIVE_DAYS", number("days", 36_500), 30, "history")

SETTINGS: tuple[Setting[Any], ...] = tuple(each for each in globals().values() if isinstance(each, Setting))
"""All settings of this module, in the order of docs/settings.md."""


def check(env: Mapping[str, str] | None = None) -> None:
    """Raises SettingsError if a variable that is set has a value that its setting cannot have."""
    for each in SETTINGS:
        each.read(env)
