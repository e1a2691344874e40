"""Who may import whom, as docs/architecture.md says; and no arrow runs back up."""

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
"""What a sub-room may import although its room may not: the websocket lives on the web server's loop."""
PACKAGES = ("nats_client", "components", "services")


@cache
def tree(file: Path) -> ast.Module:
    """What a file consists of. Nearly every test here reads all files."""
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
    """Dotted name to file, of all that the packages consist of."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            found[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = file
    return found


def imported(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a module imports, wherever in it."""
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
    """The folder below a package, or the module itself where it lies in none."""
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
    """The row of a room in docs/architecture.md lists exactly what its files import besides the standard
    library, and what they may not import."""
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
    """No file, and no folder, imports what imports it, however many lie between."""
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
    """The docstring of a folder says what it holds and what it imports, and that is what its files import."""
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
    """The table of rooms in the docs has every folder of the project in it, and that of sub-rooms each of
    those."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    tracked = {file.parent.name for file in ROOT.glob("*/*.py")} - {".venv"}
    inner = {
        f"{package}/{file.parent.name}"
        for package in PACKAGES
        for file in (ROOT / package).glob("*/__init__.py")
    }
    for room in tracked | inner:
        assert f"`{room}/`" in text, room
