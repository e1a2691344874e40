"""docs/reference.md out of the docstrings of `components`: `python -m tests.reference`."""

import inspect
import re
from pathlib import Path

import components

FILE = Path(__file__).parent.parent / "docs" / "reference.md"
HEAD = """# Reference

What pages call, `from components import …`: made of the docstrings by `python -m tests.reference`, and held to them
by a test.

## What a page costs

A page runs again at each refresh of each viewer, so what it asks for counts. Of a window of half a million rows with
five numbers and a text, on two busy cores (`python -m bench.page_costs` measures them on yours):

| call | ms for each viewer and refresh |
|---|---|
| `rows.latest("v0")` | 0.4 |
| `rows.frame(last=200)` | 0.2 |
| `rows.frame(["v0"])` | 14 |
| `rows.frame()` | 15 |
| `rows.frame().groupby("_subject")["v0"].mean()` | 30 |

Charts, alerts and `latest` are worked out once for all viewers and from the rows that are new; what you do with a
`frame()` is done again for each viewer at each refresh. Keep it in a function under `st.cache_data` whose argument is
the newest `_seq`, and all viewers share it. Such a table belongs to its caller: copy it before you change it.

Nested objects in a payload give dotted names, `{"disk": {"used": 3}}` a column `disk.used`. An array is one text,
its JSON: `{"cores": [3, 7]}` gives the text `[3,7]`. Publish a message, or a field, for each of what you chart.

## Choices

`choose` and `choose_number` draw a choice, keep it in the address under its name, and give it back at the next
refresh, after a reload and to whoever opens the link. Streamlit's own widgets do the same with
`bind="query-params"`. What a viewer chose goes into `live()` as it is: names are checked before they are sent.

## Pages

A file in `pages/`, or in the folder of `LOOKBACK_PAGES`, is a page; the first line of its docstring is its title. A file
of the same name as a built-in page replaces it, an empty one hides it, `LOOKBACK_BUILT_IN=0` leaves them all out. An
edited page takes effect at the next refresh, unless `LOOKBACK_RELOAD=0`. What a page raises is drawn in its place:
the text of an error of Lookback, and of any other only a reference, for the log.
"""


def reference() -> str:
    """The whole document."""
    return HEAD + "".join(f"\n{_entry(name)}" for name in components.__all__)


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
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", str(found)).replace("pandas.", "pd.")


def _doc(thing: object) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


if __name__ == "__main__":
    FILE.write_text(reference())
