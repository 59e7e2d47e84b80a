"""The direction task: will the stock rise?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel, usable
from mimstocr.losses import AnyLoss
from mimstocr.losses.bce import Bce
from mimstocr.tasks.base import TASKS, Ahead, gain


@TASKS.register("direction")
class Direction(Ahead):
    """Whether the return from the close of t + delay over the horizon is above zero (the chapter's direction).

    The head's output is the logit of the probability. A return of exactly the bound is no rise.
    """

    target = "event"

    against: Literal["zero", "median"] = "zero"
    """What the return must be above: zero, or the median return of the day's cross-section, which leaves the market's
    own move out."""
    loss: AnyLoss = Bce()
    """What the task is trained on (chapter: binary cross-entropy)."""

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) 1 for a rise, 0 for none."""
        returns = gain(panel, *self.span)
        bound = np.zeros((len(returns), 1), dtype=np.float32)
        if self.against == "median":
            rows = usable(panel) & ~np.isnan(returns)
            some = rows.any(axis=1)
            bound[some, 0] = np.nanmedian(np.where(rows, returns, np.nan)[some], axis=1)
        return np.where(np.isnan(returns), np.float32(np.nan), (returns > bound).astype(np.float32))

    def score(self, output: Tensor) -> Tensor:
        """The logit: the likeliest rise first."""
        return output
