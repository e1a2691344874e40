"""The folder with custom decoders and schemas."""

import time
from pathlib import Path

from .. import environment
from ..errors import SettingsError, one_of

FOLDER = environment.DECODERS.read()
"""The folder with custom decoders and schemas."""
LARGEST_SCHEMA = 16 << 20
"""Maximum bytes of a schema file."""

FileVersion = tuple[int, int]
"""Modification time in ns and size in bytes of a file; they change with an edit."""


_known: tuple[float, frozenset[tuple[str, FileVersion]]] = (0.0, frozenset())


def files_with(*endings: str) -> list[Path]:
    """The files of the folder with one of these endings, by name."""
    try:
        found = [each for each in FOLDER.iterdir() if each.suffix in endings and each.is_file()]
    except OSError:
        return []
    return sorted(found)


def folder_version() -> frozenset[tuple[str, FileVersion]]:
    """A value that changes when a file of the folder is edited, added or removed. Checked at most once a
    second."""
    global _known
    if time.monotonic() - _known[0] >= 1.0:
        files = files_with(".py", ".avsc", ".desc", ".binpb", ".pb", ".protoset")
        _known = time.monotonic(), frozenset((file.name, file_version(file)) for file in files)
    return _known[1]


def schema_file(name: str, *endings: str) -> Path:
    """The file `name` of the folder. Raises SettingsError, with the known names, if there is no such file. A
    name is never used as a path, so no file outside the folder can be read."""
    known = {each.name: each for each in files_with(*endings)}
    if name not in known:
        raise SettingsError(
            f"There is no file {name!r} in the folder of decoders. " + one_of(name, known, what="file")
        )
    return known[name]


def file_version(file: Path) -> FileVersion:
    """The version of the file; zeros if it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def read_schema(file: Path) -> bytes:
    """The file's content. Raises SettingsError if it cannot be read or is too large."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_SCHEMA + 1)
    except OSError as error:
        raise SettingsError(f"The file {file.name!r} cannot be read: {error.strerror}.") from None
    if len(content) > LARGEST_SCHEMA:
        raise SettingsError(f"The file {file.name!r} is larger than {LARGEST_SCHEMA >> 20} MiB.")
    return content
