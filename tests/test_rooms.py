"""Imports are as docs/architecture.md lists them, and none goes back up."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "pages": {"nats_client", "nats", "asyncio", "threading", "services"},
    "components": {"nats", "asyncio", "threading", "services"},
    "nats_client": {"streamlit", "plotly", "components", "services"},
    "services": {"streamlit", "components"},
    "deploy": {"streamlit", "components", "nats_client"},
    "app.py": {"nats", "threading"},
}
PERMITTED = {"components/push": {"asyncio", "threading"}}
"""Modules that a sub-room may import although its room may not: the websocket runs on the web server's
loop."""
PACKAGES = ("nats_client", "components", "services")


@cache
def tree(file: Path) -> ast.Module:
    """The parsed file, cached because nearly every test here reads all files."""
    return ast.parse(file.read_text())


@cache
def imports(file: Path) -> set[str]:
    """The top-level names that a file imports."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def modules() -> dict[str, Path]:
    """The file of each module in the packages, by the module's dotted name."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            found[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = file
    return found


def imported(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The project's modules that a module imports, anywhere in its file."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if not isinstance(node, ast.ImportFrom):
            continue
        start = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
        above = start[: len(start) - node.level + 1] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            if f"{source}.{alias.name}" in known:
                yield f"{source}.{alias.name}"
            elif source in known:
                yield source


def room_of(module: str) -> str:
    """The module's folder within its package, or the module itself if it is in no such folder."""
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_keep_to_their_doors(room: str) -> None:
    """No file of a room imports what the room may not."""
    place = ROOT / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for file in files:
        permitted = PERMITTED.get(file.parent.relative_to(ROOT).as_posix(), set())
        assert not imports(file) & FORBIDDEN[room] - permitted, file


@pytest.mark.parametrize("room", FORBIDDEN)
def test_table_has_the_imports(room: str) -> None:
    """The row of a room in docs/architecture.md lists exactly the imports of its files besides the standard
    library, and the imports that they may not have."""
    place = ROOT / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    text = (ROOT / "docs" / "architecture.md").read_text()
    row = re.search(rf"^\| `{re.escape(room)}/?` \|[^|]*\|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    assert row, room
    listed = {name.split()[-1].partition(".")[0] for name in re.split("[,;]", row[1])}
    used = set().union(*map(imports, files)) - sys.stdlib_module_names - {room}
    assert used == listed, f"{room} imports {sorted(used)}, and the table has {sorted(listed)}"
    assert set(re.findall(r"\w+", row[2])) >= FORBIDDEN[room], room


@pytest.mark.parametrize("name_of", [str, room_of], ids=["files", "folders"])
def test_no_arrow_runs_back_up(name_of: object) -> None:
    """No file, and no folder, imports a file or folder that imports it, directly or through others."""
    assert callable(name_of)
    known, graph = modules(), TopologicalSorter[str]()
    for name, file in known.items():
        for other in imported(name, file, known):
            if name_of(name) != name_of(other):
                graph.add(name_of(name), name_of(other))
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_each_room_says_what_it_holds() -> None:
    """A folder's docstring describes its contents and lists exactly the imports of its files."""
    known = modules()
    for name, file in known.items():
        if file.name != "__init__.py" or name in PACKAGES:
            continue
        text = ast.get_docstring(tree(file)) or ""
        holds, _, named = text.partition("\n\nImports ")
        assert holds
        used = {
            other.split(".")[1]
            for module, path in known.items()
            if module.startswith(f"{name}.")
            for other in imported(module, path, known)
            if other.startswith(name.split(".")[0] + ".") and room_of(other) != room_of(module)
        }
        stated = set(
            " ".join(named.split()).rstrip(".").replace(", and ", ", ").replace(" and ", ", ").split(", ")
        ) - {
            "",
            "nothing",
        }
        assert used == stated, f"{name} imports {sorted(used)} and says {sorted(stated)}"


def test_architecture_names_the_rooms() -> None:
    """The table of rooms in docs/architecture.md lists every folder of the project, and that of sub-rooms
    lists each of those."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    tracked = {file.parent.name for file in ROOT.glob("*/*.py")} - {".venv"}
    inner = {
        f"{package}/{file.parent.name}"
        for package in PACKAGES
        for file in (ROOT / package).glob("*/__init__.py")
    }
    for room in tracked | inner:
        assert f"`{room}/`" in text, room
