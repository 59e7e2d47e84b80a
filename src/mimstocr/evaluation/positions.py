"""What positions earned by themselves: the trading rule of the profit-guided paper, without a market around it."""

from __future__ import annotations

import math
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import DataError
from mimstocr.evaluation._samples import aligned, mean


class PositionMetrics(TypedDict):
    """Fractions, but for the counts. days: how many count. left_out: positions whose return is not known."""

    profit: float
    profit_std: float
    total: float
    hit_rate: float
    size: float
    net: float
    cash: float
    days: int
    left_out: int


def position_metrics(weights: NDArray[Any], returns: NDArray[Any], horizon: int = 1) -> PositionMetrics:
    """Each day the fraction w of the capital is long (w > 0) or short (w < 0) and earns the return; free of cost.

    weights, returns: (days, stocks), fractions, NaN for a stock without one. A day counts where some stock has both;
    a position whose return is not known earns nothing. horizon: days that a return spans.

    - `profit`: mean over days of sum_i w_i r_i. `profit_std`: its standard deviation over days (ddof 1).
    - `total`: final over initial capital - 1 when capital compounds, the paper's Profit %; -1 once a day loses
      everything. NaN for returns over several days, which overlap.
    - `hit_rate`: share of the positions on the right side of their return; where either is 0 there is no side.
    - `size`: mean |w|. `net`: mean over days of sum_i w_i. `cash`: mean over days of 1 - sum_i |w_i|, Hold's share.

    NaN without a day or position to tell by. Raises DataError on shapes that differ or are not (days, stocks), and on
    infinite values.
    """
    w, r = aligned(weights=weights, returns=returns)
    if w.ndim != 2:
        raise DataError(f"expected weights and returns (days, stocks), got {w.shape}; one day is (1, stocks)")
    held = ~np.isnan(w)
    known = held & ~np.isnan(r)
    days: NDArray[np.bool_] = np.any(known, axis=-1)
    profits = np.where(known, w * r, 0.0).sum(axis=-1)[days]
    sided = known & (w != 0) & (r != 0)
    placed = np.where(held, w, 0.0)[days]
    return {
        "profit": mean(profits),
        "profit_std": float(profits.std(ddof=1)) if len(profits) > 1 else math.nan,
        "total": _compounded(profits) if horizon == 1 else math.nan,
        "hit_rate": mean((w * r > 0)[sided].astype(np.float64)),
        "size": mean(np.abs(w[held & days[:, None]])),
        "net": mean(placed.sum(axis=-1)),
        "cash": mean(np.maximum(1.0 - np.abs(placed).sum(axis=-1), 0.0)),  # weights rounded to float32 sum to about 1
        "days": int(days.sum()),
        "left_out": int((held & ~known & (w != 0))[days].sum()),
    }


def _compounded(profits: NDArray[np.float64]) -> float:
    if not len(profits):
        return math.nan
    return float(np.prod(1.0 + profits) - 1.0) if profits.min() > -1 else -1.0
