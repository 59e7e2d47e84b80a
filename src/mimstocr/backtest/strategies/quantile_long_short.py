"""The highest quantile against the lowest."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores, at_least, order
from mimstocr.backtest.strategy import STRATEGIES, View

SLACK = 1e-9
"""By which a number of stocks may miss a whole one: 0.29 x 100 is less than 29 in floats."""


@STRATEGIES.register("quantile_long_short")
class QuantileLongShort(ByScores):
    """The highest quantile of each day bought and the lowest sold short, both in equal parts.

    Of n scored stocks each quantile has fraction x n, rounded down. Equal scores are ranked in the order of the
    columns, so no stock is in both. Needs a market with `short: true`.
    """

    fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Fraction of the scored stocks in each quantile."""
    gross: Annotated[float, Field(gt=0)] = 1.0
    """Sum of the sizes of all weights, as a fraction of the equity, one half a side; above 1 needs leverage."""

    def targets(self, scores: Values, view: View) -> Values:
        """Half of `gross` on either side; DataError naming the day whose quantiles have no stock."""
        n_scored = np.isfinite(scores).sum(axis=-1)
        least = math.ceil(1 / self.fraction - SLACK)
        at_least(least, n_scored, view.days, "a quantile needs", "raise strategy.fraction, 0.5 is the most")
        place = np.empty(scores.shape, dtype=np.int64)
        np.put_along_axis(place, order(scores), np.arange(scores.shape[1])[None], axis=-1)
        scored, n = n_scored[:, None], np.floor(self.fraction * n_scored + SLACK)[:, None]
        side = (place < n).astype(np.float64) - ((place >= scored - n) & (place < scored))
        weights: Values = self.gross / 2 * side / np.maximum(n, 1)
        return weights
