"""The engine: decisions in, what was filled and what it cost out.

One order of things on every day u:

1. Interest and fees of what was borrowed over night are paid; what is held of a delisted stock is settled.
2. The decision made at the close of day u - delay, if there is one, becomes orders, one a stock, valued at the fill
   prices of u: all sells first, then the buys. The market's terms say what is filled of each.
3. The account is marked to the closes of u.

- Weights are of the equity after the day's costs. Where cash does not suffice, all buys of the day are cut by one
  factor, so that cash never goes below zero, or below what the leverage allows.
- What is held of a stock that cannot be traded stands at its last known price; the money of a buy that is not filled
  stays in cash, which earns nothing. An order that is not filled is not kept for the next day.
- One order a stock and day means that nothing is sold on the day it was bought: T+1 markets ask for no more.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimstocr.backtest.market import Terms, day_name
from mimstocr.backtest.orders import BLOCKED, REASONS, SETTLED, DayOrders, Values
from mimstocr.backtest.strategy import Decision, Moment, Plan
from mimstocr.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Orders:
    """Every order of a simulation, in the order of their days; arrays are (orders,) unless said otherwise."""

    day: NDArray[np.int64]
    stock: NDArray[np.int64]
    wanted: Values
    """Money asked for at `price`; below zero to sell."""
    filled: Values
    """Adjusted shares traded."""
    reason: NDArray[np.uint8]
    """What became of it, a code of `REASONS`."""
    price: Values
    """Of an adjusted share; 0 where no price was ever known."""
    costs: Values
    """(orders, kinds) money paid."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """The account day by day; every array is (days,) but `shares` and `cost_kinds`. Money is in units of `capital`.

    For every day u: value_u - value_{u-1} = sum(shares_{u-1} x (worth_u - mark_{u-1})) + sum(shares_u x (mark_u -
    worth_u)) - costs_u, prices as in `Terms`, and value_u = cash_u + sum(shares_u x mark_u).
    """

    value: Values
    """Equity at the close; `capital` before the first fill."""
    returns: Values
    """value_u / value_{u-1} - 1, net of costs; 0 before the first fill, and on that day minus the cost of entry."""
    costs: Values
    """Money paid for trading, borrowing and delisting."""
    cost_kinds: Values
    """(days, kinds) the same by kind, in the order of `Terms.kinds`."""
    turnover: Values
    """One-way: half of the value bought and sold, as a fraction of the equity before trading."""
    cash: Values
    """Money not in stocks, after trading."""
    n_held: NDArray[np.int64]
    """Stocks held after trading, long or short."""
    unfilled_buys: NDArray[np.int64]
    """Buys that the market did not allow: suspended, at a limit, without a price."""
    stuck_sells: NDArray[np.int64]
    """Sells that the market did not allow."""
    stale_marks: NDArray[np.int64]
    """Stocks held at a price that is not of this day, as they were not tradable."""
    shares: Values
    """(days, stocks) adjusted shares held after trading; below zero is sold short."""
    orders: Orders
    gave_way: dict[str, int]
    """On how many days the strategy could not keep a constraint of its own, by its name."""
    decided: NDArray[np.bool_]
    """Whether a decision was filled on the day, if only with orders for nothing."""
    first_fill: int
    """The day on which the first decision was filled."""

    def reasons(self) -> dict[str, int]:
        """What became of the orders, in words, and of how many; what did not happen is left out."""
        counts = np.bincount(self.orders.reason, minlength=len(REASONS))
        return {name: int(n) for name, n in zip(REASONS, counts, strict=True) if n}


def simulate(terms: Terms, plan: Plan, *, delay: int, capital: float = 1.0, every: int = 1) -> Simulation:
    """Run an account that follows a plan.

    plan: called once a decision day. delay: days from a decision to its fill; 0 fills at the very price that the
    decision has seen (the paper's setting, not tradable in practice), 1 on the next day. Decisions of the last `delay`
    days are not filled. every: days from one decision to the next, counted from the first.

    Raises DataError on weights that the market does not allow, when no decision is ever filled, or when the account
    has lost everything; ConfigError on delay < 0, every < 1 or capital not above 0.
    """
    _check_settings(delay, every, capital)
    n_days, n_stocks = terms.mark.shape
    kinds = len(terms.kinds)
    value, cash, turnover = (np.zeros(n_days) for _ in range(3))
    cost_kinds = np.zeros((n_days, kinds))
    decided_on = np.zeros(n_days, dtype=bool)
    gave_way: Counter[str] = Counter()
    shares = np.zeros((n_days, n_stocks))
    log = _Log()
    held, money, first = np.zeros(n_stocks), float(capital), -1
    for day in range(n_days):
        spent = cost_kinds[day]
        if first >= 0:
            spent[-2] = _interest(held, terms.mark[day - 1], money, terms)
            money += _settle(held, terms, day, spent, log) - spent[-2]
        decided = day - delay
        if decided >= 0 and (first < 0 or (day - first) % every == 0):
            decision = plan(_moment(decided, held, money, terms))
            if decision is not None:
                _check_decision(decision, terms, decided)
                money, traded, equity = _trade(held, money, decision, terms, day, spent, log)
                turnover[day] = traded / equity / 2
                decided_on[day] = True
                gave_way.update(decision.gave_way)
                first = day if first < 0 else first
        shares[day], cash[day] = held, money
        value[day] = money + float(held @ terms.mark[day])
        _check_alive(value[day], terms, day)
    if first < 0:
        raise DataError(
            f"expected a decision that is filled within {n_days} days, got none {delay} or more days before the end; "
            "give scores on earlier days"
        )
    orders = log.orders(kinds)
    blocked = np.isin(orders.reason, BLOCKED)
    return Simulation(
        value=value,
        returns=value / np.concatenate([[capital], value[:-1]]) - 1.0,
        costs=cost_kinds.sum(axis=1),
        cost_kinds=cost_kinds,
        turnover=turnover,
        cash=cash,
        n_held=(shares != 0).sum(axis=-1),
        unfilled_buys=np.bincount(orders.day[blocked & (orders.wanted > 0)], minlength=n_days),
        stuck_sells=np.bincount(orders.day[blocked & (orders.wanted < 0)], minlength=n_days),
        stale_marks=((shares != 0) & terms.stale).sum(axis=-1),
        shares=shares,
        orders=orders,
        gave_way=dict(gave_way),
        decided=decided_on,
        first_fill=first,
    )


class _Log:
    """Collects the orders of each day."""

    def __init__(self) -> None:
        self._days: list[tuple[NDArray[Any], ...]] = []

    def add(self, day: int, out: DayOrders, price: Values) -> None:
        """Keep the orders of a day."""
        asked = np.flatnonzero(out.wanted)
        columns = (out.wanted, out.filled, out.reason, price, out.costs)
        self._days.append((np.full(len(asked), day), asked, *(column[asked] for column in columns)))

    def orders(self, kinds: int) -> Orders:
        """All of them."""
        if not self._days:
            none, whole = np.zeros(0), np.zeros(0, dtype=np.int64)
            return Orders(whole, whole, none, none, none.astype(np.uint8), none, np.zeros((0, kinds)))
        return Orders(*(np.concatenate(column) for column in zip(*self._days, strict=True)))


def _moment(day: int, held: Values, money: float, terms: Terms) -> Moment:
    mark = terms.mark[day]
    return Moment(day, held.copy(), held * mark / (money + float(held @ mark)))


def _interest(held: Values, mark: Values, money: float, terms: Terms) -> float:
    """What is owed for the night: on stocks sold short and on money borrowed."""
    if money >= 0 and not terms.short:
        return 0.0
    return float(-np.minimum(held, 0.0) @ mark) * terms.borrow + max(-money, 0.0) * terms.financing


def _settle(held: Values, terms: Terms, day: int, spent: Values, log: _Log) -> float:
    """Turn what is held of delisted stocks into money, at the last price less the loss; the money."""
    ended = terms.gone[day] & (held != 0)
    if not ended.any():
        return 0.0
    filled, worth = np.where(ended, -held, 0.0), terms.mark[day]
    costs = np.zeros((len(held), len(spent)))
    costs[:, -1] = np.where(ended, held * worth * terms.delisting_loss, 0.0)  # what was sold short gains
    log.add(day, DayOrders(filled * worth, filled, np.full(len(held), SETTLED, dtype=np.uint8), costs), worth)
    spent[-1] = costs[:, -1].sum()
    money = float(held[ended] @ worth[ended]) - float(spent[-1])
    held[ended] = 0.0
    return money


def _trade(
    held: Values, money: float, decision: Decision, terms: Terms, day: int, spent: Values, log: _Log
) -> tuple[float, float, float]:
    """Fill the orders of a decision, changing `held` and `spent`; money after, value traded, equity before."""
    from mimstocr.backtest.fill import fill  # a second of imports that settings do not need

    n = len(held)
    out = DayOrders(np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.uint8), np.zeros((n, len(spent))))
    _check_alive(money + float(held @ terms.worth[day]), terms, day)
    weights = np.ascontiguousarray(decision.weights, dtype=np.float64)
    money, traded, equity = fill(held, money, weights, decision.of_cash, terms.day(day), out)
    spent += out.costs.sum(axis=0)
    log.add(day, out, terms.worth[day])
    return money, traded, equity


def _check_settings(delay: int, every: int, capital: float) -> None:
    if delay < 0:
        raise ConfigError(f"delay: expected 0 or more days, got {delay}; a fill cannot come before its decision")
    if every < 1:
        raise ConfigError(f"every: expected 1 or more days between decisions, got {every}")
    if not (capital > 0 and math.isfinite(capital)):
        raise ConfigError(f"capital: expected money above 0, got {capital}")


def _check_alive(equity: float, terms: Terms, day: int) -> None:
    if not equity > 0:
        raise DataError(
            f"the account lost everything on {day_name(terms.days, day)}: it is worth {equity:.2f}; lower the leverage "
            "or the weights of what is sold short"
        )


def _check_decision(decision: Decision, terms: Terms, day: int) -> None:
    from mimstocr.backtest.fill import extent

    weights = decision.weights
    if np.shape(weights) != terms.mark[day].shape:
        raise DataError(
            f"expected a weight for each of {terms.mark.shape[1]} stocks, got shape {np.shape(weights)} on "
            f"{day_name(terms.days, day)}"
        )
    gross, lowest = extent(np.ascontiguousarray(weights, dtype=np.float64))
    if math.isinf(gross):
        what, cure = "an infinite weight", "a weight is a fraction of the equity, NaN to keep what is held"
    elif decision.of_cash and lowest < 0:
        what, cure = "a weight below zero of the cash", "sell short by weights of the equity"
    elif not terms.short and lowest < 0:
        what, cure = "a weight below zero", "this market sells nothing short; choose one with short: true"
    elif gross > (1.0 if decision.of_cash else terms.leverage) + 1e-9:
        what, cure = (
            f"weights whose sizes sum to {gross:.10g}",
            f"at most {terms.leverage:g} is allowed; scale them down",
        )
    else:
        return
    raise DataError(f"expected weights that the market allows, got {what} on {day_name(terms.days, day)}; {cure}")
