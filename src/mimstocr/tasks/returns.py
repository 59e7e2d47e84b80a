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
from mimstocr.tasks.base import TASKS, Task, shifted, traded_close


@TASKS.register("return")
class Return(Task):
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

    @property
    def reach(self) -> int:
        """The label of day t is known at the close of t + delay + horizon."""
        return self.delay + self.horizon

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) close[t + delay + horizon] / close[t + delay] - 1."""
        close = traded_close(panel)
        return shifted(close, self.reach) / shifted(close, self.delay) - np.float32(1)

    def targets(self, labels: Matrix, rows: NDArray[np.bool_]) -> Matrix:
        """Labels of the true rows, normalised within each day's cross-section; NaN elsewhere."""
        kept = super().targets(labels, rows)
        if self.normalise == "none":
            return kept
        n = np.isfinite(kept).sum(axis=1, keepdims=True)
        if self.normalise == "rank":
            # 3.46 = sqrt(12) brings uniform ranks to unit variance
            return ((average_ranks(kept) / np.maximum(n, 1) - 0.5) * 3.46).astype(np.float32)
        filled = np.where(np.isfinite(kept), kept, 0.0).astype(np.float64)
        mean = filled.sum(axis=1, keepdims=True) / np.maximum(n, 1)
        spread = np.sqrt(np.where(np.isfinite(kept), (kept - mean) ** 2, 0.0).sum(axis=1, keepdims=True) / np.maximum(n - 1, 1))
        return ((kept - mean) / np.where(spread > 0, spread, 1.0)).astype(np.float32)

    def score(self, output: Tensor) -> Tensor:
        """The predicted value itself."""
        return output
