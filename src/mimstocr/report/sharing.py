"""What the sharing structure does with its parts: a map for each table, a panel for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mimstocr.report.chart import Chart, make_chart
from mimstocr.report.figures import TEMPLATE, plain
from mimstocr.report.formats import counted
from mimstocr.report.inputs import ReportInputs, Series, dig, known
from mimstocr.report.risk_figures import DIVERGING

SEEDS_SHOWN = 4
"""Panels of a map, up to three in a row, or two by two."""
GROWING = [[0, "#f5f9fc"], [0.5, "#7fb8da"], [1, "#00568a"]]
"""From 0 up, as on the maps of confusion."""


def sharing_charts(inputs: ReportInputs) -> list[Chart]:
    """A map for each table of `sharing.json`; a table without a value is left out."""
    charts = []
    for place, table in enumerate(dig(inputs.sharing, "tables") or []):
        rows, columns = ([str(name) for name in table.get(key) or []] for key in ("rows", "columns"))
        of_seeds = _values(table, (len(rows), len(columns)))
        if not of_seeds:
            continue
        head = str(table.get("name") or "sharing")
        figure = mixing_map(of_seeds, rows, columns)
        caption = _caption(inputs, table, len(of_seeds))
        charts.append(make_chart(figure, f"sharing-{place}", head[:1].upper() + head[1:], caption))
    return charts


def mixing_map(of_seeds: Mapping[str, Series], rows: Sequence[str], columns: Sequence[str]) -> go.Figure:
    """The table of each of the first seeds, (rows, columns), on one scale of colours; NaN stays empty."""
    shown = dict(list(of_seeds.items())[:SEEDS_SHOWN])
    across = len(shown) if len(shown) <= 3 else 2
    down = -(-len(shown) // across)
    titles = [f"Seed {plain(seed)}" for seed in shown] if len(shown) > 1 else None
    figure = make_subplots(rows=down, cols=across, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    height = 90 + down * (60 + 34 * len(rows))
    figure.update_layout(template=TEMPLATE, height=height, hovermode="closest", margin={"t": 34 if titles else 14})
    figure.update_annotations(font_size=12)
    everything = np.stack(list(shown.values()))
    top = float(np.nanmax(np.abs(everything))) or 1.0
    signed = bool(np.nanmin(everything) < 0)
    for place, table in enumerate(shown.values()):
        # by place, not by name: two rows of one name stay two
        figure.add_heatmap(
            z=table,
            x=list(range(len(columns))),
            y=list(range(len(rows))),
            text=[["" if np.isnan(value) else f"{value:.3f}" for value in row] for row in table],
            texttemplate="%{text}",
            customdata=[[f"{plain(row)}, {plain(column)}" for column in columns] for row in rows],
            zmin=-top if signed else 0,
            zmax=top,
            colorscale=DIVERGING if signed else GROWING,
            xgap=2,
            ygap=2,
            showscale=False,
            hoverongaps=False,
            hovertemplate="%{customdata}: %{text}<extra></extra>",
            row=place // across + 1,
            col=place % across + 1,
        )
    figure.update_xaxes(**_names(columns), showline=False)
    figure.update_yaxes(**_names(rows), autorange="reversed")
    return figure


def _names(names: Sequence[str]) -> dict[str, Any]:
    texts = [plain(name) for name in names]
    return {"tickvals": list(range(len(names))), "ticktext": texts, "ticks": "", "showgrid": False, "zeroline": False}


def _values(table: Mapping[str, Any], shape: tuple[int, int]) -> dict[str, Series]:
    """Seed to its values, NaN where not known; a seed of another shape or without any value is left out."""
    found = {}
    for seed, rows in (table.get("values") or {}).items():
        values = np.asarray([[np.nan if known(v) is None else known(v) for v in row] for row in rows], dtype=np.float64)
        if values.shape == shape and np.isfinite(values).any():
            found[str(seed)] = values
    return found


def _caption(inputs: ReportInputs, table: Mapping[str, Any], n_seeds: int) -> str:
    days = len(dig(inputs.sharing, "days") or [])
    measured = f"Of the best epoch, on {counted(days, 'validation day')}."
    left_out = f" The first {SEEDS_SHOWN} of {n_seeds} seeds." if n_seeds > SEEDS_SHOWN else ""
    return f"{table.get('meaning') or ''} {measured}{left_out}".strip()
