"""static/nats.js and static/plotly.min.js match bundle/package-lock.json."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import plotly

from tests.running import ROOT

FOLDER = ROOT / "bundle"
PLOTLY = "node_modules/plotly.js-basic-dist-min"
SOURCES = ("package.json", "package-lock.json", ".npmrc", "banner.txt", "nats.js")


def npm(folder: Path, *command: str) -> None:
    """Run npm; fail with what it printed."""
    ended = subprocess.run(["npm", *command, "--loglevel=error"], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_bundle_is_what_its_lock_says(tmp_path: Path) -> None:
    """A new build from the packages in the lock file gives the same files, byte for byte."""
    assert shutil.which("npm"), "this needs node and npm on PATH: apt-get install nodejs npm"
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "static").mkdir()
    for name in SOURCES:
        shutil.copy(FOLDER / name, folder / name)
    npm(folder, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    npm(folder, "run", "build")
    for name in ("nats.js", "plotly.min.js", "plotly.LICENSE"):
        assert (tmp_path / "static" / name).read_bytes() == (ROOT / "static" / name).read_bytes()


def test_lock_pins_contents_and_names_no_registry() -> None:
    """Each package is pinned by a hash of its content, and none names a registry: npm's own setting
    applies."""
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_banner_names_what_is_in_it() -> None:
    """The first lines of the file name each package in it, with its version."""
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    banner = "\n".join((ROOT / "static/nats.js").read_text().split("\n")[:2])
    for path, package in packages.items():
        if path and path != PLOTLY and not package.get("dev"):
            assert f"{path.removeprefix('node_modules/')} {package['version']}" in banner


def test_live_charts_and_figures_have_one_plotly() -> None:
    """The plotly.js of live charts has the version that belongs to the Python package."""
    carried = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    versions = []
    for file in (carried, ROOT / "static/plotly.min.js"):
        found = re.search(r"plotly\.js .*v([\d.]+)", file.read_text()[:200])
        assert found
        versions.append(found[1])
    assert versions[0] == versions[1]
