"""The parts of `make audit` that need no advisory database, and the threat model's own claims."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nkeys
import pytest

from tests.audit import (
    OFFLINE,
    PIP_AUDIT,
    Report,
    ask,
    judge_npm,
    judge_pip,
    look_at_code,
    look_for_secrets,
)

ROOT = Path(__file__).parent.parent


def test_repository_is_clean() -> None:
    """No tracked file has a secret, no markup is unescaped, and every package has one version."""
    report = Report()
    for look in OFFLINE:
        look(report)
    assert report.findings == []
    assert report.code == 0
    assert len(report.checked) == 3


def made_up() -> dict[str, str]:
    """A secret of each kind."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True)
    return {
        "seed.txt": f"-----BEGIN USER NKEY SEED-----\n{seed}\n",
        "jwt.md": f"token: {'.'.join(['eyJ' + 'a' * 20, 'eyJ' + 'b' * 20, 'c' * 40])}\n",
        "key.py": key.stdout.decode(),
        "cloud.toml": f'key = "AKIA{"A1" * 8}"\n',
        "deploy/dashboard.creds": "",
        ".streamlit/secrets.toml": "",
    }


def repository(folder: Path, files: dict[str, str]) -> Path:
    """A git repository that tracks `files`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-f", "."], cwd=folder, check=True)
    return folder


def test_secrets_are_found(tmp_path: Path) -> None:
    """Each kind of secret is found, named by file and line, and not printed; a text that only looks like a
    seed is not."""
    secrets = made_up()
    seed = secrets["seed.txt"].splitlines()[1]
    other = "A" if seed[9] != "A" else "B"
    harmless = {
        "README.md": f"S{'U' * 57}\n{seed[:9]}{other}{seed[10:]}\n",
        "secrets.toml.example": 'password = "…"\n',
    }
    report = Report()
    look_for_secrets(report, repository(tmp_path, secrets | harmless))
    found = {finding.partition(":")[0] for finding in report.findings}
    assert found == set(secrets)
    assert any(finding.startswith("seed.txt:2:") for finding in report.findings)
    for text in secrets.values():
        for line in text.splitlines():
            assert len(line) < 20 or line not in report.text()
    assert report.code == 1


def test_markup_is_found(tmp_path: Path) -> None:
    """Markup and code that bypass the escaping function are found."""
    bad = {
        "components/a.py": "import streamlit as st\nst.markdown(text, unsafe_allow_html=True)\n",
        "pages/b.py": "js = 'element.innerHTML = data'\n",
        "static/c.js": "const f = new Function(text)\n",
    }
    report = Report()
    look_at_code(report, repository(tmp_path, bad))
    assert [finding.partition(":")[0] for finding in sorted(report.findings)] == list(bad)


def test_what_could_not_be_asked_is_no_pass() -> None:
    """A database that could not be reached is reported, and never counts as a clean result."""
    skipped = {"dependencies": [{"name": "a", "skip_reason": "not found"}]}
    clean = {"dependencies": [{"name": "a", "version": "1", "vulns": []}]}
    holes = [{"id": "CVE-1", "fix_versions": ["2"]}]
    for answers, code, words in (
        ([clean], 0, "checked      1 Python"),
        ([skipped], 2, "NOT CHECKED  1 Python packages for known vulnerabilities (not found"),
        ([clean, skipped], 2, "This is no pass"),
        ([{"dependencies": []}], 2, "pip-audit saw no package"),
        ([{"dependencies": [{"name": "a", "version": "1", "vulns": holes}]}, skipped], 1, "a 1: CVE-1"),
    ):
        report = Report()
        for answer in answers:
            judge_pip(report, answer)
        assert report.code == code
        assert words in report.text()
    for answer, code in (
        ({"vulnerabilities": {}, "metadata": {"dependencies": {"total": 11}}}, 0),
        ({"vulnerabilities": {"x": {"severity": "high", "range": "<2"}}}, 1),
        ({"message": "405 Method Not Allowed"}, 2),
        ({}, 2),
    ):
        report = Report()
        judge_npm(report, answer)
        assert report.code == code


@pytest.mark.parametrize("said", ["", "no JSON", "[]", "{}", '{"dependencies": 1}', "null"])
def test_tool_that_says_something_else(said: str, tmp_path: Path) -> None:
    """A tool that is missing, fails, or prints something unknown is reported as not checked."""
    report = Report()
    ask(report, [sys.executable, "-c", f"print({said!r})"], tmp_path, judge_pip)
    ask(report, [str(tmp_path / "no-such-tool")], tmp_path, judge_npm)
    assert len(report.unchecked) == 2
    assert report.code == 2


def test_the_real_tool_answers_as_expected(tmp_path: Path) -> None:
    """The installed pip-audit prints the JSON that the audit expects, with or without its database."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "requirements.txt").write_text("idna==3.20\n")
    report = Report()
    ask(report, [sys.executable, *PIP_AUDIT, "--progress-spinner", "off"], tmp_path, judge_pip)
    assert len(report.checked) + len(report.unchecked) == 1
    assert "idna" in report.text() or report.checked


def test_threat_model_names_tests_that_exist() -> None:
    """Each test named in docs/security.md exists, and each row names at least a test file."""
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 25
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, test)
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| **", "| -"))
    ]
    for row in rows[1:]:
        assert ".py" in row.rsplit("|", 2)[1], row
