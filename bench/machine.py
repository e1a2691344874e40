"""Describes the machine and the date of a measurement, which are kept beside its figures."""

import os
import platform
import re
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from bench.browser import find_chromium
from bench.stage import APP_CORES, LOAD_CORES

NATS_SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"


@cache
def machine() -> str:
    """Cores, system, and the versions of all packages and programs involved, in one line."""
    cores = len(APP_CORES | LOAD_CORES) or os.cpu_count()
    packages = [f"{name} {version(name)}" for name in ("streamlit", "nats-py", "pandas", "plotly")]
    programs = [("nats-server", str(NATS_SERVER)), ("Node", "node"), ("Chromium", find_chromium())]
    return ", ".join(
        [
            f"{cores} cores{f' ({processor()})' if processor() else ''}",
            f"{platform.system()} {platform.machine()}",
            f"Python {'.'.join(map(str, sys.version_info[:3]))}",
            *packages,
            *(f"{name} {version_of(program)}" for name, program in programs),
        ]
    )


def processor() -> str:
    """The processor's name; empty where the system does not provide it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def version_of(program: str) -> str:
    """The version that a program prints, or "none"."""
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else "none"


def today() -> str:
    """The date, UTC."""
    return datetime.now(UTC).date().isoformat()
