"""A network between a feed and its server that is cut or unreliable.

Slow, because the wire is cut for longer than anything waits for an answer.
"""

import subprocess
import sys

import pytest

from tests.network import SCENARIOS
from tests.running import ROOT


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_network(scenario: str) -> None:
    """Each scenario of tests/network.py succeeds, in network namespaces of its own."""
    ran = subprocess.run(
        ["unshare", "-Urn", sys.executable, "-m", "tests.network", scenario],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout
