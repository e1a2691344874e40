"""A box in which a viewer writes SQL. The SQL that was run last is kept in the page's URL."""

from collections.abc import Sequence

import streamlit as st

from nats_client.errors import SqlError

from ..choices.address import asked, keep
from ..web.assets import STUB

LONGEST = 20_000
"""Characters of SQL that are accepted from a browser; the rest is cut off."""

_component = st.components.v2.component("sql_box", js=STUB.format("sql_box"), isolate_styles=False)


def written(name: str, default: str) -> str:
    """The SQL that the viewer has run: in the box `name`, or else in the URL, or else `default`."""
    state = st.session_state.get(f"_{name}")
    given = state.get("sql") if state is not None else None
    return given[:LONGEST] if isinstance(given, str) else asked(name, default)


def is_stopped(name: str, sql: str) -> bool:
    """True if the viewer has stopped this SQL in the box `name`."""
    state = st.session_state.get(f"_{name}")
    return state is not None and state.get("stopped") == sql


def sql_box(
    name: str, label: str, default: str, names: Sequence[str], mistake: SqlError | None, *, stopped: bool
) -> None:
    """Draw the box. `names`: the words that it can complete. `mistake`: the error of the SQL that was run.
    `stopped`: the viewer has stopped that SQL."""
    sql = written(name, default)
    keep(name, None if sql == default else sql)
    data: dict[str, object] = {"sql": sql, "label": label, "names": list(names), "stopped": stopped}
    if mistake is not None:
        data["mistake"] = {"text": mistake.what, "line": mistake.line, "column": mistake.column}
    _component(key=f"_{name}", data=data, on_sql_change=_run, on_stopped_change=_run)


def _run() -> None:
    """Intentionally empty: registering it makes Streamlit rerun when the viewer runs the SQL or stops it."""
