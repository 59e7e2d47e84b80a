"""The engine: target weights in, what was filled and what it cost out.

One order of things on every day u, all at its close: what is held is marked to the closes of u; the decision
made at the close of day u - delay, if there is one, is filled at the closes of u; costs are paid.

- Shares are fractional, cash earns nothing, nothing is borrowed and nothing is sold short.
- A stock that is not tradable is neither bought nor sold. What is held of it stands at its last known price
  until it trades again (for ever, where it never does); the money of a buy that is not filled stays in cash.
- Weights are of the equity after the day's costs. Where holdings that cannot be sold leave too little cash,
  all buys of the day are scaled down by one factor, so that cash never goes below zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.backtest.strategy import day_name
from mimstocr.data.panel import Days, last_known
from mimstocr.errors import ConfigError, DataError

Values = NDArray[np.float64]

PRECISION = 1e-14
"""To which fraction of the equity the equity after costs is solved."""
DUST = 1e-12
"""Below which fraction of the equity money is the rounding of past trades: it buys nothing and misses no order."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """The account day by day; every array is (days,) but `shares`. Money is in the units of `capital`.

    For every day u: value_u - value_{u-1} = sum(shares_{u-1} x (price_u - price_{u-1})) - costs_u, with prices
    as `last_known` gives them, and value_u = cash_u + sum(shares_u x price_u).
    """

    value: Values
    """Equity after trading at the close; `capital` before the first fill."""
    returns: Values
    """value_u / value_{u-1} - 1, net of costs; 0 before the first fill, and on that day minus the cost of entry."""
    costs: Values
    """Money paid for trading."""
    turnover: Values
    """One-way: half of the value bought and sold, as a fraction of the equity before trading."""
    cash: Values
    """Money not in stocks, after trading."""
    n_held: NDArray[np.int64]
    """Stocks held after trading."""
    unfilled_buys: NDArray[np.int64]
    """Stocks that a decision wanted more of but that were not tradable on the day of the fill."""
    stuck_sells: NDArray[np.int64]
    """Stocks that a decision wanted less of but that were not tradable on the day of the fill."""
    stale_marks: NDArray[np.int64]
    """Stocks held at a price that is not of this day, as they were not tradable."""
    shares: Values
    """(days, stocks) shares held after trading."""
    first_fill: int
    """The day on which the first decision was filled."""


class Fill(NamedTuple):
    """What one day's trading came to: `bought` is money into (or out of) each stock, the rest as in Simulation."""

    bought: Values
    traded: float
    costs: float
    unfilled_buys: int
    stuck_sells: int


def simulate(
    close: NDArray[Any],
    tradable: NDArray[np.bool_],
    weights: NDArray[Any],
    *,
    delay: int,
    cost: float,
    capital: float = 1.0,
    days: Days | None = None,
) -> Simulation:
    """Run an account that follows target weights.

    close: (days, stocks), NaN where unknown. tradable: (days, stocks). weights: (days, stocks), decided at the
    close of their day; not negative, sums at most 1; a row of NaN is no decision, and the shares are kept.
    delay: days from a decision to its fill; 0 fills at the very close that the decision has seen (the paper's
    setting, not tradable in practice), 1 at the next close. Decisions of the last `delay` days are not filled.
    cost: fraction of the traded value, paid on every buy and every sell. days: dates, for the errors.

    Raises DataError on shapes that differ, a tradable stock without a close, a close not above zero, weights
    that cannot be held, or when no decision is ever filled; ConfigError on delay < 0, cost outside [0, 1) or
    capital not above 0.
    """
    _check_settings(delay, cost, capital)
    _check_market(close, tradable, weights, days)
    decided = _decisions(weights, days)
    # before its first price no share of a stock is held
    price = np.nan_to_num(last_known(np.asarray(close, dtype=np.float64)), nan=0.0)
    n_days, n_stocks = price.shape
    due = np.zeros(n_days, dtype=bool)
    due[delay:] = decided[: max(n_days - delay, 0)]
    if not due.any():
        raise DataError(
            f"expected a decision that is filled within {n_days} days, got {int(decided.sum())} decisions and none "
            f"{delay} or more days before the end; give scores on earlier days"
        )

    shares = np.zeros((n_days, n_stocks))
    value, cash, costs, turnover = (np.zeros(n_days) for _ in range(4))
    unfilled_buys, stuck_sells = np.zeros(n_days, dtype=np.int64), np.zeros(n_days, dtype=np.int64)
    n_steps = _steps(cost)
    held, money = np.zeros(n_stocks), float(capital)
    for day in range(n_days):
        worth = held * price[day]
        equity = money + float(worth.sum())
        if due[day]:
            fill = _fill(worth, money, weights[day - delay], tradable[day], cost, n_steps)
            # shares that did not trade stay the same to the last bit, and a stock sold out has exactly none
            held = np.divide(worth + fill.bought, price[day], out=held.copy(), where=fill.bought != 0)
            money -= float(fill.bought.sum()) + fill.costs
            costs[day], turnover[day] = fill.costs, fill.traded / equity / 2
            unfilled_buys[day], stuck_sells[day] = fill.unfilled_buys, fill.stuck_sells
        shares[day], cash[day], value[day] = held, money, equity - costs[day]

    before = np.concatenate([[capital], value[:-1]])
    return Simulation(
        value=value,
        returns=value / before - 1.0,
        costs=costs,
        turnover=turnover,
        cash=cash,
        n_held=(shares > 0).sum(axis=-1),
        unfilled_buys=unfilled_buys,
        stuck_sells=stuck_sells,
        stale_marks=((shares > 0) & ~tradable).sum(axis=-1),
        shares=shares,
        first_fill=int(np.argmax(due)),
    )


def _fill(worth: Values, money: float, target: Values, tradable: NDArray[np.bool_], cost: float, n_steps: int) -> Fill:
    """Trade from `worth`, the money in each stock, towards `target` of the equity after costs."""
    equity = money + float(worth.sum())
    wanted, has = target[tradable], worth[tradable]
    after = equity
    for _ in range(n_steps):
        sells, buys, factor = _orders(wanted * after - has, money, cost)
        before, after = after, equity - cost * (sells + factor * buys)
        if abs(after - before) <= PRECISION * equity:
            break
    gap = wanted * after - has
    sells, buys, factor = _orders(gap, money, cost, dust=DUST * equity)
    bought = np.zeros(len(worth))
    bought[tradable] = np.where(gap > 0, factor * gap, gap)
    missed = (target * after - worth)[~tradable]
    up, down = int((missed > DUST * equity).sum()), int((missed < -DUST * equity).sum())
    traded = sells + factor * buys
    return Fill(bought, traded, cost * traded, up, down)


def _orders(gap: Values, money: float, cost: float, *, dust: float = 0.0) -> tuple[float, float, float]:
    """Money to sell for, money to buy for, and the share of the buys that cash and sales can pay, at most 1."""
    buys = float(np.maximum(gap, 0.0).sum())
    sells = float(np.maximum(-gap, 0.0).sum())
    means, needs = money + (1 - cost) * sells, (1 + cost) * buys
    if needs <= means:
        return sells, buys, 1.0
    return sells, buys, means / needs if means > dust else 0.0


def _steps(cost: float) -> int:
    """Iterations after which the equity after costs is known to PRECISION, whatever the day.

    The costs are a function of the equity after them with slope at most 2 cost / (1 + cost): that much shrinks
    the error at every step.
    """
    slope = 2 * cost / (1 + cost)
    return 1 if slope == 0 else math.ceil(math.log(PRECISION) / math.log(slope)) + 1


def _check_settings(delay: int, cost: float, capital: float) -> None:
    if delay < 0:
        raise ConfigError(f"delay: expected 0 or more days, got {delay}; a fill cannot come before its decision")
    if not 0 <= cost < 1:
        raise ConfigError(f"cost: expected a fraction of the traded value, 0 to below 1, got {cost}; 0.001 is 0.1 %")
    if not (capital > 0 and math.isfinite(capital)):
        raise ConfigError(f"capital: expected money above 0, got {capital}; returns do not depend on the amount")


def _check_market(close: NDArray[Any], tradable: NDArray[np.bool_], weights: NDArray[Any], days: Days | None) -> None:
    shapes = np.shape(close), np.shape(tradable), np.shape(weights)
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise DataError(
            f"expected close, tradable and weights of one shape (days, stocks), got {shapes[0]}, {shapes[1]} and "
            f"{shapes[2]}; align all to the same days and symbols"
        )
    for bad, what, cure in (
        (np.isinf(close) | (close <= 0), "a close that is infinite or not above zero", "mark it as unknown (NaN)"),
        (tradable & np.isnan(close), "a tradable stock without a close", "mark it as not tradable"),
    ):
        if bad.any():
            day, stock = np.argwhere(bad)[0]
            raise DataError(
                f"expected prices to trade at, got {what} on {day_name(days, day)} in column {stock} "
                f"({int(bad.sum())} such rows); {cure}"
            )


def _decisions(weights: NDArray[Any], days: Days | None) -> NDArray[np.bool_]:
    """(days,): which rows of weights decide anything; all of those can be held."""
    unknown = np.isnan(weights)
    decided: NDArray[np.bool_] = ~unknown.all(axis=-1)
    low, total = np.nan_to_num(weights).min(axis=-1), np.nan_to_num(weights).sum(axis=-1)
    for bad, what, cure in (
        (decided & unknown.any(axis=-1), "some weights missing", "a row is numbers, or NaN throughout for no decision"),
        (low < 0, "a weight below zero", "this engine sells nothing short"),
        (~(total <= 1 + 1e-9), "weights that sum to more than 1", "this engine borrows nothing, scale them down"),
    ):
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(
                f"expected weights from 0 that sum to at most 1, got {what} on {day_name(days, first)} "
                f"({int(bad.sum())} such days); {cure}"
            )
    return decided
