"""Who may import whom, as docs/architecture.md says."""

import ast
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


def imports(file: Path) -> set[str]:
    """The top-level names that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_keep_to_their_doors(room: str) -> None:
    """No file of a room imports what the room may not."""
    place = ROOT / room
    files = [place] if place.is_file() else sorted(place.glob("*.py"))
    assert files
    for file in files:
        assert not imports(file) & FORBIDDEN[room], file


def test_architecture_names_the_rooms() -> None:
    """The table of rooms in the docs has every folder of the project in it."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    tracked = {file.parent.name for file in ROOT.glob("*/*.py")} - {".venv"}
    for room in tracked:
        assert f"`{room}/`" in text
