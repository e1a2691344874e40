"""The figures in the documents are the measured ones."""

import asyncio
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import report

ROOT = Path(__file__).parent.parent.parent
RESULTS = json.loads((ROOT / "bench" / "results.json").read_text())
GROWTH = json.loads((ROOT / "bench" / "growth.json").read_text())


def test_readme_has_the_measured_figures() -> None:
    """The README's tables are exactly those that `python -m bench.report` writes."""
    readme = (ROOT / "README.md").read_text()
    assert report.between_marks(readme, report.tables(RESULTS)) == readme
    shown = [row for row in RESULTS if row["measure"] not in report.ONLY_HERE]
    for row in shown:
        figures = (f"{report.figure(row[side])} {row['unit']}" for side in ("ours", "theirs"))
        assert f"| {' | '.join(figures)} |" in readme


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5.305e-05, "0.000053"),
        (0.999, "1"),
        (0.1026, "0.1"),
        (7.333, "7.3"),
        (99.6, "100"),
        (1234567.8, "1,234,568"),
    ],
)
def test_figures_are_plain_numbers(value: float, shown: str) -> None:
    """Small figures have two digits, large ones all their integer digits; none has an exponent."""
    assert report.figure(value) == shown


def test_measurements_are_those_of_the_bench() -> None:
    """docs/measurements.md is exactly what `python -m bench.report` writes from the two files of results."""
    assert (ROOT / "docs" / "measurements.md").read_text() == report.markdown(RESULTS, GROWTH)


@pytest.mark.parametrize("name", report.plots(RESULTS, GROWTH))
def test_plots_are_those_of_the_bench(name: str) -> None:
    """Each plot was drawn from the current results, and fetches nothing from other hosts."""
    drawn = (ROOT / "docs" / name).read_text()
    assert drawn.endswith(report.mark(report.plots(RESULTS, GROWTH)[name]))
    ET.fromstring(drawn)
    assert not re.search(r"<script|<image|url\((?![\"']?#)", drawn)
    assert name in (ROOT / "docs" / "measurements.md").read_text()


def test_what_was_missed_is_said() -> None:
    """A missed goal and a rival with a better figure are stated above the table, with their figures."""
    slow = {"measure": "latency_ms", "rival": "websocket client", "unit": "ms", "ours": 520, "theirs": 20}
    slow |= {"ratio": 26, "goal": "", "met": None, "rounds": 1, "ours_rounds": [520], "theirs_rounds": [20]}
    missed = slow | {"measure": "replay_rate", "rival": "plain recipe", "unit": "messages/s", "ours": 300}
    missed |= {"theirs": 100, "ratio": 3, "goal": "at least 10", "met": False}
    page = report.markdown([slow, missed], GROWTH)
    above = page.partition("<picture>")[0]
    assert "replay of a million messages, beside plain recipe: a ratio of 3, set out for at least 10" in above
    assert "publish to pixel, median: 520 ms, websocket client 20" in above
    assert "replay of a million messages: 300" not in above


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    """Plotly in Chromium draws a figure as SVG, with its texts."""
    figure = report.plots(RESULTS[:2], GROWTH)["measured-ratios-dark.svg"]
    asyncio.run(report.draw({"a.svg": figure}, tmp_path))
    drawn = (tmp_path / "a.svg").read_text()
    assert ET.fromstring(drawn).tag.endswith("svg")
    for row in RESULTS[:2]:
        assert report.qualified(row) in drawn
        times = report.factor(row)
        assert times is not None
        assert report.times(times) in drawn
