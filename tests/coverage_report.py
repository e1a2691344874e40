"""The lines of the app that the tests do not run, and why: `make coverage`.

`python -m tests.coverage_report` prints the last run again. The report has three parts: a table by folder;
the lines that no test has run, each of which needs a test; and the code that is left out because coverage
cannot be measured there, with the reason given after `# pragma: no cover` in the source.
"""

import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import coverage

ROOT = Path(__file__).parent.parent
DATA = ROOT / ".coverage" / "data"
"""The same path as in pyproject.toml."""
ROOMS = ("app.py", "pages", "components", "nats_client", "services", "deploy")
REASON = re.compile(r"# pragma: no cover\b(?: in this file)?(?:: (?P<why>\S.*))?")


@dataclass
class Covered:
    """The coverage of one file."""

    name: str
    """Its path relative to the root."""
    lines: int
    """The number of statements that count."""
    missed: str
    """The line numbers of statements that were not run, such as "3-7, 12"."""
    missed_count: int
    left_out: list[tuple[int, str]] = field(default_factory=list)
    """Line number and reason of each part that is left out."""

    @property
    def folder(self) -> str:
        """The folder in whose row the file counts: its own, or the file itself at the top level."""
        return "/".join(self.name.split("/")[:-1]) or self.name


def sources() -> list[Path]:
    """All files that count."""
    places = [ROOT / room for room in ROOMS]
    return sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))


def left_out(source: str) -> list[tuple[int, str]]:
    """Line number and reason of each part of a file that is left out; the reason is "" if none is given."""
    found = ((number, REASON.search(line)) for number, line in enumerate(source.splitlines(), 1))
    return [(number, mark["why"] or "") for number, mark in found if mark]


def measured(data_file: Path = DATA) -> tuple[coverage.Coverage, int]:
    """The combined coverage of all processes, and the number of processes whose file cannot be read because
    they were killed while writing it. The result is saved in `data_file`."""
    found = coverage.Coverage(data_file=str(data_file))
    found.load()
    with warnings.catch_warnings(record=True, category=coverage.exceptions.CoverageWarning) as unreadable:
        warnings.simplefilter("always")
        found.combine()
    found.save()
    return found, len(unreadable)


def covered(found: coverage.Coverage, file: Path) -> Covered:
    """The coverage of one file."""
    _, statements, _, missing, formatted = found.analysis2(str(file))
    name = file.relative_to(ROOT).as_posix()
    return Covered(name, len(statements), formatted, len(missing), left_out(file.read_text("utf-8")))


def table(files: Iterable[Covered]) -> list[str]:
    """The lines of a table: a row for each folder, and one for all."""
    folders: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in files:
        for name in (each.folder, "all"):
            folders[name][0] += each.lines
            folders[name][1] += each.missed_count
    folders["all"] = folders.pop("all")  # moved to the end
    rows = [f"{'folder':<32}{'lines':>8}{'not run':>9}{'run':>8}"]
    for name, (lines, missed) in folders.items():
        share = 100 * (lines - missed) / lines if lines else 100.0
        rows.append(f"{name:<32}{lines:>8,}{missed:>9,}{share:>7.1f}%")
    return rows


def report(files: list[Covered]) -> str:
    """The report as text: its three parts."""
    not_run = [f"{each.name}: {each.missed}" for each in files if each.missed]
    reasons = [f"{each.name}:{number}: {why}" for each in files for number, why in each.left_out]
    parts = [table(files), ["Not run by any test:", *(not_run or ["nothing"])]]
    return "\n\n".join(
        "\n".join(part) for part in [*parts, ["Left out, and why:", *(reasons or ["nothing"])]]
    )


def main() -> None:
    """Print the report of the last run."""
    found, unreadable = measured()
    if not found.get_data():
        sys.exit("Nothing is measured yet: make coverage")
    print(report([covered(found, file) for file in sources()]))
    print(f"\nProcesses that were killed while they wrote what they had run: {unreadable}")


if __name__ == "__main__":
    main()
