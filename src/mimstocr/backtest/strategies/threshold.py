"""The scores above a bound."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores
from mimstocr.backtest.strategy import STRATEGIES, View


@STRATEGIES.register("threshold")
class Threshold(ByScores):
    """The stocks whose score is above a bound in equal parts, and cash where there are few.

    Each of the n stocks that signal gets 1 / n of the equity, but at most `most`; the rest is cash. On a day with
    scores of which none signals all is cash.
    """

    above: float = 0.0
    """Scores above it are bought."""
    below: float | None = None
    """Scores below it are sold short, in parts of the same size, which needs a market with `short: true`; none: no
    stock is."""
    most: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Largest weight of a stock."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.below is not None and self.below > self.above:
            raise ValueError(
                f"expected below to be at most above, got {self.below} and {self.above}; a score between them would "
                "be bought and sold short"
            )
        return self

    def targets(self, scores: Values, view: View) -> Values:  # noqa: ARG002
        """The smaller of 1 / n and `most`, with the sign of the signal."""
        signal = (scores > self.above).astype(np.float64)
        if self.below is not None:
            signal -= scores < self.below
        n: Values = np.abs(signal).sum(axis=-1, keepdims=True)
        return signal * np.minimum(1.0 / np.maximum(n, 1.0), self.most)
