"""docs/reference.md matches the docstrings."""

import components
from tests.reference import FILE, reference


def test_reference_is_current() -> None:
    """The document matches the docstrings; `python -m tests.reference` writes it."""
    assert FILE.read_text() == reference()


def test_everything_is_described() -> None:
    """Each public name has a docstring of more than three words."""
    for name in components.__all__:
        assert len((getattr(components, name).__doc__ or "").split()) > 3, name
