"""The same of everything."""

from __future__ import annotations

import numpy as np

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores
from mimstocr.backtest.strategy import STRATEGIES, View


@STRATEGIES.register("equal_weight")
class EqualWeight(ByScores):
    """Equal parts of all scored stocks, rebalanced at every decision: a baseline that no score can help.

    Beside `buy_and_hold`, which lets the parts drift, it tells what rebalancing alone earns and costs.
    """

    def targets(self, scores: Values, view: View) -> Values:  # noqa: ARG002
        """1 / n on the n stocks that have a score."""
        known = np.isfinite(scores)
        n: Values = known.sum(axis=-1, keepdims=True).astype(np.float64)
        return np.divide(known, n, out=np.zeros(scores.shape), where=n > 0)
