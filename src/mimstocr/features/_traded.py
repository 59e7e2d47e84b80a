"""The past of each stock over the days on which it traded, and moving statistics along it.

A suspended day and a missing row are the same: neither is a day of an indicator. So a "20-day mean" is of the last
20 days with trade, however long ago the first of them was, and there is no value on a day without trade.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mimstocr.data.panel import Matrix, Panel, traded_money

Array = NDArray[np.float64]


class TradedDays:
    """The fields of a panel, packed: float64 (traded days, symbols), row i the stock's i-th day with trade.

    Columns of stocks with fewer such days are NaN at the end; what the source lacks on a day with trade is NaN there.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        traded = panel["tradable"].values
        self._shape = traded.shape
        self._symbol, self._day = np.nonzero(traded.T)  # symbol by symbol, in order of days
        counts = traded.sum(axis=0)
        self._place = np.arange(len(self._day)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._length = int(counts.max(initial=0))

    def pack(self, values: NDArray[np.floating]) -> Array:
        """(days, symbols) to (traded days, symbols)."""
        packed = np.full((self._length, self._shape[1]), np.nan)
        packed[self._place, self._symbol] = values[self._day, self._symbol]
        return packed

    def unpack(self, packed: Array) -> Matrix:
        """(traded days, symbols) to (days, symbols), NaN on days without trade."""
        values = np.full(self._shape, np.nan, dtype=np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold is far beyond any clip
            values[self._day, self._symbol] = packed[self._place, self._symbol]
        return values

    def field(self, name: str) -> Array:
        """A field of the panel, packed."""
        return self.pack(self.panel[name].values)

    @cached_property
    def close(self) -> Array:
        """Adjusted closes."""
        return self.field("close")

    @cached_property
    def money(self) -> Array:
        """Money traded on the day (`traded_money`)."""
        return self.pack(traded_money(self.panel))

    @cached_property
    def raw_price(self) -> Array:
        """What a share cost on the day: close / factor."""
        return self.close / self.field("factor")


def before(x: Array, n: int) -> Array:
    """x[t - n] at row t; NaN in the first n rows."""
    moved = np.full(x.shape, np.nan)
    moved[n:] = x[: max(len(x) - n, 0)]
    return moved


def change(x: Array, n: int = 1) -> Array:
    """x[t] / x[t - n] - 1."""
    return x / before(x, n) - 1


def moving_mean(x: Array, n: int) -> Array:
    """Mean of the last n rows, today included; NaN where one of them is missing.

    Added up window by window: a value leaves no trace after its n days, and n equal prices give a mean equal to them.
    """
    total = x.copy()
    for back in range(1, n):
        total[back:] += x[: max(len(x) - back, 0)]
    total[: n - 1] = np.nan
    return total / n


def moving_std(x: Array, n: int) -> Array:
    """Standard deviation of the last n rows with n - 1 in the denominator, as pandas; NaN where one is missing."""
    mean = moving_mean(x, n)
    squares = (x - mean) ** 2
    for back in range(1, n):
        squares[back:] += (x[: max(len(x) - back, 0)] - mean[back:]) ** 2
    return np.sqrt(squares / (n - 1))


def ema(x: Array, span: int) -> Array:
    """Mean of all rows so far with weights (1 - 2 / (span + 1))^age that add up to 1; NaN in the first span - 1 rows.

    It is pandas' ewm(span=span, adjust=True, min_periods=span).mean() where no row is missing before the last.
    """
    keep = 1 - 2 / (span + 1)
    mean = np.full(x.shape, np.nan)
    total, weight = np.zeros(x.shape[1:]), 0.0
    for row in range(len(x)):
        total = x[row] + keep * total
        weight = 1 + keep * weight
        if row >= span - 1:
            mean[row] = total / weight
    return mean
