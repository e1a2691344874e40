"""The README's figures are the measured ones."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def shown(figure: float) -> str:
    """A figure as the table has it."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2g}"


def test_readme_has_the_measured_figures() -> None:
    """Each result of the bench stands in the README's table as it was measured."""
    readme = (ROOT / "README.md").read_text()
    results = json.loads((ROOT / "bench" / "results.json").read_text())
    assert results
    for row in results:
        unit = row["unit"]
        figures = f"| {shown(row['ours'])} {unit} | {shown(row['theirs'])} {unit} | {row['ratio']:.2g} |"
        assert figures in readme, row["measure"]
