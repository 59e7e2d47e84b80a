"""The return task: how much will the stock gain?"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel
from mimstocr.losses import AnyLoss
from mimstocr.losses.mse import Mse
from mimstocr.ranks import average_ranks
from mimstocr.tasks.base import TASKS, Ahead, gain


@TASKS.register("return")
class Return(Ahead):
    """Return from the close of day t + delay to the close of t + delay + horizon (MiM-StocR, Eq. 1).

    delay 0 is the paper's label; it buys at the very close that the features have seen. delay 1 is Qlib's and
    the first one that can be traded.
    """

    target = "value"

    horizon: Annotated[int, Field(ge=1)] = 1
    """Trading days the return spans."""
    delay: Annotated[int, Field(ge=0)] = 0
    """Trading days between the score and the first price of the label (0: the paper, 1: tradable)."""
    normalise: Literal["rank", "zscore", "none"] = "rank"
    """Training targets per day: rank to (-0.5, 0.5] x 3.46 (Qlib's CSRankNorm), z-score, or raw returns."""
    loss: AnyLoss = Mse()
    """What the task is trained on; metrics always use raw returns."""

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) close[t + delay + horizon] / close[t + delay] - 1."""
        return gain(panel, *self.span)

    @property
    def in_units(self) -> bool:
        """Whether raw returns are learned."""
        return self.normalise == "none"

    def targets(self, labels: Matrix, rows: NDArray[np.bool_]) -> Matrix:
        """Labels of the true rows, normalised within each day's cross-section; NaN elsewhere."""
        kept = super().targets(labels, rows)
        n = (~np.isnan(kept)).sum(axis=1, keepdims=True)
        if self.normalise == "rank":
            # 3.46 = sqrt(12) brings uniform ranks to unit variance
            kept = ((average_ranks(kept) / np.maximum(n, 1) - 0.5) * 3.46).astype(np.float32)
        elif self.normalise == "zscore":
            # in float64 the mean of equal returns is exact: rounding is not taken for a spread
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.nansum(kept, axis=1, keepdims=True, dtype=np.float64) / n
                spread = np.sqrt(np.nansum((kept - mean) ** 2, axis=1, keepdims=True) / (n - 1))
                kept = np.where(spread > 0, (kept - mean) / spread, kept - mean).astype(np.float32)
        return kept

    def score(self, output: Tensor) -> Tensor:
        """The predicted value itself."""
        return output
