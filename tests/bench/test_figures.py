"""The README's figures are the measured ones."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_readme_has_the_measured_figures() -> None:
    """Each result of the bench stands in the README's table as it was measured."""
    readme = (ROOT / "README.md").read_text()
    results = json.loads((ROOT / "bench" / "results.json").read_text())
    assert results
    for row in results:
        unit = row["unit"]
        figures = f"| {row['ours']:,.4g} {unit} | {row['theirs']:,.4g} {unit} | {row['ratio']:.3g} |"
        assert figures in readme, row["measure"]
