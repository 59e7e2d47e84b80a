"""What the strategy is measured against, as daily returns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import DataError


def universe_mean(close: NDArray[Any], tradable: NDArray[np.bool_], member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The equal-weighted return of the universe, (days,); rebalanced every day and free of cost.

    All (days, stocks). The return of day u is the mean of close_u / close_{u-1} - 1 over the stocks that were
    members and tradable on day u - 1 and have a close on day u; a stock without one (a suspension that comes as
    a missing row) is left out of that day. NaN on the first day, and where no stock is left.
    Raises DataError on shapes that differ.
    """
    if not np.shape(close) == np.shape(tradable) == np.shape(member) or np.ndim(close) != 2:
        raise DataError(
            f"expected close, tradable and member of one shape (days, stocks), got {np.shape(close)}, "
            f"{np.shape(tradable)} and {np.shape(member)}; take all three from one panel"
        )
    price = np.asarray(close, dtype=np.float64)
    counts = np.zeros(price.shape, dtype=bool)
    counts[1:] = (tradable & member)[:-1] & np.isfinite(price[:-1]) & np.isfinite(price[1:])
    moves = np.zeros(price.shape)
    np.divide(price[1:], price[:-1], out=moves[1:], where=counts[1:])
    n = counts.sum(axis=-1)
    total = np.where(counts, moves - 1.0, 0.0).sum(axis=-1)
    mean: NDArray[np.float64] = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    return mean


def index_returns(benchmark: NDArray[Any]) -> NDArray[np.float64]:
    """Day over day returns of an index from its closes, both (days,); NaN on the first day and beside a gap."""
    level = np.asarray(benchmark, dtype=np.float64)
    if level.ndim != 1:
        raise DataError(f"expected the closes of one index, (days,), got shape {level.shape}; name one benchmark")
    returns = np.full(level.shape, np.nan)
    returns[1:] = level[1:] / level[:-1] - 1.0
    return returns
