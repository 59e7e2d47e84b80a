"""The highest scores in equal parts."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveInt

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores, highest
from mimstocr.backtest.strategy import STRATEGIES, View


@STRATEGIES.register("top_k")
class TopK(ByScores):
    """The k highest scores of each day in equal parts, rebalanced every day.

    Equal scores at the edge are taken in the order of the columns, which is the order of the symbols. A day
    without any score is no decision. This is the Top50 strategy of the MiM-StocR paper (section 5.1).
    """

    k: PositiveInt = 50
    """Stocks to hold; 50 is the paper's choice for CSI 300."""

    def targets(self, scores: Values, view: View) -> Values:
        """1 / k on the k highest scores of each day; DataError naming the day that has fewer than k."""
        weights = np.zeros(scores.shape)
        np.put_along_axis(weights, highest(scores, self.k, view.days), 1.0 / self.k, axis=-1)
        return weights
