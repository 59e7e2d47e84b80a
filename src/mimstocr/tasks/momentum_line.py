"""The momentum-line task: which of five shapes will the stock's recent momentum have?"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel, last_known
from mimstocr.errors import ConfigError
from mimstocr.losses import AnyLoss
from mimstocr.losses.approx_ndcg import ApproxNdcg, expected_relevance
from mimstocr.tasks.base import TASKS, Ahead, Task, shifted, traded_close

SINK, NEGATIVE, VOLATILE, POSITIVE, BOUNCE = range(5)


@TASKS.register("momentum_line")
class MomentumLine(Ahead):
    """Shape of the last s values of close[T] - close[T - l], five levels (MiM-StocR 4.1; methods, section 3).

    T is the day on which the return label ends, so both tasks ask about the same future. With s = 1 and l = 1
    it is plain rise-or-fall.
    """

    target = "level"
    levels = ("sink", "negative", "volatile", "positive", "bounce")

    s: Annotated[int, Field(ge=1)] = 6
    """Values on the line (paper: 6)."""
    l: Annotated[int, Field(ge=1)] = 4  # noqa: E741  (the paper's letter)
    """Trading days over which each momentum is taken (paper: 4)."""
    lead: Annotated[int, Field(ge=0)] | None = None
    """Trading days from t to T, where the line ends; none: delay + horizon, by default those of the main task, so that
    the line ends where the main task's label does."""
    loss: AnyLoss = ApproxNdcg()
    """What the task is trained on (paper: cross-entropy and Adaptive-k ApproxNDCG, half each)."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.lead is not None and (self.horizons or self.horizon is not None or self.delay is not None):
            raise ValueError("lead says where the line ends; set it, or horizon and delay, not both")
        return self

    @property
    def reach(self) -> int:
        """The line of day t is known at the close of t + lead."""
        if self.lead is None:
            raise ConfigError("momentum_line: lead is not settled; call follow() with the main task, or set it")
        return self.lead

    def follow(self, main: Task) -> Self:
        """With lead unset: the line ends after delay and horizon, those of the main task where none is set."""
        if self.lead is not None:
            return self
        if self.horizon is None and self.delay is None:
            if main is self:
                raise ConfigError("momentum_line: as the main task it needs its own lead; set tasks.<name>.lead=1")
            return self.model_copy(update={"lead": main.reach})
        return self.model_copy(update={"lead": sum(super().follow(main).span)})

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) level 0 (sink) .. 4 (bounce) of the line that ends on day t + lead."""
        # a suspended day inside the line is the same as a missing row and as a repeated price
        close = last_known(panel["close"].values)
        line = [shifted(close - shifted(close, -self.l), self.reach - back) for back in reversed(range(self.s))]
        levels = _levels(np.stack(line))
        # the first and the last price of the line must be of days with trade
        traded = traded_close(panel)
        ends = shifted(traded, self.reach) + shifted(traded, self.reach - (self.s - 1) - self.l)
        return np.where(np.isnan(ends), np.float32(np.nan), levels)

    def score(self, output: Tensor) -> Tensor:
        """The expected relevance of the predicted levels, logits (..., 5) to (...)."""
        return expected_relevance(output, "square")


def _levels(line: Matrix) -> Matrix:
    """(s, days, symbols) momentum values, oldest first, to (days, symbols) levels; NaN where a value is."""
    sign = np.sign(line)
    for i in range(1, len(sign)):  # a zero takes the sign before it
        sign[i] = np.where(sign[i] == 0, sign[i - 1], sign[i])
    for i in range(len(sign) - 2, -1, -1):  # only leading zeros are left: they take the first sign
        sign[i] = np.where(sign[i] == 0, sign[i + 1], sign[i])
    last = sign[-1]
    changes = (sign[1:] != sign[:-1]).sum(axis=0)
    level = np.full(last.shape, VOLATILE, dtype=np.float32)
    level[(changes == 0) & (last > 0)] = POSITIVE
    level[(changes == 0) & (last < 0)] = NEGATIVE
    level[(changes == 1) & (last > 0)] = BOUNCE
    level[(changes == 1) & (last < 0)] = SINK
    level[np.isnan(line).any(axis=0)] = np.nan
    return level
