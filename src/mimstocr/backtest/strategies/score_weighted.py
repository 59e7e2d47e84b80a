"""The more score, the more weight."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores, enough, order
from mimstocr.backtest.strategy import STRATEGIES, View
from mimstocr.ranks import average_ranks


@STRATEGIES.register("score_weighted")
class ScoreWeighted(ByScores):
    """Weights in proportion to how far a score is from the mean of its day.

    Long: the stocks above the mean of all that are scored, each in proportion to how far above. Long and short: these
    with one half of `gross`, and with the other half those below the mean, in proportion to how far below. The weights
    do not change when all scores of a day are shifted, or scaled by one number above zero.

    Where all scores of a day are equal they prefer none: long holds equal parts, long and short holds nothing.
    """

    k: PositiveInt | None = None
    """Only the k highest scores, and for short the k lowest, can get a weight, ties by column; the mean is that of all
    nevertheless, so that fewer than k are held where fewer are above it. None: no limit."""
    by: Literal["score", "rank"] = "score"
    """What counts: the score itself, or its rank among the stocks of the day; ties share the average of their ranks."""
    side: Literal["long", "long_short"] = "long"
    """Whether stocks below the mean are sold short; that needs a market with `short: true`."""
    gross: Annotated[float, Field(gt=0)] = 1.0
    """Sum of the sizes of all weights, as a fraction of the equity; above 1 needs leverage."""

    def targets(self, scores: Values, view: View) -> Values:
        """The parts of each side; DataError naming the day that has fewer than k scored stocks."""
        if self.k is not None:
            enough(scores, self.k, view.days)
        values = average_ranks(scores) if self.by == "rank" else scores
        if self.side == "long":
            return self.gross * self._parts(values, equal=1.0)
        return self.gross / 2 * (self._parts(values, equal=0.0) - self._parts(-values, equal=0.0))

    def _parts(self, values: Values, equal: float) -> Values:
        """(days, stocks) parts of 1 by how far values are above the mean; by `equal` where all values are equal."""
        known = np.isfinite(values)
        low = np.min(values, axis=-1, keepdims=True, initial=np.inf, where=known)
        span = np.max(values, axis=-1, keepdims=True, initial=-np.inf, where=known) - low
        # within 0 .. 1, both taken, the highest is above the mean whatever the rounding
        unit = np.divide(values - low, span, out=np.zeros(values.shape), where=known & (span > 0))
        mean: Values = unit.sum(axis=-1, keepdims=True) / np.maximum(known.sum(axis=-1, keepdims=True), 1)
        above = np.where(known, np.where(span > 0, np.maximum(unit - mean, 0.0), equal), 0.0)
        if self.k is not None:
            np.put_along_axis(above, order(values)[:, self.k :], 0.0, axis=-1)
        total: Values = above.sum(axis=-1, keepdims=True)
        return np.divide(above, total, out=np.zeros(values.shape), where=total > 0)
