"""Where a backtest's risk and costs lie: falls, months, industries, sizes, orders; numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.backtest.engine import Simulation
from mimstocr.backtest.market import Mask
from mimstocr.backtest.orders import REASONS, SETTLED, Values
from mimstocr.backtest.portfolio import drawdown
from mimstocr.backtest.run import BacktestResult
from mimstocr.data.panel import Days, Panel, last_known, traded_money, within_day
from mimstocr.errors import ConfigError, DataError
from mimstocr.ranks import places

NO_GROUP = "none"
"""The group of the stocks that have none."""
SIZE_DAYS = 20
"""Days whose mean traded money stands for the market value where a source has none."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def drawdowns(returns: NDArray[Any], days: Days, n: int = 10) -> pl.DataFrame:
    """The n deepest falls below the highest wealth so far, deepest first.

    returns: (days,), simple daily returns. Columns: `start`, the day of the highest wealth, null where that is the
    money before the first day; `trough`, the first day of the lowest; `recovered`, the first day on which the highest
    is reached again, null where it is not; `depth`, a negative fraction; `days_down`, trading days from start to
    trough; `days_to_recover`, from the trough on, null where it is not. No fall gives no row.
    Raises DataError on returns that are not finite or do not fit the days, ConfigError on n below 1.
    """
    if n < 1:
        raise ConfigError(f"n: expected 1 or more drawdowns, got {n}; 10 is usual")
    below = drawdown(_checked(returns, days))
    edges = np.diff(np.concatenate([[False], below < 0, [False]]).astype(np.int8))
    first, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    depth = np.minimum.reduceat(below, first) if len(first) else np.empty(0)
    rows = []
    for at in np.argsort(depth, kind="stable")[:n]:
        trough = int(first[at] + np.argmin(below[first[at] : end[at]]))
        ended = end[at] < len(below)
        rows.append(
            {
                "start": days[first[at] - 1].item() if first[at] > 0 else None,
                "trough": days[trough].item(),
                "recovered": days[end[at]].item() if ended else None,
                "depth": float(depth[at]),
                "days_down": trough - int(first[at]) + 1,
                "days_to_recover": int(end[at]) - trough if ended else None,
            }
        )
    schema = {
        **dict.fromkeys(("start", "trough", "recovered"), pl.Datetime("ms") if within_day(days) else pl.Date),
        "depth": pl.Float64,
        **dict.fromkeys(("days_down", "days_to_recover"), pl.Int64),
    }
    return pl.DataFrame(rows, schema)


def monthly_returns(returns: NDArray[Any], days: Days) -> pl.DataFrame:
    """One row a year: its months' returns and its own, compounded; columns year, jan .. dec, total.

    returns: (days,). A month without a day is null; the first and the last month and year may be parts of one.
    Raises DataError on returns that are not finite or do not fit the days.
    """
    growth = 1.0 + _checked(returns, days)
    months = days.astype("datetime64[M]")
    month, start = np.unique(months, return_index=True)
    of_month = np.multiply.reduceat(growth, start) - 1.0
    year, start = np.unique(days.astype("datetime64[Y]"), return_index=True)
    table = np.full((len(year), len(MONTHS)), np.nan)
    number = month.astype(np.int64)  # months since 1970
    table[number // 12 - int(year[0].astype(np.int64)), number % 12] = of_month
    return pl.DataFrame(
        {
            "year": year.astype(np.int64) + 1970,
            **dict(zip(MONTHS, table.T, strict=True)),
            "total": np.multiply.reduceat(growth, start) - 1.0,
        }
    ).fill_nan(None)


def rolling_sharpe(returns: NDArray[Any], window: int, days_per_year: int) -> Values:
    """The Sharpe ratio of the last `window` days, annualised, (days,): as in `portfolio_metrics`, risk-free rate 0.

    NaN before there are so many days, and where all returns of a window are equal.
    Raises DataError on returns that are not finite, ConfigError on a window below 2 or days_per_year not above 0.
    """
    if window < 2 or days_per_year <= 0:
        raise ConfigError(
            f"expected a window of 2 days or more and days_per_year above 0, got {window} and {days_per_year}; "
            "126 of 252 are half a year"
        )
    r = _checked(returns)
    found = np.full(len(r), np.nan)
    if len(r) < window:
        return found
    windows = np.lib.stride_tricks.sliding_window_view(r, window)
    varied = windows.min(axis=-1) < windows.max(axis=-1)
    deviation = np.where(varied, windows.std(axis=-1, ddof=1), np.nan)
    found[window - 1 :] = windows.mean(axis=-1) / deviation * days_per_year**0.5
    return found


@dataclass(frozen=True, eq=False)
class GroupExposure:
    """What share of the account lies in each group, and what share of the universe."""

    names: list[str]
    """The groups, `NO_GROUP` last where a stock has none."""
    account: Values
    """(days, groups) fractions of the account's value; what is not in stocks is in none of them."""
    universe: Values
    """(days, groups) the same of equal parts of the day's members; NaN on a day without members."""

    @property
    def active(self) -> Values:
        """(days, groups) of the account less the universe's."""
        return self.account - self.universe


def group_exposure(weights: Values, member: Mask, groups: Mask, names: Sequence[str]) -> GroupExposure:
    """Exposure to groups of stocks, such as industries.

    weights: (days, stocks) value held as a fraction of the account's, below zero where sold short. member: (days,
    stocks), the universe. groups: (stocks, groups) with their names; a stock in several counts in equal parts, one in
    none belongs to `NO_GROUP`. Raises DataError on shapes that differ.
    """
    _check_weights(weights, member)
    if np.shape(groups) != (weights.shape[1], len(names)):
        raise DataError(
            f"expected groups of shape (stocks, groups) = {(weights.shape[1], len(names))}, got {np.shape(groups)}; "
            "take them and their names from one panel"
        )
    n_groups = groups.sum(axis=1)
    parts = groups / np.maximum(n_groups, 1)[:, None]
    named = list(names)
    if (n_groups == 0).any():
        parts, named = np.column_stack([parts, n_groups == 0]), [*named, NO_GROUP]
    n = member.sum(axis=1, keepdims=True)
    equal = np.divide(member, n, out=np.full(member.shape, np.nan), where=n > 0)
    return GroupExposure(named, weights @ parts, equal @ parts)


class SizeExposure(NamedTuple):
    """How large the stocks are that are held.

    rank: (days,) 0 the smallest of the universe, 1 the largest, 0.5 that of equal parts of all members; NaN where
    nothing of a known size is held. left_out: holdings (stock-days) whose size is not known.
    """

    rank: Values
    left_out: int


def size_exposure(weights: Values, size: Values, member: Mask) -> SizeExposure:
    """The mean percentile rank by size of what is held among the day's members, weighted by value.

    All (days, stocks). weights: fractions of the account, their signs do not count: hand over one side of an account
    that also sells short. size: such as market value, NaN where unknown. The rank of a stock is the share of the
    members of known size that are smaller, those of equal size (a member itself among them) counting a half.
    Raises DataError on shapes that differ.
    """
    _check_weights(weights, member)
    if np.shape(size) != weights.shape:
        raise DataError(f"expected sizes of shape {weights.shape}, got {np.shape(size)}; take both from one panel")
    known = np.isfinite(size)
    by_size = places(np.where(known, size, np.nan).astype(np.float64))
    counted = np.zeros((len(size), size.shape[1] + 1), dtype=np.int64)
    np.cumsum(np.take_along_axis(member & known, by_size.order, axis=1), axis=1, out=counted[:, 1:])
    to_last, to_first = (np.take_along_axis(counted, at, axis=1) for at in (by_size.last + 1, by_size.first))
    n = counted[:, -1:]
    rank = np.full(weights.shape, np.nan)
    # places go from the largest down: n - to_last members are smaller
    share = np.divide(n - (to_last + to_first) / 2, n, out=np.full(weights.shape, np.nan), where=n > 0)
    np.put_along_axis(rank, by_size.order, share, axis=1)
    held = np.abs(weights)
    used = np.where(known & np.isfinite(rank), held, 0.0)
    total = used.sum(axis=1)
    mean = np.divide((used * np.nan_to_num(rank)).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
    return SizeExposure(mean, int(((held > 0) & (used == 0)).sum()))


def sizes(panel: Panel) -> tuple[Values, str] | None:
    """(days, symbols) sizes of the stocks, NaN where unknown, and what they are; none where the source cannot say.

    The last known market value; without one in the source the mean money traded on those of the last 20 days on which
    the stock was traded.
    """
    if "market_value" in panel:
        return last_known(panel["market_value"].values.astype(np.float64)), "market value"
    if "volume" not in panel:
        return None
    money = traded_money(panel)
    traded = money > 0
    total = np.cumsum(np.where(traded, money, 0.0), axis=0)
    n = np.cumsum(traded, axis=0, dtype=np.int64)
    total[SIZE_DAYS:] -= total[:-SIZE_DAYS].copy()
    n[SIZE_DAYS:] -= n[:-SIZE_DAYS].copy()
    mean: Values = np.divide(total, n, out=np.full(money.shape, np.nan), where=n > 0)
    return mean, f"mean money traded on the last {SIZE_DAYS} days"


def weights_of(result: BacktestResult) -> Values:
    """(days compared, stocks) value held after trading as a fraction of the account's, at the day's closes."""
    account = result.net
    weights: Values = account.shares * result.terms.mark / account.value[:, None]
    return weights[-len(result.days) :]


def value_traded(account: Simulation) -> float:
    """Money bought and sold over the whole time, without what was settled after a delisting."""
    orders = account.orders
    return float(np.abs(orders.filled * orders.price)[orders.reason != SETTLED].sum())


def cost_breakdown(result: BacktestResult) -> pl.DataFrame:
    """What the net account paid, one row a kind that is not zero, in the order of `terms.kinds`.

    Columns: `kind`; `money`; `of_capital`, over the whole time as a fraction of the capital at the start;
    `basis_points`, hundredths of a percent of all value bought and sold, null where nothing was.
    """
    paid = result.net.cost_kinds.sum(axis=0)
    traded = value_traded(result.net)
    rows = [
        {
            "kind": kind,
            "money": float(money),
            "of_capital": float(money) / result.settings.capital,
            "basis_points": float(money) / traded * 1e4 if traded > 0 else None,
        }
        for kind, money in zip(result.terms.kinds, paid, strict=True)
        if money != 0
    ]
    numbers = dict.fromkeys(("money", "of_capital", "basis_points"), pl.Float64)
    return pl.DataFrame(rows, {"kind": pl.String, **numbers})


def order_outcomes(result: BacktestResult) -> pl.DataFrame:
    """What became of the orders of the net account, one row an outcome that happened, in the order of `REASONS`.

    Columns: `outcome`; `buys` and `sells`, how many; `asked` and `traded`, money. An order that was not filled whole
    is asked for anew by the next decision, so what was asked can be counted many times.
    """
    orders = result.net.orders
    n = len(REASONS)
    asked, traded = np.abs(orders.wanted), np.abs(orders.filled * orders.price)
    columns = {
        "outcome": list(REASONS),
        "buys": np.bincount(orders.reason[orders.wanted > 0], minlength=n),
        "sells": np.bincount(orders.reason[orders.wanted < 0], minlength=n),
        "asked": np.bincount(orders.reason, weights=asked, minlength=n),
        "traded": np.bincount(orders.reason, weights=traded, minlength=n),
    }
    return pl.DataFrame(columns).filter(pl.col("buys") + pl.col("sells") > 0)


def _checked(returns: NDArray[Any], days: Days | None = None) -> Values:
    r = np.asarray(returns, dtype=np.float64)
    if r.ndim != 1 or len(r) == 0 or not np.isfinite(r).all():
        raise DataError(
            f"returns: expected a number on every day, (days,), got shape {r.shape} with "
            f"{int((~np.isfinite(r)).sum())} that are not; hand over one day at least, and none without a return"
        )
    if days is not None and (np.shape(days) != r.shape or (np.diff(days) <= np.timedelta64(0, "D")).any()):
        raise DataError(
            f"days: expected {len(r)} days that increase, one a return, got {np.shape(days)}; take both from one table"
        )
    return r


def _check_weights(weights: Values, member: Mask) -> None:
    if np.ndim(weights) != 2 or np.shape(weights) != np.shape(member) or not np.isfinite(weights).all():
        raise DataError(
            f"expected finite weights and members of one shape (days, stocks), got {np.shape(weights)} with "
            f"{int((~np.isfinite(weights)).sum())} not finite and {np.shape(member)}; align both to the same days"
        )
