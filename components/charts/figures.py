"""Makes Plotly figures work under a content security policy without `unsafe-eval`."""

from typing import Any

from nats_client import LookbackError

_SVG = {"scattergl": "scatter", "scatterpolargl": "scatterpolar"}
"""The SVG trace for each WebGL trace. Plotly Express switches to WebGL above a thousand rows."""
_NEVER = ("parcoords", "splom")
"""Traces that exist in WebGL only."""


def drawable(figure: Any) -> Any:
    """`figure` with its WebGL traces replaced by SVG ones: Plotly's WebGL code needs `unsafe-eval`, which the
    content security policy forbids (web/middleware.py). Raises LookbackError if a trace has no SVG form."""
    kinds = {_kind(trace) for trace in _traces(figure)}
    if found := kinds & set(_NEVER):
        raise LookbackError(
            f"Cannot draw a chart of the type {found.pop()!r}: Plotly needs eval for it, which the content "
            "security policy forbids. Choose another type."
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
