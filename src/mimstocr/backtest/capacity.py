"""How much money a strategy can carry: what it earns against the capital it starts with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mimstocr.backtest.engine import Simulation, simulate
from mimstocr.backtest.market import Market
from mimstocr.backtest.orders import CUT_VOLUME, NO_LOT
from mimstocr.backtest.portfolio import portfolio_metrics
from mimstocr.backtest.risk import value_traded
from mimstocr.backtest.run import BacktestResult, view_of
from mimstocr.data.panel import Panel, days_of
from mimstocr.errors import ConfigError, DataError

FIGURES = ("annual_return", "sharpe", "costs", "cost_bp", "cut_by_volume", "below_a_lot", "traded")


def size_rules(market: Market, symbols: Sequence[str]) -> list[str]:
    """The rules of a market by which the amount of money matters; without any every capital earns the same."""
    switched_on = {
        "participation": market.participation is not None,
        "impact": market.impact > 0,
        "min_commission": market.min_commission > 0,
        "lot": any(bool((size > 0).any()) for size in market.lots(symbols)),
    }
    return [name for name, on in switched_on.items() if on]


def capacity(panel: Panel, result: BacktestResult, capitals: Sequence[float]) -> pl.DataFrame:
    """The backtest again with other capitals, one row each, smallest first.

    result: that of `backtest` on this panel, whose scores, settings and terms are used again. Columns: `capital`,
    money at the start; `annual_return` and `sharpe`, net of costs, over the same days as in `result`; `costs` of the
    whole time as a fraction of the capital; `cost_bp`, the same in hundredths of a percent of the value traded;
    `cut_by_volume` and `below_a_lot`, shares of the orders that were cut to the share of the volume or came to less
    than a lot; `traded`, the value traded over the value asked for; `problem`, null, or why there are no figures: an
    account that lost everything. A figure that is not defined is null.

    Raises ConfigError on capitals that are not above zero and different, and in a market without `size_rules`.
    """
    settings = result.settings
    if not capitals or len(set(capitals)) < len(capitals) or not all(0 < c < float("inf") for c in capitals):
        raise ConfigError(f"capitals: expected amounts of money above 0, each once, got {list(capitals)}")
    if not size_rules(settings.market, result.symbols):
        raise ConfigError(
            f"capacity: nothing in the market {settings.market.kind} depends on the amount of money, so every capital "
            "earns the same; set participation, impact, min_commission or lot of backtest.market"
        )
    rows = [_row(panel, result, float(capital)) for capital in sorted(capitals)]
    schema = {"capital": pl.Float64, **dict.fromkeys(FIGURES, pl.Float64), "problem": pl.String}
    return pl.DataFrame(rows, schema).fill_nan(None)


def _row(panel: Panel, result: BacktestResult, capital: float) -> dict[str, Any]:
    try:
        account = _account(panel, result, capital)
    except DataError as error:
        return {"capital": capital, **dict.fromkeys(FIGURES), "problem": str(error)}
    start = account.first_fill + 1
    returns = account.returns[start:].copy()
    returns[0] = (1.0 + account.returns[start - 1]) * (1.0 + returns[0]) - 1.0  # as in `backtest`: entry costs count
    metrics = portfolio_metrics(returns, int(panel.attrs["days_per_year"]))
    reason, n = account.orders.reason, max(len(account.orders.reason), 1)
    costs, traded, asked = account.costs.sum(), value_traded(account), float(np.abs(account.orders.wanted).sum())
    figures = (
        metrics["annual_return"],
        metrics["sharpe"],
        float(costs / capital),
        float(costs / traded * 1e4) if traded > 0 else None,
        float((reason == CUT_VOLUME).sum() / n),
        float((reason == NO_LOT).sum() / n),
        traded / asked if asked > 0 else None,
    )
    return {"capital": capital, **dict(zip(FIGURES, figures, strict=True)), "problem": None}


def _account(panel: Panel, result: BacktestResult, capital: float) -> Simulation:
    settings = result.settings
    if capital == settings.capital:
        return result.net
    first = int(np.searchsorted(days_of(panel), result.simulated_days[0]))
    window = slice(first, first + len(result.simulated_days))
    plan = settings.strategy.plan(result.scores, view_of(panel, window, result.outputs))
    return simulate(result.terms, plan, delay=settings.delay or 0, capital=capital, every=settings.every)
