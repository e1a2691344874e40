"""The scripts that the browser loads: linted, and unit-tested by Node's own runner.

Slow, because a linter reads the types of all scripts.
"""

import subprocess

import pytest

from tests.node import FOLDER, install
from tests.running import ROOT


def test_linter_finds_nothing() -> None:
    """eslint finds nothing in any script that is edited by hand."""
    install()
    eslint = [str(FOLDER / "node_modules" / ".bin" / "eslint"), "--config", str(FOLDER / "eslint.config.mjs")]
    places = ["static", "tests/node", "bench/websocket_client", "bundle"]
    done = subprocess.run([*eslint, "--max-warnings", "0", *places], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted(file.name for file in FOLDER.glob("*.test.mjs")))
def test_units(file: str) -> None:
    """Each unit test of a script passes."""
    done = subprocess.run(["node", "--test", str(FOLDER / file)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
