"""The highest scores in equal parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from mimstocr.backtest.strategy import STRATEGIES, Strategy, day_name
from mimstocr.data.panel import Days
from mimstocr.errors import DataError


@STRATEGIES.register("top_k")
class TopK(Strategy):
    """The k highest scores of each day in equal parts, rebalanced every day.

    Equal scores at the edge are taken in the order of the columns, which is the order of the symbols. A day
    without any score is no decision. This is the Top50 strategy of the MiM-StocR paper (section 5.1).
    """

    k: PositiveInt = 50
    """Stocks to hold; 50 is the paper's choice for CSI 300."""

    def weights(self, scores: NDArray[Any], days: Days | None = None) -> NDArray[np.float64]:
        """1 / k on the k highest finite scores of each day; DataError naming the day that has fewer than k."""
        scored = np.isfinite(scores)
        n_scored = scored.sum(axis=-1)
        if (short := (n_scored > 0) & (n_scored < self.k)).any():
            first = int(np.argmax(short))
            raise DataError(
                f"fewer stocks than K: expected at least {self.k} scored stocks on every day, got {n_scored[first]} on "
                f"{day_name(days, first)} ({int(short.sum())} such days); lower strategy.k to at most "
                f"{n_scored[short].min()}, or choose a larger universe"
            )
        order = np.argsort(np.where(scored, -np.asarray(scores, dtype=np.float64), np.nan), axis=-1, kind="stable")
        weights = np.zeros(scores.shape)
        np.put_along_axis(weights, order[:, : self.k], 1.0 / self.k, axis=-1)
        weights[n_scored == 0] = np.nan
        return weights
