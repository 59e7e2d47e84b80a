"""One day of trading, compiled: what is filled of a day's orders, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mimstocr.backtest.orders import (
    CUT_CASH,
    CUT_VOLUME,
    NO_CASH,
    NO_GAIN,
    NO_LOT,
    ROUNDED,
    DayOrders,
    DayTerms,
    Values,
)

F = TypeVar("F", bound=Callable[..., object])

PRECISION = 1e-14
"""To which fraction of the equity the equity after costs is solved."""
DUST = 1e-12
"""Below which fraction of the equity money is the rounding of past trades: it buys nothing and misses no order."""
TOLD = 1e-9
"""Orders cut by a smaller fraction count as filled."""
STEPS = 50
"""Iterations for the equity after costs, enough for costs in proportion below 30 %; others are bisected."""
HALVINGS = 100
"""Bisections, to the last bit of a float64."""
MOST_IMPACT = 0.5
"""The largest impact as a fraction of the price: the square-root law says nothing of orders that move a price more."""


def compiled(function: F) -> F:
    """Compile a function when it is first called; the machine code is kept on disk where there is a place for it."""
    try:
        machine: Any = njit(cache=True)(function)
    except RuntimeError:  # nowhere to write: compiled anew in every process
        machine = njit(function)
    return cast(F, machine)


@compiled
def extent(weights: Values) -> tuple[float, float]:
    """The sum of the sizes of weights and the lowest of them, at most 0; NaN are left out."""
    gross, lowest = 0.0, 0.0
    for weight in weights:
        if not math.isnan(weight):
            gross += abs(weight)
            lowest = min(lowest, weight)
    return gross, lowest


@compiled
def fill(
    held: Values, money: float, target: Values, of_cash: bool, terms: DayTerms, out: DayOrders
) -> tuple[float, float, float]:
    """Trade `held`, changed in place, towards `target`; see `Decision` for the two meanings of a target.

    Gives the money after, the value traded and the equity before.
    """
    equity = money
    for i in range(len(held)):
        equity += held[i] * terms.worth[i]
    floor = -(terms.leverage - 1.0) * equity
    after = equity if of_cash else _after_costs(held, money, equity, floor, target, terms)
    money, sold = _sell(held, money, equity, after, target, of_cash, terms, out)
    money, bought = _buy(held, money, equity, floor, after, target, of_cash, terms, out)
    return money, sold + bought, equity


@compiled
def _sell(
    held: Values,
    money: float,
    equity: float,
    after: float,
    target: Values,
    of_cash: bool,
    terms: DayTerms,
    out: DayOrders,
) -> tuple[float, float]:
    """All sells. Gives the money after and the value sold."""
    sold = 0.0
    for i in range(len(held)):
        gap = target[i] * after - held[i] * terms.worth[i]
        whole = target[i] == 0
        if not gap < 0 or (gap > -DUST * equity and not whole) or (of_cash and not whole):
            continue
        out.wanted[i] = gap
        if terms.blocked_sell[i] > 0:
            out.reason[i] = terms.blocked_sell[i]
            continue
        asked = held[i] if whole else -gap / terms.worth[i]
        shares, why = _amount(asked, terms.cap[i], terms.step[i], terms.least[i], terms.slack, whole)
        if held[i] > 0 and target[i] >= 0:
            shares = min(shares, held[i])  # rounding to lots never sells short
        value = shares * terms.worth[i]
        paid = _cost(value, 1, i, terms)
        if paid > value:
            shares, why = 0.0, NO_GAIN
        out.reason[i] = why
        if shares > 0:
            _book(value, 1, i, terms, out.costs)
            money += value - paid
            sold += value
            out.filled[i] = -shares
            held[i] = 0.0 if shares == held[i] else held[i] - shares
    return money, sold


@compiled
def _buy(
    held: Values,
    money: float,
    equity: float,
    floor: float,
    after: float,
    target: Values,
    of_cash: bool,
    terms: DayTerms,
    out: DayOrders,
) -> tuple[float, float]:
    """All buys, cut by one factor to what the money can pay. Gives the money after and the value bought."""
    likes = np.zeros(len(held))
    for i in range(len(held)):
        gap = target[i] * after - held[i] * terms.worth[i]
        if of_cash and target[i] != 0:
            gap = target[i] * money
        if out.wanted[i] != 0 or not gap > DUST * equity:
            continue
        out.wanted[i] = gap
        out.reason[i] = terms.blocked_buy[i]
        if terms.blocked_buy[i] == 0:
            asked = gap / terms.worth[i]
            shares, out.reason[i] = _amount(
                asked, terms.cap[i], terms.step[i], terms.least[i], terms.slack, target[i] == 0
            )
            # what cannot be bought in any case takes no cash from the rest
            if shares > 0 and _cost(shares * terms.worth[i], 0, i, terms) > shares * terms.worth[i]:
                shares, out.reason[i] = 0.0, NO_GAIN
            likes[i] = min(gap, terms.cap[i] * terms.worth[i]) if shares > 0 else 0.0
    means = money - floor
    part = _affordable(likes, means if means > DUST * equity else 0.0, terms)
    bought = 0.0
    for i in range(len(held)):
        if likes[i] == 0:
            continue
        whole = target[i] == 0 and part >= 1 - TOLD and likes[i] == out.wanted[i]
        asked = -held[i] if whole else part * likes[i] / terms.worth[i]
        shares, why = _amount(asked, np.inf, terms.step[i], terms.least[i], terms.slack, whole)
        if part == 0:
            why = NO_CASH
        elif part < 1 - TOLD and shares > 0:
            why = CUT_CASH
        elif part >= 1 - TOLD:
            why = out.reason[i]
        value = shares * terms.worth[i]
        paid = _cost(value, 0, i, terms)
        if terms.step[i] > 0 and value + paid > money - floor + DUST * equity:
            # the slack of the rounding has found a lot more than there is cash for
            shares -= terms.step[i]
            shares, why = (shares, CUT_CASH) if shares >= max(terms.least[i], terms.step[i] / 2) else (0.0, NO_CASH)
            value = shares * terms.worth[i]
            paid = _cost(value, 0, i, terms)
        if paid > value:
            shares, why = 0.0, NO_GAIN
        out.reason[i] = why
        if shares > 0:
            _book(value, 0, i, terms, out.costs)
            money -= value + paid
            bought += value
            out.filled[i] = shares
            held[i] = 0.0 if whole and shares == asked else held[i] + shares
    return money, bought


@compiled
def _after_costs(held: Values, money: float, equity: float, floor: float, target: Values, terms: DayTerms) -> float:
    """The equity after costs, which depend on the orders, which depend on it; lots are left out of this."""
    after = equity
    for _ in range(STEPS):
        before = after
        after = equity - _costs_at(before, held, money, floor, target, terms)
        if abs(after - before) <= PRECISION * equity:
            return after
    low, high = 0.0, equity  # not reached with costs in proportion
    for _ in range(HALVINGS):
        after = (low + high) / 2
        if after + _costs_at(after, held, money, floor, target, terms) < equity:
            low = after
        else:
            high = after
    return low


@compiled
def _costs_at(after: float, held: Values, money: float, floor: float, target: Values, terms: DayTerms) -> float:
    """What trading towards `target` of `after` would cost."""
    spent = 0.0
    likes = np.zeros(len(held))
    for i in range(len(held)):
        gap = target[i] * after - held[i] * terms.worth[i]
        if gap < 0 and terms.blocked_sell[i] == 0:
            value = min(-gap, terms.cap[i] * terms.worth[i])
            paid = _cost(value, 1, i, terms)
            if paid <= value:
                money += value - paid
                spent += paid
        elif gap > 0 and terms.blocked_buy[i] == 0:
            value = min(gap, terms.cap[i] * terms.worth[i])
            likes[i] = value if _cost(value, 0, i, terms) <= value else 0.0
    part = _affordable(likes, money - floor, terms)
    for i in range(len(held)):
        spent += _cost(part * likes[i], 0, i, terms)
    return spent


@compiled
def _affordable(likes: Values, means: float, terms: DayTerms) -> float:
    """The share of the buys, at most 1, that `means` can pay with their costs."""
    asked = np.flatnonzero(likes)
    part, low, high = 1.0, 0.0, 1.0
    needs, slope = _needs(asked, likes, part, terms)
    if needs <= means:
        return 1.0
    if means <= 0:
        return 0.0
    # Newton from above: costs in proportion are solved by one step, convex ones without passing the root
    for _ in range(HALVINGS):
        before = part
        part -= (needs - means) / slope
        if not low < part < high:
            part = (low + high) / 2
        if abs(part - before) <= PRECISION * before:
            break
        needs, slope = _needs(asked, likes, part, terms)
        if needs <= means:
            low = part
        else:
            high = part
    return part if part > PRECISION else 0.0


@compiled
def _needs(asked: NDArray[np.int64], likes: Values, part: float, terms: DayTerms) -> tuple[float, float]:
    """Money for a share of the buys with their costs, and by how much more it grows with that share."""
    total, slope = 0.0, 0.0
    fixed = terms.slippage
    for k in range(1, terms.rates.shape[1]):
        fixed += terms.rates[0, k]
    for i in asked:
        value = part * likes[i]
        total += value + _cost(value, 0, i, terms)
        rate = fixed
        if value * terms.rates[0, 0] >= terms.min_commission:
            rate += terms.rates[0, 0]
        moved = terms.impact[i] * math.sqrt(value)
        rate += 1.5 * moved if moved < MOST_IMPACT else MOST_IMPACT
        slope += likes[i] * (1.0 + rate)
    return total, slope


@compiled
def _amount(wanted: float, cap: float, step: float, least: float, slack: float, whole: bool) -> tuple[float, int]:
    """Shares of an order, in whole lots unless all that is held is sold; and why they are fewer than wanted."""
    shares = min(wanted, cap)
    why = CUT_VOLUME if shares < wanted else 0
    if step > 0 and not (whole and shares == wanted):
        rounded = math.floor(shares / step + slack) * step
        if rounded == 0 or rounded < least * (1 - slack):
            return 0.0, CUT_VOLUME if cap < min(wanted, least) else NO_LOT
        if why == 0 and rounded < wanted - slack * step:
            why = ROUNDED
        shares = min(rounded, cap)
    return shares, why


@compiled
def _cost(value: float, side: int, stock: int, terms: DayTerms) -> float:
    """What an order of `value` pays in all, buying (side 0) or selling (1)."""
    commission, slipped, moved = _own_costs(value, side, stock, terms)
    total = commission + slipped + moved
    for k in range(1, terms.rates.shape[1]):
        total += value * terms.rates[side, k]
    return total


@compiled
def _own_costs(value: float, side: int, stock: int, terms: DayTerms) -> tuple[float, float, float]:
    """Commission, slippage and impact of an order."""
    if value <= 0:
        return 0.0, 0.0, 0.0
    moved = value * min(terms.impact[stock] * math.sqrt(value), MOST_IMPACT)
    return max(value * terms.rates[side, 0], terms.min_commission), value * terms.slippage, moved


@compiled
def _book(value: float, side: int, stock: int, terms: DayTerms, costs: Values) -> None:
    """Write the costs of an order by kind."""
    n_rates = terms.rates.shape[1]
    costs[stock, 0], costs[stock, n_rates], costs[stock, n_rates + 1] = _own_costs(value, side, stock, terms)
    for k in range(1, n_rates):
        costs[stock, k] = value * terms.rates[side, k]
