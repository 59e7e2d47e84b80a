"""The charts. Every function gives a plotly figure, or None where there is nothing to draw.

One thing has one colour on every chart. The palette is that of Okabe and Ito, and for tasks that of Paul Tol, both
made for colour-blind readers.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from mimstocr.backtest.portfolio import drawdown
from mimstocr.report.inputs import ReportInputs, Series, column, confusion, dates, dig, known, matrix

BLUE, SKY, GREEN, ORANGE, VERMILION = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00"
INK, GREY, GRID = "#27364a", "#7a8797", "#e8ecf1"
COLOURS = {
    "net": BLUE,
    "gross": SKY,
    "universe": GREY,
    "index": VERMILION,
    "ic": BLUE,
    "rank_ic": GREEN,
    "train": ORANGE,
    "valid": BLUE,
    "indicator": "#cc79a7",
    "test": BLUE,
    "predicted": VERMILION,
}
TASK_COLOURS = ("#882255", "#999933", "#332288", "#44aa99", "#ddcc77", "#aa4499", "#117733", "#88ccee")
NAMES = {
    "net": "Net",
    "gross": "Gross",
    "universe": "Universe, equal weight",
    "index": "Index",
    "ic": "IC",
    "rank_ic": "RankIC",
    "train": "Train",
    "valid": "Validation",
    "indicator": "Held out for the balancer",
}
TELEMETRY_SKIPS = {"seed", "epoch", "train", "valid", "indicator", "ic", "rank_ic", "best", "seconds"}
SERIES = ("net", "gross", "universe", "index")
MONTHLY, QUARTERLY = 20, 60
"""Days of a rolling mean: about a month and about a quarter."""

AXIS = {
    "gridcolor": GRID,
    "linecolor": "#c6cfd9",
    "zerolinecolor": "#b4bfcb",
    "zerolinewidth": 1,
    "ticks": "outside",
    "tickcolor": "#c6cfd9",
    "ticklen": 4,
    "automargin": True,
    "title": {"font": {"size": 12, "color": GREY}, "standoff": 8},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": '-apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
            "size": 12,
            "color": INK,
        },
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {**AXIS, "showgrid": False},
        "yaxis": AXIS,
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": "#c6cfd9", "font": {"size": 12}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"},
        "margin": {"l": 58, "r": 14, "t": 34, "b": 34},
        "annotationdefaults": {"font": {"size": 12, "color": INK}, "showarrow": False},
        "bargap": 0.35,
    }
)


def plain(text: Any) -> str:
    """Text for a chart, whose labels would read tags otherwise."""
    return html.escape(str(text), quote=False)


def rolling_days(n: int) -> int:
    """How many days the rolling means of n days take."""
    return QUARTERLY if n >= 2 * QUARTERLY else MONTHLY if n >= 2 * MONTHLY else max(2, n // 4)


def rolling_mean(values: Series, days: int) -> Series:
    """The mean of the last `days` values, NaN before there are so many."""
    if len(values) < days:
        return np.full(len(values), np.nan)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.concatenate([np.full(days - 1, np.nan), (total[days:] - total[:-days]) / days])


def ic_over_time(daily: pl.DataFrame) -> go.Figure | None:
    """The rolling means of IC and RankIC, the IC of each day, and the sums since the first day."""
    if column(daily, "ic") is None and column(daily, "rank_ic") is None:
        return None
    figure = new_figure(640, rows=3, row_heights=[0.36, 0.28, 0.36])
    for key in ("ic", "rank_ic"):
        days, values = _defined(daily, key)
        style = {"color": COLOURS[key], "width": 2}
        mean = rolling_mean(values, rolling_days(len(values)))
        add_line(figure, days, mean, NAMES[key], style, "%{y:.4f}", row=1)
        add_line(figure, days, np.cumsum(values), NAMES[key], style, "%{y:.2f}", row=3, legend=False)
    days, values = _defined(daily, "ic")
    dots = {"color": COLOURS["ic"], "size": 3.5, "opacity": 0.35}
    hover = "IC of the day %{y:.4f}<extra></extra>"
    figure.add_scatter(
        x=days, y=values, mode="markers", marker=dots, showlegend=False, hovertemplate=hover, row=2, col=1
    )
    figure.update_yaxes(title_text="Rolling mean", rangemode="tozero", row=1)
    figure.update_yaxes(title_text="IC, daily", row=2)
    figure.update_yaxes(title_text="Sum since start", row=3)
    return figure


def quantile_bars(quantiles: pl.DataFrame) -> go.Figure | None:
    """The mean label return of each quantile with its standard error over days, in basis points."""
    names = quantile_names(quantiles)
    if not names:
        return None
    figure = new_figure(340)
    values = [_defined(quantiles, name)[1] * 1e4 for name in names]
    means = [float(v.mean()) for v in values]
    errors = [float(v.std(ddof=1) / len(v) ** 0.5) if len(v) > 1 else None for v in values]
    shades = _shades(len(names))
    figure.add_bar(
        x=_quantile_labels(len(names)),
        y=means,
        error_y={"type": "data", "array": errors, "color": INK, "thickness": 1.2, "width": 5},
        marker={"color": shades, "line": {"color": BLUE, "width": 0.8}},
        hovertemplate="%{y:.2f} bp \u00b1 %{error_y.array:.2f}<extra></extra>",
    )
    overall = float(np.mean(means))
    figure.add_hline(y=overall, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_layout(showlegend=False, hovermode="closest", margin={"t": 14})
    figure.update_yaxes(title_text="Mean return, bp", zeroline=True)
    return figure


def quantile_paths(quantiles: pl.DataFrame) -> go.Figure | None:
    """The sum over days of each quantile's return minus the mean of all quantiles of that day."""
    names = quantile_names(quantiles)
    if not names:
        return None
    table = matrix(quantiles, names)
    whole = ~np.isnan(table.sum(axis=1))
    if not whole.any():
        return None
    days = [day for day, is_whole in zip(dates(quantiles), whole, strict=True) if is_whole]
    excess = table[whole] - table[whole].mean(axis=1, keepdims=True)
    figure = new_figure(340)
    middle = (len(names) - 1) / 2
    for place, (label, path) in enumerate(zip(_quantile_labels(len(names)), np.cumsum(excess, axis=0).T, strict=True)):
        colour = VERMILION if place < middle else BLUE if place > middle else GREY
        at_edge = place in (0, len(names) - 1)
        style = {"color": colour, "width": 2.2 if at_edge else 1}
        add_line(figure, days, path, label.replace("<br>", " "), style, "%{y:.1%}", legend=at_edge)
    figure.update_yaxes(title_text="Sum of excess returns", tickformat=".0%")
    return figure


def equity(table: pl.DataFrame) -> go.Figure | None:
    """Growth of 1, drawdown and turnover of the backtest over one time axis."""
    days = dates(table)
    found = {name: values for name in SERIES if (values := column(table, name)) is not None}
    if not found:
        return None
    turnover = column(table, "turnover")
    heights = [0.58, 0.25, 0.17] if turnover is not None else [0.68, 0.32]
    figure = new_figure(640, rows=len(heights), row_heights=heights)
    for name, returns in found.items():
        moves = np.nan_to_num(returns, nan=0.0)
        style = {"color": COLOURS[name], "dash": "dot" if name == "gross" else "solid"}
        bold = {**style, "width": 2.4 if name == "net" else 1.5}
        add_line(figure, days, np.cumprod(1.0 + moves), NAMES[name], bold, "%{y:.3f}", row=1)
        if name != "gross":
            fill = {"fill": "tozeroy", "fillcolor": "rgba(0,114,178,0.12)"} if name == "net" else {}
            thin = {**style, "width": 1.3}
            add_line(figure, days, drawdown(moves), NAMES[name], thin, "%{y:.1%}", row=2, legend=False, more=fill)
    if turnover is not None:
        mean = rolling_mean(turnover, MONTHLY) if len(turnover) >= 2 * MONTHLY else turnover
        add_line(figure, days, mean, "Turnover", {"color": BLUE, "width": 1.3}, "%{y:.1%}", row=3, legend=False)
        figure.update_yaxes(title_text="Turnover", tickformat=".0%", rangemode="tozero", row=3)
    figure.update_yaxes(title_text="Growth of 1", row=1)
    figure.update_yaxes(title_text="Drawdown", tickformat=".0%", row=2)
    return figure


def loss_curves(inputs: ReportInputs, task: str) -> go.Figure | None:
    """Train and validation loss of one task by epoch, each seed thin, their mean bold, best epochs marked."""
    figure = new_figure(300)
    drawn = [_seed_lines(figure, inputs, (part, task), COLOURS[part], NAMES[part]) for part in LOSS_PARTS]
    if not any(drawn):
        return None
    _mark_best(figure, inputs, ("valid", task), COLOURS["valid"])
    figure.update_xaxes(title_text="Epoch")
    figure.update_yaxes(title_text="Loss")
    return figure


LOSS_PARTS = ("train", "valid", "indicator")


def validation_ic(inputs: ReportInputs) -> go.Figure | None:
    """Validation IC and RankIC by epoch."""
    figure = new_figure(300)
    drawn = [_seed_lines(figure, inputs, (key,), COLOURS[key], NAMES[key]) for key in ("ic", "rank_ic")]
    if not any(drawn):
        return None
    _mark_best(figure, inputs, ("rank_ic",), COLOURS["rank_ic"])
    figure.update_xaxes(title_text="Epoch")
    figure.update_yaxes(title_text="Validation, mean of days")
    return figure


def validation_account(inputs: ReportInputs) -> go.Figure | None:
    """Sharpe ratio of an agent's validation account by epoch."""
    figure = new_figure(300)
    if not _seed_lines(figure, inputs, ("sharpe",), COLOURS["valid"], "Sharpe ratio"):
        return None
    _mark_best(figure, inputs, ("sharpe",), COLOURS["valid"])
    figure.update_xaxes(title_text="Epoch")
    figure.update_yaxes(title_text="Sharpe ratio, a year")
    return figure


def telemetry_keys(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the balancer told, in the order of its first row: every list of numbers that is not a loss."""
    keys: dict[str, None] = {}
    for row in history:
        keys |= {key: None for key, value in row.items() if key not in TELEMETRY_SKIPS and isinstance(value, list)}
    return list(keys)


def telemetry(inputs: ReportInputs, key: str) -> tuple[go.Figure, int] | None:
    """One line a task (or one in all) and seed by epoch, and how many points lie outside the drawn range."""
    width = max((len(row.get(key) or []) for row in inputs.history), default=0)
    figure, drawn, values = new_figure(300), False, []
    for place in range(width):
        per_task = width == len(inputs.learned) and width > 1
        name, colour = (inputs.learned[place], task_colour(place)) if per_task else (key, INK)
        name = name if per_task or width == 1 else f"{key} {place + 1}"
        drawn |= _seed_lines(figure, inputs, (key, place), colour, name)
        values += [y for _, ys in _by_seed(inputs.history, (key, place)).values() for y in ys if y is not None]
    if not drawn:
        return None
    outside = _keep_in_sight(figure, np.asarray(values))
    figure.update_xaxes(title_text="Epoch")
    figure.update_yaxes(title_text=plain(key), exponentformat="power")
    figure.update_layout(showlegend=width > 1)
    return figure, outside


def level_shares(inputs: ReportInputs, task: str) -> go.Figure | None:
    """How often each level is true in training, true in the test and named in the test."""
    counts = confusion(inputs, task, "test")
    bars: list[tuple[str, Any, str]] = [("Train, true", dig(inputs.data, "tasks", task, "train_shares"), ORANGE)]
    if counts is not None:
        bars += [
            ("Test, true", counts.sum(axis=1) / counts.sum(), COLOURS["test"]),
            ("Test, predicted", counts.sum(axis=0) / counts.sum(), COLOURS["predicted"]),
        ]
    bars = [bar for bar in bars if bar[1] is not None]
    if not bars:
        return None
    figure = new_figure(360)
    levels = [plain(level) for level in inputs.levels[task]]
    for name, shares, colour in bars:
        template = "%{x}: %{y:.1%}<extra>" + name + "</extra>"
        figure.add_bar(x=levels, y=list(shares), name=name, marker={"color": colour}, hovertemplate=template)
    figure.update_layout(barmode="group", bargap=0.25, hovermode="closest")
    figure.update_yaxes(title_text="Share of stocks", tickformat=".0%")
    return figure


def confusion_map(counts: NDArray[np.float64], levels: Sequence[str]) -> go.Figure:
    """Of the stocks of each true level, the share that was named what; rows sum to 1, counts on hovering."""
    of_true = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_true, out=np.zeros_like(counts), where=of_true > 0)
    texts = [
        [f"{share:.0%} ({n:,.0f})" for share, n in zip(row, ns, strict=True)]
        for row, ns in zip(shares, counts, strict=True)
    ]
    names = [plain(level) for level in levels]
    figure = new_figure(360)
    figure.add_heatmap(
        z=shares,
        x=names,
        y=names,
        text=texts,
        texttemplate="%{z:.0%}",
        zmin=0,
        zmax=max(0.5, float(shares.max())),
        colorscale=[[0, "#f5f9fc"], [0.5, "#7fb8da"], [1, "#00568a"]],
        xgap=2,
        ygap=2,
        showscale=False,
        hovertemplate="true %{y}, named %{x}: %{text}<extra></extra>",
    )
    figure.update_layout(hovermode="closest", margin={"t": 14})
    figure.update_xaxes(title_text="Predicted", showline=False, ticks="")
    figure.update_yaxes(title_text="True", autorange="reversed", showgrid=False, ticks="")
    return figure


def diagnostic_histogram(values: Series, name: str) -> go.Figure:
    """How a value of each training day is distributed."""
    figure = new_figure(300)
    figure.add_histogram(
        x=values, nbinsx=40, marker={"color": TASK_COLOURS[0]}, hovertemplate="%{x}: %{y} days<extra></extra>"
    )
    median = float(np.median(values))
    figure.add_vline(x=median, line={"color": INK, "width": 1.2, "dash": "dash"})
    figure.update_layout(bargap=0.06, hovermode="closest", showlegend=False, margin={"t": 14})
    figure.update_xaxes(title_text=f"{plain(name)} of a day")
    figure.update_yaxes(title_text="Training days")
    return figure


def diagnostic_path(days: Sequence[str], values: Series, name: str) -> go.Figure:
    """A value of each training day over time, with its rolling mean."""
    figure = new_figure(300)
    dots = {"color": TASK_COLOURS[0], "size": 3.5, "opacity": 0.25}
    figure.add_scatter(x=list(days), y=values, mode="markers", marker=dots, hoverinfo="skip")
    mean = rolling_mean(values, rolling_days(len(values)))
    add_line(figure, list(days), mean, "Rolling mean", {"color": TASK_COLOURS[0], "width": 2}, "%{y:.1f}")
    figure.update_layout(showlegend=False, margin={"t": 14})
    figure.update_yaxes(title_text=f"{plain(name)} of a day", rangemode="tozero")
    return figure


def quantile_names(quantiles: pl.DataFrame) -> list[str]:
    """q1 .. qn, those with a value, in the order of their numbers."""
    names = [name for name in quantiles.columns if name[:1] == "q" and name[1:].isdigit()]
    return sorted((name for name in names if column(quantiles, name) is not None), key=lambda name: int(name[1:]))


def task_colour(place: int) -> str:
    """The colour of the task at a place, the same on every chart."""
    return TASK_COLOURS[place % len(TASK_COLOURS)]


def new_figure(height: int, *, rows: int = 1, row_heights: list[float] | None = None) -> go.Figure:
    """An empty figure in the report's look; rows share the horizontal axis."""
    figure = (
        go.Figure()
        if rows == 1
        else make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.045, row_heights=row_heights)
    )
    figure.update_layout(template=TEMPLATE, height=height)
    return figure


def add_line(
    figure: go.Figure,
    x: Sequence[Any],
    y: Any,
    name: str,
    style: Mapping[str, Any],
    hover: str | None,
    *,
    row: int | None = None,
    legend: bool = True,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Add a line; `legend` is whether it stands in the legend, where lines of one name share an entry."""
    where = {} if row is None else {"row": row, "col": 1}
    figure.add_scatter(
        x=list(x),
        y=y,
        mode="lines",
        name=plain(name),
        line=dict(style),
        showlegend=legend,
        legendgroup=plain(name),
        hovertemplate=hover,
        **(more or {}),
        **where,
    )


def _defined(frame: pl.DataFrame, name: str) -> tuple[list[str], Series]:
    """The days on which a column has a value, and the values."""
    values = column(frame, name)
    if values is None:
        return [], np.empty(0)
    kept = np.isfinite(values)
    return [day for day, keep in zip(dates(frame), kept, strict=True) if keep], values[kept]


def _by_seed(
    history: Sequence[Mapping[str, Any]], path: tuple[Any, ...]
) -> dict[Any, tuple[list[int], list[float | None]]]:
    """Seed to epochs and the values at a path of its rows (keys, or a place in a list); None where not known."""
    lines: dict[Any, tuple[list[int], list[float | None]]] = {}
    for row in history:
        value: Any = row
        for key in path:
            if isinstance(value, list):
                value = value[key] if isinstance(key, int) and key < len(value) else None
            else:
                value = dig(value, key)
        epochs, values = lines.setdefault(row.get("seed"), ([], []))
        epochs.append(int(row["epoch"]))
        values.append(known(value))
    return {seed: line for seed, line in lines.items() if any(value is not None for value in line[1])}


def _seed_lines(figure: go.Figure, inputs: ReportInputs, path: tuple[Any, ...], colour: str, name: str) -> bool:
    """A line a seed, and bold their mean over the epochs that all reached; false where there is nothing."""
    lines = _by_seed(inputs.history, path)
    several = len(lines) > 1
    for seed, (epochs, values) in lines.items():
        style = {"color": colour, "width": 1 if several else 2.2}
        label = f"{name}, seed {seed}" if several else name
        faint = {"opacity": 0.4, "hoverinfo": "skip"} if several else {}
        hover = None if several else "%{y:.4g}"
        add_line(figure, epochs, values, label, style, hover, legend=not several, more=faint)
    if several:
        table = [dict(zip(*line, strict=True)) for line in lines.values()]
        shared = sorted(set.intersection(*(set(line) for line in table)))
        means = [float(np.mean([line[e] if line[e] is not None else np.nan for line in table])) for e in shared]
        add_line(figure, shared, np.asarray(means), name, {"color": colour, "width": 2.6}, "%{y:.4g}")
    return bool(lines)


def _mark_best(figure: go.Figure, inputs: ReportInputs, path: tuple[Any, ...], colour: str) -> None:
    """A diamond on the epoch of each seed whose weights were kept."""
    best = {row.get("seed"): row["epoch"] for row in inputs.history if row.get("best")}
    lines = _by_seed(inputs.history, path)
    at = [(best[seed], dict(zip(*line, strict=True)).get(best[seed])) for seed, line in lines.items() if seed in best]
    if at:
        marker = {"symbol": "diamond", "size": 9, "color": colour, "line": {"color": "#ffffff", "width": 1.2}}
        epochs, values = zip(*at, strict=True)
        figure.add_scatter(x=epochs, y=values, mode="markers", name="Best epoch", marker=marker, hoverinfo="skip")


def _keep_in_sight(figure: go.Figure, values: NDArray[np.float64]) -> int:
    """Cut the axis where a few far points would flatten the rest; gives how many are cut off."""
    low, high = np.percentile(values, [5, 95])
    room = 3 * max(high - low, 0.5 * abs(low), 0.5 * abs(high))
    outside = int(((values < low - room) | (values > high + room)).sum())
    if outside:
        figure.update_yaxes(range=[low - room, high + room])
    return outside


def _quantile_labels(n: int) -> list[str]:
    ends = {1: "Q1<br>lowest scores", n: f"Q{n}<br>highest scores"}
    return [ends.get(place, f"Q{place}") for place in range(1, n + 1)]


def _shades(n: int) -> list[str]:
    """From pale to full blue."""
    return [f"rgba(0,114,178,{0.25 + 0.7 * place / max(n - 1, 1):.2f})" for place in range(n)]
