"""The audit of one day: every order, what became of it, what it cost, and the cash before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from mimstocr.backtest.orders import REASONS, SETTLED, Values
from mimstocr.backtest.run import BacktestResult
from mimstocr.backtest.strategies._scores import order
from mimstocr.data.panel import Panel, When, day_text, days_of, last_known, place_of
from mimstocr.errors import DataError


@dataclass(frozen=True, eq=False)
class Explained:
    """One day of an account; money in units of the capital."""

    day: np.datetime64
    decided: np.datetime64 | None
    """The day whose scores decided; none where nothing was decided for this day."""
    value_before: float
    """At the close of the day before, the capital before the first fill."""
    cash_before: float
    """Of the day before, less what was paid for the night (`financing`)."""
    financing: float
    value_after: float
    cash_after: float
    orders: pl.DataFrame
    """As they were filled, sells first: symbol, side, rank and score of the deciding day, shares held before (real, not
    adjusted), wanted and filled, the real price, value, a column per cost, outcome, cash before and after."""


def explain(result: BacktestResult, panel: Panel, day: When) -> Explained:
    """What the net account did on `day`, one of `result.simulated_days`; `panel`: that of the backtest.

    Of bars within the day, a time names one, and a day alone its last.

    Real shares and prices are adjusted ones by the panel's factor; without a factor they are the adjusted ones. Raises
    DataError on another day.
    """
    days = result.simulated_days
    at = place_of(days, day)
    if at is None:
        before = max(int(np.searchsorted(days, np.datetime64(day))) - 1, 0)
        raise DataError(
            f"expected a day of the backtest, got {day}; it has the trading days from {day_text(days[0])} to "
            f"{day_text(days[-1])}, the nearest before is {day_text(days[before])}"
        )
    net, capital = result.net, result.settings.capital
    value_before, cash = (net.value[at - 1], net.cash[at - 1]) if at else (capital, capital)
    financing = float(net.cost_kinds[at, -2])
    orders = _orders(result, _factor(panel, days[at]), at, float(cash) - financing)
    decided = at - (result.settings.delay or 0)
    return Explained(
        day=days[at],
        decided=days[decided] if net.decided[at] else None,
        value_before=float(value_before),
        cash_before=float(cash) - financing,
        financing=financing,
        value_after=float(net.value[at]),
        cash_after=float(net.cash[at]),
        orders=orders,
    )


def _factor(panel: Panel, day: np.datetime64) -> Values:
    """(stocks,) adjusted over real price, the last known."""
    if "factor" not in panel:
        return np.ones(panel.sizes["symbol"])
    known = panel["factor"].values[: int(np.searchsorted(days_of(panel), day)) + 1]
    factor: Values = last_known(known)[-1].astype(np.float64)
    return factor


def _orders(result: BacktestResult, factor: Values, at: int, cash: float) -> pl.DataFrame:
    log, net = result.net.orders, result.net
    rows = np.flatnonzero(log.day == at)
    # as they were filled: what was settled, the sells, the buys
    rows = rows[np.lexsort((log.stock[rows], log.wanted[rows] > 0, log.reason[rows] != SETTLED))]
    stock, price = log.stock[rows], log.price[rows]
    ratio = np.nan_to_num(factor, nan=1.0)[stock]  # a stock that is not listed yet has no price, and no shares
    before = net.shares[at - 1, stock] if at else np.zeros(len(rows))
    decided = at - (result.settings.delay or 0)
    scores = result.scores[decided] if decided >= 0 else np.full(len(factor), np.nan)
    rank = np.empty(len(factor), dtype=np.int64)
    rank[order(scores)] = np.arange(1, len(factor) + 1)
    value, costs = log.filled[rows] * price, log.costs[rows]
    change = -value - costs.sum(axis=1)
    after = cash + np.cumsum(change)
    wanted = np.divide(log.wanted[rows], price, out=np.full(len(rows), np.nan), where=price > 0)
    table = {
        "symbol": [result.symbols[i] for i in stock],
        "side": np.where(log.wanted[rows] > 0, "buy", "sell"),
        "rank": np.where(np.isfinite(scores[stock]), rank[stock], 0),
        "score": scores[stock],
        "held": before * ratio,
        "wanted": wanted * ratio,
        "filled": log.filled[rows] * ratio,
        "price": price / ratio,
        "value": value,
        **{kind: costs[:, i] for i, kind in enumerate(result.terms.kinds) if kind != "financing"},
        "outcome": [REASONS[code] for code in log.reason[rows]],
        "cash_before": after - change,
        "cash_after": after,
    }
    texts = {"symbol": pl.String, "side": pl.String, "outcome": pl.String}
    return pl.DataFrame(table, schema_overrides=texts).with_columns(pl.col("rank").replace(0, None)).fill_nan(None)
