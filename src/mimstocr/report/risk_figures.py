"""The charts of risk, costs, capacity and decay. Each gives a plotly figure, or None where there is nothing to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from mimstocr.backtest.market import Values
from mimstocr.backtest.risk import MONTHS
from mimstocr.data.panel import Days
from mimstocr.report.figures import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    MONTHLY,
    NAMES,
    ORANGE,
    VERMILION,
    add_line,
    new_figure,
    plain,
    rolling_mean,
)
from mimstocr.report.formats import percent
from mimstocr.report.inputs import column, known
from mimstocr.report.risk import RiskInputs

DIVERGING = [[0, VERMILION], [0.5, "#ffffff"], [1, BLUE]]
"""Losses and underweights to gains and overweights."""
GROUPS_SHOWN = 8
"""Industries in which the account differs most from the universe."""
DASHED = {"color": GREY, "width": 1, "dash": "dash"}


def rolling_sharpes(risk: RiskInputs) -> go.Figure | None:
    """The Sharpe ratio of the last days, of the account and what it is measured against."""
    drawn = {name: values for name, values in risk.sharpe.items() if np.isfinite(values).any()}
    if not drawn:
        return None
    figure = new_figure(320)
    for name, values in drawn.items():
        style = {"color": COLOURS[name], "width": 2.2 if name == "net" else 1.4}
        add_line(figure, _names(risk.days), values, NAMES[name], style, "%{y:.2f}")
    figure.update_yaxes(title_text="Sharpe ratio")
    return figure


def month_map(months: pl.DataFrame) -> go.Figure | None:
    """The return of every month, a row a year, the whole year in the last column."""
    if "year" not in months.columns or months.is_empty():
        return None
    columns = [*MONTHS, "total"]
    table = months.select(pl.col(columns).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    if not np.isfinite(table).any():
        return None
    texts = [["" if not np.isfinite(value) else f"{value:.1%}" for value in row] for row in table]
    top = float(np.nanmax(np.abs(table[:, :-1]), initial=0.01))
    figure = new_figure(90 + 34 * len(table))
    figure.add_heatmap(
        z=table,
        x=[name.capitalize() for name in MONTHS] + ["Year"],
        y=[str(year) for year in months["year"]],
        text=texts,
        texttemplate="%{text}",
        zmin=-top,
        zmax=top,
        colorscale=DIVERGING,
        xgap=2,
        ygap=2,
        showscale=False,
        hoverongaps=False,
        hovertemplate="%{x} %{y}: %{text}<extra></extra>",
    )
    figure.add_vline(x=len(MONTHS) - 0.5, line={"color": "#c6cfd9", "width": 2})
    figure.update_layout(hovermode="closest", margin={"t": 14})
    figure.update_xaxes(showline=False, ticks="", side="bottom")
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", type="category")
    return figure


def industry_map(risk: RiskInputs) -> go.Figure | None:
    """The active share of the industries that differ most from the universe, mean by month."""
    if risk.industries is None:
        return None
    active = risk.industries.active
    on_all = np.isfinite(active).all(axis=1)
    if not on_all.any():
        return None
    active, months = active[on_all], risk.days[on_all].astype("datetime64[M]")
    overall = active.mean(axis=0)
    shown = np.argsort(-np.abs(overall), kind="stable")[:GROUPS_SHOWN]
    shown = shown[np.argsort(-overall[shown], kind="stable")]
    month, start, n = np.unique(months, return_index=True, return_counts=True)
    table = (np.add.reduceat(active[:, shown], start, axis=0) / n[:, None]).T
    top = max(float(np.abs(table).max()), 1e-4)
    figure = new_figure(90 + 30 * len(shown))
    figure.add_heatmap(
        z=table,
        x=[str(name) for name in month],
        y=[f"{plain(risk.industries.names[i])}  {overall[i]:+.1%}" for i in shown],
        zmin=-top,
        zmax=top,
        colorscale=DIVERGING,
        xgap=1,
        ygap=2,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickformat": "+.0%"},
        hovertemplate="%{y}<br>%{x}: %{z:+.2%}<extra></extra>",
    )
    figure.update_layout(hovermode="closest", margin={"t": 14})
    figure.update_xaxes(showline=False, ticks="", type="category", nticks=14)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def size_path(risk: RiskInputs) -> go.Figure | None:
    """The mean size rank of what is held and of what is sold short, over time."""
    drawn = {name: side.rank for name, side in risk.size.items() if np.isfinite(side.rank).any()}
    if not drawn:
        return None
    figure = new_figure(320)
    for name, rank in drawn.items():
        kept = np.isfinite(rank)
        mean = smoothed(rank[kept])
        style = {"color": BLUE if name == "held" else VERMILION, "width": 2}
        add_line(figure, _names(risk.days[kept]), mean, name.capitalize(), style, "%{y:.2f}", legend=len(drawn) > 1)
    figure.add_hline(y=0.5, line=DASHED)
    figure.update_yaxes(title_text="Mean size rank", range=[0, 1])
    return figure


def smoothed(values: Values) -> Values:
    """The mean of the last 20 days where there are at least 40, else as they are."""
    return rolling_mean(values, MONTHLY) if len(values) >= 2 * MONTHLY else values


def cost_bars(costs: pl.DataFrame) -> go.Figure | None:
    """What was paid by kind, as a fraction of the capital."""
    shares = column(costs, "of_capital")
    if shares is None:
        return None
    per_trade = column(costs, "basis_points")
    told = [""] * len(shares) if per_trade is None else [f"{value:.2f} bp of the value traded" for value in per_trade]
    figure = new_figure(80 + 44 * len(shares))
    figure.add_bar(
        x=shares,
        y=[plain(str(kind).replace("_", " ")) for kind in costs["kind"]],
        orientation="h",
        text=[percent(share) for share in shares],
        textposition="auto",
        customdata=told,
        marker={"color": BLUE},
        hovertemplate="%{y}: %{text} of the capital<br>%{customdata}<extra></extra>",
    )
    figure.update_layout(hovermode="closest", showlegend=False, margin={"t": 14})
    figure.update_xaxes(title_text="Of the capital at the start", tickformat=".0%", showgrid=True)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def capacity_returns(risk: RiskInputs, universe: Any) -> go.Figure | None:
    """Annual return and Sharpe ratio against the capital."""
    lines = ((1, "annual_return", "Annual return", "%{y:.1%}", BLUE), (2, "sharpe", "Sharpe", "%{y:.2f}", GREEN))
    figure = _against_capital(risk, lines)
    if figure is not None:
        if known(universe) is not None:
            figure.add_hline(y=float(universe), line=DASHED, row=1, col=1)
        figure.update_yaxes(title_text="Annual return, net", tickformat=".0%", rangemode="tozero", row=1)
        figure.update_yaxes(title_text="Sharpe, net", rangemode="tozero", row=2)
    return figure


def capacity_costs(risk: RiskInputs) -> go.Figure | None:
    """Costs of the value traded and what became of the orders, against the capital."""
    lines = (
        (1, "cost_bp", "Costs", "%{y:.1f} bp", BLUE),
        (2, "cut_by_volume", "Cut to the share of the volume", "%{y:.1%}", VERMILION),
        (2, "below_a_lot", "Less than a lot", "%{y:.1%}", ORANGE),
    )
    figure = _against_capital(risk, lines)
    if figure is not None:
        figure.update_yaxes(title_text="Costs, bp of trades", rangemode="tozero", row=1)
        figure.update_yaxes(title_text="Share of orders", tickformat=".0%", rangemode="tozero", row=2)
    return figure


def _against_capital(risk: RiskInputs, lines: tuple[tuple[int, str, str, str, str], ...]) -> go.Figure | None:
    table = pl.DataFrame() if risk.capacity is None else risk.capacity
    capital = column(table, "capital")
    drawn = [line for line in lines if column(table, line[1]) is not None]
    if capital is None or not drawn:
        return None
    figure = new_figure(420, rows=2, row_heights=[0.5, 0.5])
    for row, key, name, hover, colour in drawn:
        figure.add_scatter(
            x=capital,
            y=column(table, key),
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2},
            marker={"size": 7},
            showlegend=row == 2 and sum(line[0] == 2 for line in drawn) > 1,
            hovertemplate=hover,
            row=row,
            col=1,
        )
    if risk.capital is not None:
        figure.add_vline(x=risk.capital, line={**DASHED, "dash": "dot"})
    figure.update_xaxes(type="log", dtick=1, exponentformat="power")
    figure.update_xaxes(title_text="Capital at the start", row=2)
    return figure


def decay_bars(decay: pl.DataFrame, kind: str) -> go.Figure | None:
    """IC and RankIC by horizon with their standard errors."""
    table = decay.filter(pl.col("returns") == kind) if "returns" in decay.columns else pl.DataFrame()
    drawn = [key for key in ("ic", "rank_ic") if column(table, key) is not None]
    if not drawn:
        return None
    figure = new_figure(320)
    for key in drawn:
        errors = column(table, f"{key}_se")
        figure.add_bar(
            x=table["horizon"].to_list(),
            y=column(table, key),
            name=NAMES[key],
            marker={"color": COLOURS[key]},
            error_y=None
            if errors is None
            else {"type": "data", "array": errors, "color": INK, "thickness": 1, "width": 2},
            hovertemplate="%{y:.4f}" + ("" if errors is None else " \u00b1 %{error_y.array:.4f}"),
        )
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(title_text="Days ahead", dtick=1 if len(table) <= 20 else None)
    figure.update_yaxes(title_text="Mean over days", zeroline=True)
    return figure


def _names(days: Days) -> list[str]:
    return [str(day) for day in days]
