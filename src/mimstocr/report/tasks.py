"""How well each task met its own label: a table for each kind of task, and what probabilities were worth."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from mimstocr.report.chart import Chart, make_chart
from mimstocr.report.figures import BLUE, GREY, new_figure
from mimstocr.report.formats import NOTHING, Metric, basis_points, compact, number, percent, title
from mimstocr.report.inputs import ReportInputs, dig, over_seeds, spread_of
from mimstocr.report.tables import SPLITS, Table, with_std

RANKS = {
    "ic": Metric("IC", number, "Pearson correlation of output and label over the stocks of a day; mean over days."),
    "rank_ic": Metric("RankIC", number, "Spearman correlation of output and label of a day; mean over days."),
}
GUESS = {
    "accuracy": Metric("Accuracy", percent, "Share of stocks whose likeliest outcome came."),
    "majority": Metric("Majority", percent, "Accuracy of always naming the most frequent outcome."),
}
ODDS = {
    "log_loss": Metric("Log loss", number, "Mean of -log of the probability of what came, in nats."),
    "base_log_loss": Metric("Of the base rate", number, "The log loss of always saying how frequent it is."),
}
ECE = {"ece": Metric("ECE", number, "Expected calibration error: distance of what was said from what came, ten bins.")}


class Kind(NamedTuple):
    """One kind of task."""

    head: str
    metrics: dict[str, Metric]
    """By their path below the task's own figures."""


KINDS = {
    "value": Kind(
        "Real values",
        {
            **RANKS,
            "mse": Metric("MSE", compact, "Mean squared error, in the square of the label's unit."),
            "r2_zero": Metric("R2 against 0", number, "1 - squared error over that of saying 0; below 0 is worse."),
            "slope": Metric(
                "Slope", number, "Of the regression of label on output; below 1 the outputs spread too far."
            ),
        },
    ),
    "scale": Kind(
        "Volatilities",
        {
            **RANKS,
            "qlike": Metric("QLIKE", number, "Loss of the predicted variance (Patton 2011); 0 is perfect."),
            "reference.qlike": Metric("QLIKE trailing", number, "The same of the volatility of the last days."),
            "skill": Metric("Skill", number, "1 - QLIKE over that of the trailing volatility."),
            "log_correlation": Metric("Corr. of logs", number, "Of predicted and realised volatility, all samples."),
            "mz_slope": Metric(
                "MZ slope", number, "Of realised on predicted variance (Mincer and Zarnowitz); 1 is right."
            ),
            "variance_ratio": Metric("Bias", number, "Mean predicted over mean realised variance; 1 is right."),
        },
    ),
    "event": Kind(
        "Events",
        {
            **GUESS,
            "auc": Metric("AUC", number, "Chance that one that happened had the higher probability; days mixed."),
            "daily_auc": Metric("Daily AUC", number, "The same within each day; mean over days."),
            **ODDS,
            "brier_skill": Metric(
                "Brier skill", number, "1 - Brier score over that of the base rate; above 0 is better."
            ),
            **ECE,
        },
    ),
    "level": Kind(
        "Levels",
        {
            **GUESS,
            "macro_f1": Metric("Macro F1", number, "Mean over levels of 2 TP / (2 TP + FP + FN)."),
            "macro_auc": Metric("Macro AUC", number, "Of each level's probability against the rest; mean over levels."),
            **ODDS,
            **ECE,
        },
    ),
    "position": Kind(
        "Positions",
        {
            "profit": Metric("Profit a day", basis_points, "Mean of the weights times the returns of a day, no costs."),
            "profit_std": Metric("Its deviation", basis_points, "Standard deviation of that profit over days."),
            "total": Metric("Profit", percent, "Final over initial capital - 1, compounded daily, no costs."),
            "hit_rate": Metric("Right side", percent, "Share of positions, long or short, that gained."),
            "size": Metric("Mean size", percent, "Mean size of a position, as a share of the capital."),
            "net": Metric("Net", percent, "Long less short positions, as a share of the capital; mean over days."),
            "cash": Metric("In cash", percent, "Share of the capital in no position; mean over days."),
        },
    ),
}


def task_tables(inputs: ReportInputs) -> list[tuple[str, Table]]:
    """Heading and table of each kind of task that was learned, one row a task and split.

    A column without a figure, as in run folders made before there was one, is left out.
    """
    tables = []
    for target, kind in KINDS.items():
        learned = [task for task in inputs.learned if _target(inputs, task) == target]
        rows = [_row(inputs, task, split, kind) for task in learned for split in ("valid", "test")]
        columns = ["Task", "Kind", "Loss function", "Split", *(metric.label for metric in kind.metrics.values())]
        filled = [place for place in range(len(columns)) if place < 4 or any(row[place] != NOTHING for row in rows)]
        meanings = {metric.label: metric.meaning for metric in kind.metrics.values()}
        table = Table([columns[i] for i in filled], [[row[i] for i in filled] for row in rows], 4, meanings)
        if table:
            tables.append((kind.head, table))
    return tables


def _target(inputs: ReportInputs, task: str) -> str:
    target = dig(inputs.data, "tasks", task, "target")
    return str(target) if target in KINDS else "level" if task in inputs.levels else "value"


def _row(inputs: ReportInputs, task: str, split: str, kind: Kind) -> list[str]:
    cells = [task, title(dig(inputs.data, "tasks", task, "kind")), title(inputs.loss(task)), SPLITS[split]]
    for path, metric in kind.metrics.items():
        found = spread_of(over_seeds(inputs, "tasks", task, split, *path.split(".")))
        cells.append(with_std(metric.write, *found))
    return cells


def reliability_charts(inputs: ReportInputs) -> list[Chart]:
    """Of each event on the test days: how often it happened where a probability was said."""
    charts = []
    for task in inputs.learned:
        samples = _summed(inputs, task, "samples")
        if samples is None:
            continue
        said, came = (_summed(inputs, task, key, weighted=True) for key in ("probability", "happened"))
        if said is None or came is None:
            continue
        some = samples > 0
        figure = _reliability(said[some] / samples[some], came[some] / samples[some], samples[some])
        caption = (
            "Test days, all seeds together, ten bins of probability. On the dashed line what was said is what came; "
            "bars: share of all samples. A model that knows little says the base rate for all."
        )
        charts.append(make_chart(figure, f"reliability-{task}", f"Reliability: {task}", caption))
    return charts


def _summed(inputs: ReportInputs, task: str, key: str, *, weighted: bool = False) -> NDArray[np.float64] | None:
    """(bins,) sum over the seeds of one part of the reliability table, by samples where `weighted`."""
    total: Any = 0.0
    for seed in inputs.seeds:
        table = dig(inputs.metrics, "seeds", seed, "tasks", task, "test", "reliability")
        if table is None:
            return None
        values = np.array([0.0 if value is None else value for value in table[key]], dtype=np.float64)
        total = total + np.nan_to_num(values) * (np.asarray(table["samples"], dtype=np.float64) if weighted else 1.0)
    return total if inputs.seeds else None


def _reliability(said: NDArray[np.float64], came: NDArray[np.float64], samples: NDArray[np.float64]) -> go.Figure:
    shares = samples / samples.sum()
    figure = new_figure(380)
    figure.add_bar(
        x=said,
        y=shares,
        width=0.02,
        name="Share of samples",
        marker={"color": "#c9dcea"},
        hovertemplate="%{y:.1%} of samples<extra></extra>",
    )
    low, high = float(min(said.min(), came.min())), float(max(said.max(), came.max()))
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", name="Calibrated", line={"color": GREY, "dash": "dash"}
    )
    figure.add_scatter(
        x=said,
        y=came,
        mode="lines+markers",
        name="Happened",
        line={"color": BLUE},
        hovertemplate="said %{x:.1%}, came %{y:.1%}<extra></extra>",
    )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title_text="Mean probability said", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(title_text="Share", tickformat=".0%", range=[0, 1])
    return figure
