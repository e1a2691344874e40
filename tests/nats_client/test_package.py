"""The public names of the package, and the libraries that importing it loads."""

import subprocess
import sys

import pytest

import nats_client
from tests.running import ROOT


@pytest.mark.parametrize("name", nats_client.__all__)
def test_each_name_is_there(name: str) -> None:
    """Each public name can be imported, and dir() lists it for completion."""
    value = getattr(nats_client, name)
    assert getattr(value, "__name__", name) == name  # a union of types has none
    assert name in dir(nats_client)


def test_unknown_name() -> None:
    """An unknown name raises an ordinary AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = nats_client.Cleint


def test_reporting_loads_no_tables() -> None:
    """A program that reports as a workflow loads neither pandas nor pyarrow."""
    code = "import sys, services.workflow; print([m for m in ('pandas', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
