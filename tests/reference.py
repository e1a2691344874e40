"""Generates docs/reference.md from the docstrings of `components`: `python -m tests.reference`."""

import inspect
import re
from pathlib import Path

import components

FILE = Path(__file__).parent.parent / "docs" / "reference.md"
MARK = "<!-- generated from the docstrings from here on -->\n"


def reference() -> str:
    """The whole document. The text above MARK is kept."""
    kept = FILE.read_text().partition(MARK)[0]
    return kept + MARK + "".join(f"\n{_entry(name)}" for name in components.__all__)


def _entry(name: str) -> str:
    thing = getattr(components, name)
    if not inspect.isclass(thing):
        return f"## {name}\n\n```python\n{name}{_signature(thing)}\n```\n\n{_doc(thing)}\n"
    parts = [f"## {name}\n\n{_doc(thing)}\n"]
    for member, value in vars(thing).items():
        of = value.fget if isinstance(value, property) else value
        if member.startswith("_") or not inspect.isfunction(of) or not of.__doc__:
            continue
        called = "" if isinstance(value, property) else _signature(of, method=True)
        parts.append(f"\n`{name}.{member}{called}`: {_doc(of)}\n")
    return "".join(parts)


def _signature(function: object, *, method: bool = False) -> str:
    found = inspect.signature(function)  # type: ignore[arg-type]
    if method:
        found = found.replace(parameters=list(found.parameters.values())[1:])
    # In the source, a type that only the type checker imports is written as a string.
    text = re.sub(r"-> '(.*)'$", r"-> \1", str(found))
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text).replace("pandas.", "pd.")


def _doc(thing: object) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


if __name__ == "__main__":
    FILE.write_text(reference())
