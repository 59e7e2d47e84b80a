"""A chart of the page, ready to be put into it."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Chart:
    """A figure, what it is called, and how it is read."""

    name: str
    head: str
    caption: str
    json: str
    height: int
    scale: bool = False
    """Whether the first vertical axis can be switched to logarithms."""


def make_chart(figure: go.Figure, name: str, head: str, caption: str, *, scale: bool = False) -> Chart:
    """The chart of a figure."""
    return Chart(name, head, caption, in_script(figure.to_json()), int(figure.layout.height), scale)


def in_script(json: str) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    return json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
