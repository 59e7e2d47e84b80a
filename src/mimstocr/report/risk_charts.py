"""The charts of risk, costs, capacity and decay with the words that say how to read them."""

from __future__ import annotations

import numpy as np
import polars as pl

from mimstocr.evaluation.decay import CUMULATIVE, MARGINAL
from mimstocr.report import risk_figures as figures
from mimstocr.report.chart import Chart, make_chart
from mimstocr.report.figures import MONTHLY
from mimstocr.report.formats import count, counted, listed, number, percent
from mimstocr.report.inputs import ReportInputs, column, dig, known
from mimstocr.report.risk import RiskInputs

RULE_NAMES = {
    "participation": "the largest share of the volume",
    "impact": "the market impact",
    "min_commission": "the least commission",
    "lot": "the lot",
}


def risk_charts(risk: RiskInputs) -> list[Chart]:
    """Rolling Sharpe and the size of what is held, side by side."""
    charts = []
    sharpe, size = figures.rolling_sharpes(risk), figures.size_path(risk)
    if sharpe is not None:
        benchmarks = " and ".join(f"the {name}" for name in risk.sharpe if name != "net")
        beside = f", beside {benchmarks} over the same days" if benchmarks else ""
        caption = (
            f"Annualised, of the last {counted(risk.sharpe_days or 0, 'day')}, net of costs{beside}. A strategy whose "
            "edge holds stays above its benchmark; neighbouring points share nearly all of their days."
        )
        charts.append(make_chart(sharpe, "rolling-sharpe", "Rolling Sharpe ratio", caption))
    if size is not None:
        charts.append(make_chart(size, "size", "Size of what is held", _size_caption(risk)))
    return charts


def _size_caption(risk: RiskInputs) -> str:
    mean = " Means of 20 days." if len(risk.days) >= 2 * MONTHLY else ""
    left_out = sum(side.left_out for side in risk.size.values())
    unknown = f" {counted(left_out, 'holding')} (stock-days) of unknown size are left out." if left_out else ""
    short = "; orange: what is sold short" if "short" in risk.size else ""
    return (
        f"Where the stocks stand in the day's universe by {risk.size_is}, weighted by value: 0 is the smallest, 1 the "
        f"largest, 0.5 (dashed) what equal parts of all members have{short}.{mean}{unknown}"
    )


def month_charts(risk: RiskInputs) -> list[Chart]:
    """The monthly returns."""
    figure = figures.month_map(risk.months)
    caption = (
        "Net of costs, compounded within each month and, in the last column, the year. Blue gained, orange lost; the "
        "deepest colours are the largest month. The first and the last month may be parts of one."
    )
    return [] if figure is None else [make_chart(figure, "months", "Monthly returns", caption)]


def industry_charts(risk: RiskInputs) -> list[Chart]:
    """The active exposure to industries."""
    figure = figures.industry_map(risk)
    if figure is None or risk.industries is None:
        return []
    n = len(risk.industries.names)
    which = f"The {figures.GROUPS_SHOWN} of {n} groups" if n > figures.GROUPS_SHOWN else "The groups"
    caption = (
        "Share of the account in each industry less that of equal parts of all members, mean of each month: blue holds "
        f"more than the universe, orange less. {which} that differ most on the mean of all days, which stands beside "
        "the name. A stock in several groups counts in equal parts; cash is in none."
    )
    return [make_chart(figure, "industries", "Industries against the universe", caption)]


def cost_charts(risk: RiskInputs) -> list[Chart]:
    """What was paid, by kind."""
    figure = figures.cost_bars(risk.costs)
    if figure is None:
        return []
    total, per_trade = (column(risk.costs, name) for name in ("of_capital", "basis_points"))
    whole = percent(None if total is None else np.nansum(total))
    of_trades = "" if per_trade is None else f", {number(np.nansum(per_trade), 1)} basis points of all value traded"
    caption = (
        f"Over the whole time, as a fraction of the capital at the start: {whole} in all{of_trades}. An account that "
        "grew pays on what it has become, so the sum can exceed the capital."
    )
    return [make_chart(figure, "costs", "Costs by kind", caption)]


def capacity_charts(risk: RiskInputs, inputs: ReportInputs) -> list[Chart]:
    """What is earned and paid against the capital."""
    universe = known(dig(inputs.metrics, "backtest", "universe", "annual_return"))
    returns, costs = figures.capacity_returns(risk, universe), figures.capacity_costs(risk)
    charts = []
    if returns is not None:
        level = "; dashed: the universe" if universe is not None else ""
        caption = (
            "The same decisions in the same market with other amounts of money at the start, each point a simulation; "
            f"dotted: that of this backtest{level}. Here {_rule_names(risk)} on the amount. Where the line falls to "
            "the right, the strategy has outgrown its market; on the left an account can be too small for lots and "
            f"least commissions.{_problems(risk)}"
        )
        charts.append(make_chart(returns, "capacity", "Return against capital", caption))
    if costs is not None:
        caption = (
            "Top: all costs over all value bought and sold, in basis points (0.01 %). Bottom: shares of the orders "
            "that were cut to the largest share of the day's volume, or came to less than a lot."
        )
        charts.append(make_chart(costs, "capacity-costs", "Costs and orders against capital", caption))
    return charts


def _rule_names(risk: RiskInputs) -> str:
    names = [RULE_NAMES.get(rule, rule) for rule in risk.size_rules or []]
    return f"{listed(names)} {'depends' if len(names) == 1 else 'depend'}"


def _problems(risk: RiskInputs) -> str:
    if risk.capacity is None or "problem" not in risk.capacity.columns:
        return ""
    failed = risk.capacity.filter(pl.col("problem").is_not_null())
    told = "; ".join(f"{count(row['capital'])}: {row['problem']}" for row in failed.iter_rows(named=True))
    return f" Without figures: {told}." if told else ""


def no_capacity(risk: RiskInputs) -> str:
    """Why there is no capacity curve; empty where there is one, or where it is not known."""
    if risk.capacity is not None or risk.size_rules is None:
        return ""
    if risk.size_rules:
        return "How the result depends on the amount of money was not asked for."
    return (
        "In this market nothing depends on the amount of money, so how much the strategy can carry is not known: a "
        "market with participation, impact, min_commission or lot would tell."
    )


def decay_charts(risk: RiskInputs) -> list[Chart]:
    """How the IC falls with the horizon, day by day and in sum."""
    day = figures.decay_bars(risk.decay, MARGINAL)
    whole = figures.decay_bars(risk.decay, CUMULATIVE)
    start = "its own close" if not risk.delay else f"the close {counted(risk.delay, 'trading day')} after it"
    charts = []
    if day is not None:
        caption = (
            f"Mean IC and RankIC of a day's score with the return of one single day, the h-th after {start}; whiskers: "
            "one standard error (Newey-West). How long the bars stay above 0 is how long a score is worth acting on."
        )
        charts.append(make_chart(day, "decay-marginal", "IC with the return of the h-th day", caption))
    if whole is not None:
        caption = (
            f"The same with the return of all h days from {start}: what a holder of h days gets. These returns "
            "overlap, which the standard errors allow for. A stock counts where it could be traded at both ends; "
            f"{_decay_days(risk)}"
        )
        charts.append(make_chart(whole, "decay-cumulative", "IC with the return of h days", caption))
    return charts


def _decay_days(risk: RiskInputs) -> str:
    days, left_out = column(risk.decay, "days"), column(risk.decay, "days_left_out")
    if days is None or left_out is None:
        return "how many days counted is not known."
    fewest = int(days.argmin())
    return (
        f"{count(days.max())} to {count(days[fewest])} days counted, at the longest horizon {count(left_out[fewest])} "
        "were left out, most because the return ends after the last day."
    )
