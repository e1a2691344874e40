"""Style, format and types are part of the tests.

Slow, because mypy reads all installed packages if it has no cache yet.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=["style", "format", "types"],
)
def test_tool_finds_nothing(command: list[str]) -> None:
    """The tool finds nothing."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
