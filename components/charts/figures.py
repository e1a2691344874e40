"""Figures of Plotly under a policy that lets no page make code of text."""

from typing import Any

from nats_client import LookbackError

_SVG = {"scattergl": "scatter", "scatterpolargl": "scatterpolar"}
"""The same traces, without WebGL. Plotly Express takes WebGL on its own account above a thousand rows."""
_NEVER = ("parcoords", "splom")
"""Drawn with WebGL only."""


def drawable(figure: Any) -> Any:
    """`figure`, but for traces whose WebGL code Plotly makes as it draws, which the content security
    policy forbids (web/middleware.py): they are SVG. Raises LookbackError where there is no such."""
    kinds = {_kind(trace) for trace in _traces(figure)}
    if found := kinds & set(_NEVER):
        raise LookbackError(
            f"A chart of the type {found.pop()!r} cannot be drawn: Plotly makes code of text for it, which "
            "the content security policy forbids. Choose another type."
        )
    if kinds & set(_SVG):
        figure = dict(figure) if isinstance(figure, dict) else figure.to_dict()
        figure["data"] = [
            {**trace, "type": _SVG.get(_kind(trace), _kind(trace))} for trace in _traces(figure)
        ]
    return figure


def _traces(figure: Any) -> list[Any]:
    data = figure.get("data") if isinstance(figure, dict) else getattr(figure, "data", None)
    return list(data) if isinstance(data, (list, tuple)) else []


def _kind(trace: Any) -> str:
    return str((trace.get("type") if isinstance(trace, dict) else getattr(trace, "type", None)) or "scatter")
