"""Bought once."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveInt

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores, highest
from mimstocr.backtest.strategy import STRATEGIES, View


@STRATEGIES.register("buy_and_hold")
class BuyAndHold(ByScores):
    """Equal parts of the highest scores of the first day, never traded again.

    A stock whose buy cannot be filled that day is never bought; its part stays in cash.
    """

    k: PositiveInt | None = None
    """Stocks to buy; none: all that are scored on the first day that has scores."""

    def targets(self, scores: Values, view: View) -> Values:
        """1 / k on the first day with scores, NaN after it; DataError when that day has fewer than k."""
        weights = np.full(scores.shape, np.nan)
        n_scored = np.isfinite(scores).sum(axis=-1)
        if n_scored.any():
            first = int(np.argmax(n_scored > 0))
            k = int(n_scored[first]) if self.k is None else self.k
            weights[first] = 0.0
            weights[first, highest(scores[: first + 1], k, view.days)[first]] = 1.0 / k
        return weights
