"""`make audit`: known vulnerabilities in installed packages, and secrets or unescaped markup in the
repository.

The exit code is 0 if everything was checked and nothing found, 1 if there are findings, and 2 if nothing was
found but an advisory database could not be queried, which is no pass. `python -m tests.audit --offline`
leaves the databases out; the tests run the same checks.

Bandit was tried beside ruff's S rules, which are on: it found nothing more.
"""

import argparse
import ast
import base64
import binascii
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0
"""Seconds that an advisory database may take."""
SECRETS = {
    "nkey seed": re.compile(r"\bS[OANUCX][A-Z2-7]{56}\b"),
    "JWT": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{20,}"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----\s*[A-Za-z0-9+/=]"),
    "access token": re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{36,}|xox[abp]-[\w-]{20,})\b"),
}
FILES = re.compile(r"(?:^|/)(?:secrets\.toml|\.env|[^/]*\.(?:creds|nk|jwt|pem|key|p12|pfx))$")
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc")
REQUIREMENTS = ("requirements.txt", "tests/requirements.txt")
"""The packages needed to run the app, and those needed to test it."""
NOT_PINNED = {"pip"}
"""Part of Python's own environment."""


@dataclass
class Report:
    """What was checked, and what was found."""

    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.findings else 2 if self.unchecked else 0

    def text(self) -> str:
        """The report for people."""
        lines = [
            *(f"checked      {what}" for what in self.checked),
            *(f"NOT CHECKED  {what}" for what in self.unchecked),
            *(f"FOUND        {what}" for what in self.findings),
        ]
        verdicts = {
            0: "Everything was checked, nothing was found.",
            1: f"{len(self.findings)} found.",
            2: "Nothing was found, but not everything could be checked. This is no pass.",
        }
        return "\n".join([*lines, verdicts[self.code]])


def tracked(root: Path = ROOT) -> list[Path]:
    """The files tracked by git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True)
    return [root / name for name in listed.stdout.split("\0") if name]


def look_for_secrets(report: Report, root: Path = ROOT) -> None:
    """Report seeds, JWTs, private keys, access tokens, and files with names that such files have."""
    files = [file for file in tracked(root) if file.is_file()]
    for file in files:
        name = file.relative_to(root).as_posix()
        if FILES.search(name):
            report.findings.append(f"{name}: a file of that name holds secrets")
        text = file.read_bytes().decode("utf-8", "replace")
        for kind, pattern in SECRETS.items():
            for match in pattern.finditer(text):
                if kind != "nkey seed" or _is_seed(match[0]):
                    line = text.count("\n", 0, match.start()) + 1
                    report.findings.append(f"{name}:{line}: {kind} {match[0][:6]}…")
    report.checked.append(f"{len(files)} tracked files for seeds, JWTs, private keys and access tokens")


def _is_seed(text: str) -> bool:
    """True if the checksum is right: a word in capitals is no seed. By the nkeys specification, CRC-16 at the
    end."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    return binascii.crc_hqx(raw[:-2], 0) == int.from_bytes(raw[-2:], "little")


def look_at_code(report: Report, root: Path = ROOT) -> None:
    """Report what ruff has no rule for: markup that bypasses the escaping function, and text that is run as
    code."""
    rooms = [root / room for room in ("components", "pages")]
    made = {"nats.js", "plotly.min.js"}  # built from npm packages, see bundle/
    scripts = [file for file in sorted((root / "static").glob("*.js")) if file.name not in made]
    modules = [file for room in rooms for file in sorted(room.rglob("*.py"))]
    for file in modules:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and (node.arg or "").startswith("unsafe_allow"):
                report.findings.append(f"{file.relative_to(root)}:{node.value.lineno}: {node.arg}")
    for file in scripts + modules:
        for number, line in enumerate(file.read_text().split("\n"), 1):
            if found := MARKUP.search(line):
                report.findings.append(f"{file.relative_to(root)}:{number}: {found[0]}")
    report.checked.append(
        f"{len(modules)} modules and {len(scripts)} scripts for markup and code out of text"
    )


def look_at_pins(report: Report, root: Path = ROOT) -> None:
    """Report packages without exactly one pinned version; the advisory databases are queried for that
    version."""
    pins: set[str] = set()
    for file in REQUIREMENTS:  # each file must be complete together with those before it
        for line in (root / file).read_text().splitlines():
            wanted = line.partition("#")[0].strip()
            if not wanted or wanted.startswith("-r "):
                continue
            requirement = Requirement(wanted)
            pins.add(canonicalize_name(requirement.name))
            if not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
                report.findings.append(f"{file}: {wanted} is not pinned to one version")
        for name in sorted(pins):
            for text in requires(name) or []:
                needed = Requirement(text)
                needs = needed.marker is None or needed.marker.evaluate({"extra": ""})
                if needs and canonicalize_name(needed.name) not in pins | NOT_PINNED:
                    report.findings.append(f"{file}: {needed.name}, which {name} needs, is not in it")
    lock = json.loads((root / "tests" / "node" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    report.findings += [
        f"package-lock.json: {name} has no hash"
        for name, entry in packages.items()
        if "integrity" not in entry
    ]
    report.checked.append(f"{len(pins)} Python and {len(packages)} npm packages for pinned versions")


def judge_pip(report: Report, answer: Any) -> None:
    """Add the results of pip-audit (its JSON output) to the report."""
    packages = answer["dependencies"]
    skipped = [each for each in packages if "skip_reason" in each]
    asked = len(packages) - len(skipped)
    for each in packages:
        for found in each.get("vulns", []):
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            report.findings.append(f"{each['name']} {each['version']}: {found['id']}, mended in {fixed}")
    if asked:
        report.checked.append(f"{asked} Python packages for known vulnerabilities")
    if skipped or not packages:
        reason = skipped[0]["skip_reason"] if skipped else "pip-audit saw no package"
        report.unchecked.append(f"{len(skipped)} Python packages for known vulnerabilities ({reason}, …)")


def judge_npm(report: Report, answer: Any) -> None:
    """Add the results of `npm audit` (its JSON output) to the report."""
    if "vulnerabilities" not in answer:
        reason = answer.get("message") or answer.get("error") or "no answer"
        report.unchecked.append(f"npm packages for known vulnerabilities ({reason})")
        return
    for name, found in answer["vulnerabilities"].items():
        report.findings.append(f"npm {name}: {found.get('severity')}, {found.get('range')}")
    count = answer.get("metadata", {}).get("dependencies", {}).get("total", "all")
    report.checked.append(f"{count} npm packages for known vulnerabilities")


def ask(report: Report, command: list[str], folder: Path, judge: Callable[[Report, Any], None]) -> None:
    """Run a tool that queries its advisory database, and pass its output to `judge`."""
    name = " ".join(command[:2] if command[0] != sys.executable else command[2:3])
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
        judge(report, json.loads(done.stdout))
    except FileNotFoundError:
        report.unchecked.append(f"{name}: it is not installed")
    except subprocess.TimeoutExpired:
        report.unchecked.append(f"{name}: no answer in {PATIENCE:.0f} s")
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        report.unchecked.append(f"{name}: no answer that can be read; it said: {said[:300]}")


PIP_AUDIT = ["-m", "pip_audit", "-r", "tests/requirements.txt", "--no-deps", "--disable-pip", "-f", "json"]
OFFLINE: Iterable[Callable[[Report], None]] = (look_for_secrets, look_at_code, look_at_pins)


def audit(*, offline: bool) -> Report:
    """Run all checks, or those that need no database."""
    report = Report()
    for look in OFFLINE:
        look(report)
    if not offline:
        ask(report, [sys.executable, *PIP_AUDIT, "--progress-spinner", "off"], ROOT, judge_pip)
        ask(report, ["npm", "audit", "--json"], ROOT / "tests" / "node", judge_npm)
    return report


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--offline", action="store_true", help="ask no advisory database")
    found = audit(offline=arguments.parse_args().offline)
    print(found.text())
    sys.exit(found.code)
