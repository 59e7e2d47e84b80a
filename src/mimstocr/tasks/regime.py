"""The volatility-regime task: will the stock be calm or wild, by its own standards?"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel
from mimstocr.losses import AnyLoss
from mimstocr.losses.approx_ndcg import expected_relevance
from mimstocr.losses.cross_entropy import CrossEntropy
from mimstocr.tasks.base import TASKS, Ahead
from mimstocr.tasks.volatility import Estimator, ahead, realised


@TASKS.register("regime")
class Regime(Ahead):
    """Where the realised volatility over the horizon lies among the stock's own of the last `history` days.

    low: below the share `low` of them; high: above the share `high`; normal between. What it is compared with are
    volatilities over as many days, that end on the days t - history + 1 .. t, so all is known at the close of t. Half
    of them must be known.
    """

    target = "level"
    levels = ("low", "normal", "high")

    horizon: Annotated[int, Field(ge=1)] | None = 5
    """Trading days it asks about, as for the volatility task; none: the main task's."""
    history: Annotated[int, Field(ge=2)] = 252
    """Days with whose volatilities the coming one is compared: a year."""
    low: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    """Share of the history below which the regime is low."""
    high: Annotated[float, Field(gt=0, lt=1)] = 2 / 3
    """Share of the history above which it is high."""
    estimator: Estimator = "close"
    """What the volatility is measured by, see the volatility task."""
    loss: AnyLoss = CrossEntropy()
    """What the task is trained on."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"expected low to be at most high, got {self.low} and {self.high}")
        return self

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) level 0 (low), 1 (normal) or 2 (high)."""
        _, horizon = self.span
        coming = ahead(panel, self.span, self.estimator, self.kind)
        share = _share_below(coming, realised(panel, horizon, self.estimator, self.kind), self.history)
        level = 1.0 - (share < self.low) + (share > self.high)
        return np.where(np.isnan(share), np.nan, level).astype(np.float32)

    def score(self, output: Tensor) -> Tensor:
        """The expected level, logits (..., 3) to (...): the wildest first."""
        return expected_relevance(output, "linear")


def _share_below(values: Matrix, past: Matrix, history: int) -> NDArray[np.float64]:
    """(days, symbols) share of past[t - history + 1 .. t] below values[t], ties by half; NaN where half are unknown."""
    below, known = np.zeros(values.shape, dtype=np.int32), np.zeros(values.shape, dtype=np.int32)
    for back in range(min(history, len(values))):
        now, then = values[back:], past[: len(past) - back]
        below[back:] += 2 * (then < now) + (then == now)
        known[back:] += ~np.isnan(then)
    enough = (2 * known >= history) & ~np.isnan(values)
    return np.where(enough, below / (2.0 * np.maximum(known, 1)), np.nan)
