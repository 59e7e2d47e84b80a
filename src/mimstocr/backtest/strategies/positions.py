"""The scores as they are."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores
from mimstocr.backtest.strategy import STRATEGIES, View


@STRATEGIES.register("positions")
class Positions(ByScores):
    """The scores are the weights, for models whose outputs are positions.

    Such as a model trained on a loss of its profit. A stock without a score gets 0 on a day on which others have one.
    Scores below zero are sold short, which needs a market with `short: true`, unless `long_only` is set.
    """

    gross: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the scores, and the largest sum of the sizes of all weights; above 1 needs leverage."""
    scale: Literal["if_needed", "always"] = "if_needed"
    """When the weights of a day are scaled to `gross`: if their sizes sum to more, or always, up as well as down.
    Weights that are all zero stay so."""
    long_only: bool = False
    """Whether scores below zero count as zero."""

    def targets(self, scores: Values, view: View) -> Values:  # noqa: ARG002
        """Scores x `gross`, scaled."""
        sizes = np.nan_to_num(scores)
        if self.long_only:
            sizes = np.maximum(sizes, 0.0)
        total: Values = np.abs(sizes).sum(axis=-1, keepdims=True)
        if self.scale == "if_needed":
            return self.gross * sizes / np.maximum(total, 1.0)
        return self.gross * np.divide(sizes, total, out=np.zeros(sizes.shape), where=total > 0)
