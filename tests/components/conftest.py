"""Fixtures shared by the tests of components."""

from collections.abc import Iterator

import pytest

from tests.chart_app import chart_app


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the chart_app."""
    with chart_app(tmp_path_factory.mktemp("chart") / "log") as url:
        yield url
