"""The page: everything put in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from plotly.offline import get_plotlyjs

from mimstocr.report import figures, tables
from mimstocr.report.cautions import cautions, mean_test, t_value
from mimstocr.report.chart import Chart, make_chart
from mimstocr.report.formats import NOTHING, count, counted, duration, listed, number, part, percent, text, title
from mimstocr.report.inputs import ReportInputs, confusion, dates, dig, known, spread_of
from mimstocr.report.market import trading_terms
from mimstocr.report.risk import RiskInputs
from mimstocr.report.risk_charts import (
    capacity_charts,
    cost_charts,
    decay_charts,
    industry_charts,
    month_charts,
    no_capacity,
    risk_charts,
)
from mimstocr.report.sharing import sharing_charts
from mimstocr.report.tasks import reliability_charts, task_tables


@dataclass(frozen=True)
class Tile:
    """One figure of the headline."""

    label: str
    value: str
    below: str


def render(inputs: ReportInputs) -> str:
    """The whole report as one HTML text. It loads nothing: the page itself forbids every request.

    Never raises on values that are missing, null or not finite; they are shown as a dash, and a chart without
    values is left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mimstocr.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(plotly=get_plotlyjs(), **_context(inputs))


def _context(inputs: ReportInputs) -> dict[str, Any]:
    return {
        "name": inputs.name,
        "sentence": _sentence(inputs),
        "finding": _finding(inputs),
        "facts": _facts(inputs),
        "tiles": _tiles(inputs),
        "cautions": cautions(inputs),
        "latest": tables.latest(inputs),
        "latest_day": _latest_day(inputs),
        "latest_mixed": len(set(dates(inputs.recommendations))) > 1,
        "latest_total": len(inputs.recommendations),
        "latest_reach": _reach(inputs),
        "evidence": tables.evidence(inputs),
        "seeds": tables.seeds(inputs),
        "classes": tables.classes(inputs),
        "tasks": task_tables(inputs),
        "task_charts": [*reliability_charts(inputs), *_level_charts(inputs)],
        "ic_charts": _ic_charts(inputs),
        "quantile_charts": _quantile_charts(inputs),
        "horizon": inputs.horizon,
        "quantile_table": tables.quantile_table(inputs.quantiles),
        "money_charts": _money_charts(inputs),
        "money": tables.money(inputs),
        "money_terms": _money_terms(inputs),
        "years": tables.years(inputs),
        **_risk(inputs),
        "loss_charts": _loss_charts(inputs),
        "telemetry_charts": _telemetry_charts(inputs),
        "sharing_charts": sharing_charts(inputs),
        "diagnostic_charts": _diagnostic_charts(inputs),
        "splits": tables.splits(inputs),
        "source": tables.source(inputs),
        "missing": tables.missing(inputs),
        "extremes": tables.extremes(inputs),
        "config": tables.config_text(inputs),
        "environment": tables.environment(inputs),
        "version": text(inputs.environment.get("mimstocr")),
    }


def _risk(inputs: ReportInputs) -> dict[str, Any]:
    """What the sections of risk, costs and decay show; nothing without risk."""
    risk = inputs.risk or RiskInputs()
    shown = {
        "decay_charts": decay_charts(risk),
        "risk_charts": risk_charts(risk),
        "month_charts": month_charts(risk),
        "industry_charts": industry_charts(risk),
        "falls": tables.falls(inputs),
        "cost_charts": cost_charts(risk),
        "costs": tables.costs(inputs),
        "orders": tables.orders(inputs),
        "capacity_charts": capacity_charts(risk, inputs),
        "no_capacity": no_capacity(risk),
    }
    parts = {
        "has_risk": ("risk_charts", "month_charts", "falls", "industry_charts"),
        "has_costs": ("cost_charts", "costs", "orders", "capacity_charts"),
    }
    return shown | {name: any(shown[key] for key in keys) for name, keys in parts.items()}


def _sentence(inputs: ReportInputs) -> str:
    """What ran, in one sentence."""
    config = inputs.config
    if agent := dig(config, "agent", "kind"):
        return (
            f"The agent {title(agent)} learned what to hold ({listed(inputs.learned)}), "
            f"{counted(len(inputs.seeds), 'seed')}; judged by the {_days(inputs.horizon)} return, delay {inputs.delay}."
        )
    backbone, balancer = (title(dig(config, family, "kind")) for family in ("backbone", "balancer"))
    learned = listed(inputs.learned) or "nothing"
    delay = "unknown" if inputs.delay is None else str(inputs.delay)
    return (
        f"{backbone} learned {counted(len(inputs.learned), 'task')} ({learned}) balanced by {balancer}, "
        f"{counted(len(inputs.seeds), 'seed')}; label: {_days(inputs.horizon)} return, delay {delay}."
    )


def _finding(inputs: ReportInputs) -> str:
    """What came out, in one or two sentences."""
    told = []
    rank_ic, days = mean_test(inputs, "rank_ic"), mean_test(inputs, "days")
    if rank_ic is not None:
        told.append(
            f"Over {count(days)} test days the score had a mean RankIC of {number(rank_ic)} with the returns that "
            f"followed (t = {number(t_value(inputs, 'rank_ic'), 1)})."
        )
    net = known(dig(inputs.metrics, "backtest", "net", "annual_return"))
    if net is not None:
        others = [
            f"{percent(dig(inputs.metrics, 'backtest', name, 'annual_return'), 1)} for the {name}"
            for name in ("universe", "index")
            if known(dig(inputs.metrics, "backtest", name, "annual_return")) is not None
        ]
        beside = f", beside {' and '.join(others)}" if others else ""
        made = "made on paper" if inputs.fill_delay == 0 else "made"
        told.append(f"Traded as {_strategy(inputs)}, it {made} {percent(net, 1)} a year after costs{beside}.")
    return " ".join(told)


def _facts(inputs: ReportInputs) -> list[tuple[str, str]]:
    """What ran on what, item by item."""
    config, test = inputs.config, dig(inputs.data, "splits", "test") or {}
    device = inputs.environment.get("device_name") or inputs.environment.get("device")
    return [
        ("Data", f"{text(inputs.inspection.get('source'))}, universe {text(dig(config, 'data', 'universe') or 'all')}"),
        ("Test", f"{text(test.get('first'))} to {text(test.get('last'))}, {count(test.get('days'))} days"),
        *_learner(config),
        ("Seeds", text(inputs.seeds)),
        *_rolling(inputs),
        ("Started", text(inputs.environment.get("started")).replace("T", " ")[:16]),
        ("Took", f"{duration(inputs.environment.get('seconds'))} on {text(device)}"),
    ]


def _learner(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What learned: an agent in its environment, or a network by its parts."""
    names = ("agent",) if dig(config, "agent", "kind") else ("backbone", "sharing", "balancer")
    told = [(name.capitalize(), part(config.get(name))) for name in names]
    seen = dig(config, "agent", "environment")
    return [*told, ("Environment", text(seen))] if seen else told


def _rolling(inputs: ReportInputs) -> list[tuple[str, str]]:
    """That the test was predicted by rolling models, if it was."""
    told = dig(inputs.data, "rolling")
    if told is None:
        return []
    models, epochs, *days = (
        count(dig(told, key)) for key in ("test_periods", "epochs", "first_train_days", "last_train_days")
    )
    what = (
        f"{models} rolling models, one a {text(dig(told, 'every'))}; epochs each: {epochs}, on {' to '.join(days)} days"
    )
    return [("Test predicted by", what)]


def _tiles(inputs: ReportInputs) -> list[Tile]:
    tiles = []
    for key, label in (("ic", "IC"), ("rank_ic", "RankIC"), ("icir", "ICIR"), ("rank_icir", "RankICIR")):
        tiles.append(Tile(f"Test {label}", number(mean_test(inputs, key)), _below(inputs, key)))
    for key, label, write in (
        ("annual_return", "Annual return, net", _percent1),
        ("sharpe", "Sharpe, net", _two),
        ("max_drawdown", "Max drawdown, net", _percent1),
        ("information_ratio", "Information ratio", _two),
    ):
        figures = {name: dig(inputs.metrics, "backtest", name, key) for name in ("net", "universe", "index")}
        others = [
            f"{name} {write(figures[name])}" for name in ("universe", "index") if known(figures[name]) is not None
        ]
        below = f"against the {_benchmark(inputs)}" if key == "information_ratio" else ", ".join(others)
        tiles.append(Tile(label, write(figures["net"]), below))
    return tiles


def _below(inputs: ReportInputs, key: str) -> str:
    """Under a figure of the ranking: its spread over seeds, or t where there is one seed."""
    mean, std = known(dig(inputs.metrics, "mean", "test", key)), known(dig(inputs.metrics, "std", "test", key))
    if len(inputs.seeds) > 1 and mean is not None and std is not None:
        return f"seeds {number(mean)} \u00b1 {number(std)}"
    t = t_value(inputs, "ic" if key in ("ic", "icir") else "rank_ic")
    return "" if t is None else f"t = {number(t, 1)}"


def _percent1(value: Any) -> str:
    return percent(value, 1)


def _two(value: Any) -> str:
    return number(value, 2)


def _days(n: int) -> str:
    return f"{n}-day"


def _benchmark(inputs: ReportInputs) -> str:
    against = dig(inputs.metrics, "backtest", "measured_against")
    return str(against or ("index" if dig(inputs.metrics, "backtest", "index") else "universe"))


def _strategy(inputs: ReportInputs) -> str:
    return part(dig(inputs.metrics, "backtest", "strategy") or dig(inputs.config, "backtest", "strategy"))


def _latest_day(inputs: ReportInputs) -> str:
    days = dates(inputs.recommendations)
    return max(days) if days else NOTHING


def _reach(inputs: ReportInputs) -> str:
    reach = (inputs.delay or 0) + inputs.horizon
    return counted(reach, "trading day")


def _money_terms(inputs: ReportInputs) -> str:
    """How the account trades."""
    return (
        f"Strategy: {_strategy(inputs)}. {trading_terms(inputs)} Excess, alpha, beta and information ratio are against "
        f"the {_benchmark(inputs)}."
    )


def _ic_charts(inputs: ReportInputs) -> list[Chart]:
    figure = figures.ic_over_time(inputs.daily)
    if figure is None:
        return []
    days = figures.rolling_days(len(inputs.daily))
    caption = (
        "The IC of a day is the correlation of the mean score of the seeds with the raw returns that followed, over "
        f"that day's stocks; RankIC is the same on ranks. Top: means of the last {days} days. Middle: each test day. "
        "Bottom: sums since the first day, where a steady slope means a steady edge."
    )
    return [make_chart(figure, "ic", "Daily IC and RankIC", caption)]


def _quantile_charts(inputs: ReportInputs) -> list[Chart]:
    bars, paths = figures.quantile_bars(inputs.quantiles), figures.quantile_paths(inputs.quantiles)
    n = len(figures.quantile_names(inputs.quantiles))
    span = "a day" if inputs.horizon == 1 else f"per {_days(inputs.horizon)} label"
    charts = []
    if bars is not None:
        caption = (
            f"Stocks are cut into {n} groups by score each day. Bars: mean raw return {span}, before costs, in basis "
            "points (0.01 %); whiskers: one standard error over days; dashed: mean of the groups. A useful score rises "
            "from left to right."
        )
        charts.append(make_chart(bars, "quantiles", "Return by quantile of the score", caption))
    if paths is not None:
        caption = (
            "Sum of each group's return minus the mean of all groups that day, not compounded, before costs. Bold: the "
            "highest and the lowest group, whose gap is what the top earned over the bottom; thin: those between."
        )
        charts.append(make_chart(paths, "quantile-paths", "Excess of the quantiles over time", caption))
    return charts


def _money_charts(inputs: ReportInputs) -> list[Chart]:
    figure = figures.equity(inputs.backtest)
    if figure is None:
        return []
    smoothed = " (mean of 20 days)" if len(inputs.backtest) >= 2 * figures.MONTHLY else ""
    caption = (
        "Top: what 1 grew to. Net is after costs, gross the same decisions without, the universe an equal part of "
        "every member, rebalanced each day without cost. Middle: fall below the highest wealth so far. Bottom: traded "
        f"value one way as a share of the account{smoothed}."
    )
    return [make_chart(figure, "equity", "Equity and drawdown", caption, scale=True)]


def _level_charts(inputs: ReportInputs) -> list[Chart]:
    charts = []
    for task, levels in inputs.levels.items():
        counts = confusion(inputs, task, "test")
        if counts is not None and counts.shape == (len(levels), len(levels)):
            caption = (
                "Test days, all seeds together. Of the stocks of each true level (row), the share that was named each "
                "level. The diagonal is right; counts show on hovering."
            )
            figure = figures.confusion_map(counts, levels)
            charts.append(make_chart(figure, f"confusion-{task}", f"Confusion: {task}", caption))
        shares = figures.level_shares(inputs, task)
        if shares is not None:
            caption = (
                "How often a level is true in training and in the test, and how often it was predicted. Predictions "
                "crowded on one level mean that the task has learned little but the baseline."
            )
            charts.append(make_chart(shares, f"levels-{task}", f"Levels: {task}", caption))
    return charts


def _loss_charts(inputs: ReportInputs) -> list[Chart]:
    if dig(inputs.config, "agent", "kind"):
        return _agent_charts(inputs)
    seeds = "thin: one seed, bold: the mean over the epochs that all seeds reached; " if len(inputs.seeds) > 1 else ""
    charts = []
    for task in inputs.learned:
        figure = figures.loss_curves(inputs, task)
        if figure is not None:
            kind = title(inputs.loss(task))
            caption = f"{kind}, mean over the days of an epoch; {seeds}diamond: the epoch whose weights were kept."
            charts.append(make_chart(figure, f"loss-{task}", f"Loss: {task}", caption))
    figure = figures.validation_ic(inputs)
    if figure is not None:
        monitor = text(dig(inputs.config, "training", "monitor"))
        caption = f"Of the main task's score on the validation days. The best epoch is chosen by {monitor}."
        charts.append(make_chart(figure, "validation-ic", "Validation IC and RankIC", caption))
    return charts


def _agent_charts(inputs: ReportInputs) -> list[Chart]:
    agent = dig(inputs.config, "agent")
    paid = f"{text(dig(agent, 'environment', 'reward'))} return x {text(dig(agent, 'environment', 'reward_scale'))}"
    epoch = f"An epoch is {count(dig(agent, 'eval_steps'))} steps, a step is a day lived"
    charts = []
    for task in inputs.learned:
        figure = figures.loss_curves(inputs, task)
        if figure is not None:
            caption = f"Minus the mean reward of a step, {paid}. {epoch}; diamond: the policy that was kept."
            charts.append(make_chart(figure, f"loss-{task}", "Reward, below zero the better", caption))
    figure = figures.validation_account(inputs)
    if figure is not None:
        monitor = text(dig(agent, "monitor"))
        caption = f"Of the account on the validation days, after costs. The best policy is chosen by {monitor}."
        charts.append(make_chart(figure, "validation-account", "Validation Sharpe ratio", caption))
    return charts


TOLD = {
    "beta": (
        "Forgetting rate, beta",
        "Weight of a task's gradient memory in each step: beta^sigmoid(V) in CQB. Higher is slower and smoother.",
    ),
    "decay": (
        "Weight decay",
        "The optimiser's L2 in each epoch. CQB lowers it as V rises: decay x sigmoid(-mean V of the epoch before).",
    ),
    "ratio": (
        "Convergence ratio, V",
        "Change of the validation loss over the change of the training loss, both against an earlier window. 1 until "
        "two windows are done; below 0 training gains what validation loses.",
    ),
}
"""Telemetry key to its head and caption; any other is shown under its own name."""


def _telemetry_charts(inputs: ReportInputs) -> list[Chart]:
    charts = []
    for key in figures.telemetry_keys(inputs.history):
        found = figures.telemetry(inputs, key)
        if found is None:
            continue
        figure, outside = found
        head, caption = TOLD.get(key, (key.replace("_", " "), "As told by the balancer, by epoch."))
        if outside:
            caption += f" {counted(outside, 'far point')} beyond the axis."
        charts.append(make_chart(figure, f"telemetry-{key}", head, caption))
    return charts


def _diagnostic_charts(inputs: ReportInputs) -> list[Chart]:
    charts = []
    for task, told in (dig(inputs.data, "diagnostics") or {}).items():
        days = [str(day) for day in told.get("days") or []]
        for key in [key for key in told if key != "days"]:
            values = np.asarray([known(value) if known(value) is not None else np.nan for value in told[key] or []])
            kept = np.isfinite(values)
            if not kept.any():
                continue
            charts += _diagnostic_pair(task, key, [d for d, k in zip(days, kept, strict=False) if k], values[kept])
    return charts


def _diagnostic_pair(task: str, key: str, days: list[str], values: Any) -> list[Chart]:
    what = "Adaptive k" if key == "k" else key
    low, middle, high = (f"{v:.4g}" for v in (values.min(), np.median(values), values.max()))
    mean, std = spread_of(values.tolist())
    meaning = (
        " k is how many stocks the ranking loss looks at: whole levels from the top down until a fifth of the day's "
        "stocks is reached, so that no level is split."
        if key == "k"
        else ""
    )
    caption = (
        f"Over {counted(len(values), 'training day')}: {low} least, {middle} median (dashed), {high} most; mean "
        f"{number(mean, 1)}, standard deviation {number(std, 1)}.{meaning}"
    )
    charts = [make_chart(figures.diagnostic_histogram(values, key), f"{key}-{task}", f"{what}: {task}", caption)]
    if len(days) == len(values):
        rolling = figures.rolling_days(len(values))
        caption = f"Each dot is a training day; the line is the mean of the last {rolling} days."
        path = figures.diagnostic_path(days, values, key)
        charts.append(make_chart(path, f"time-{key}-{task}", f"{what} over time: {task}", caption))
    return charts
