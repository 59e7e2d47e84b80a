"""The volatility task: how much will the stock move?"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel, last_known
from mimstocr.errors import DataError
from mimstocr.losses import AnyLoss
from mimstocr.losses.qlike import Qlike
from mimstocr.tasks.base import TASKS, Ahead, shifted, traded_close

Estimator = Literal["close", "parkinson"]
TRAILING = 20
"""Days of the volatility that one would expect to go on, at least."""


@TASKS.register("volatility")
class Volatility(Ahead):
    """Realised daily volatility over the horizon, a fraction (0.02: moves of about 2 % a day).

    close: the root mean square of the daily log returns of t + delay + 1 .. t + delay + horizon, without taking a mean
    off, which so few days do not tell. parkinson: from the daily ranges of these days, sqrt(mean(log(high / low)^2) /
    (4 log 2)) (Parkinson 1980), less noisy, without the moves overnight. A suspended day within counts as one
    without a move, and the day after it has the whole move. The head says the log of the volatility.
    """

    target = "scale"

    horizon: Annotated[int, Field(ge=1)] | None = 5
    """Trading days it asks about (chapter: 5; of a single day only the range tells much); none: the main task's."""
    estimator: Estimator = "close"
    """What the volatility is measured by."""
    floor: Annotated[float, Field(gt=0)] = 1e-3
    """Labels below it count as this much in training, whose targets are logs: a stock that did not move has none."""
    loss: AnyLoss = Qlike()
    """What the task is trained on; mse and huber are on logs."""

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) realised daily volatility over the horizon."""
        return ahead(panel, self.span, self.estimator, self.kind)

    def targets(self, labels: Matrix, rows: NDArray[np.bool_]) -> Matrix:
        """The logs of the labels of the true rows, NaN elsewhere."""
        return np.log(np.maximum(super().targets(labels, rows), np.float32(self.floor)))

    def start(self, targets: Matrix) -> float:
        """The mean log volatility of the training days, which no head reaches from zero in good time."""
        return float(np.nanmean(targets, dtype=np.float64))

    def reference(self, panel: Panel) -> Matrix:
        """The same over the last 20 days, or as many as the horizon where that is more, at the close of t."""
        return realised(panel, max(TRAILING, self.span[1]), self.estimator, self.kind)

    def score(self, output: Tensor) -> Tensor:
        """The log volatility: the wildest first."""
        return output


def ahead(panel: Panel, span: tuple[int, int], estimator: Estimator, task: str) -> Matrix:
    """(days, symbols) `realised` of the horizon after t + delay; NaN where it starts or ends without trade."""
    delay, horizon = span
    traded = traded_close(panel)
    ends = shifted(traded, delay) + shifted(traded, delay + horizon)
    found = shifted(realised(panel, horizon, estimator, task), delay + horizon)
    return np.where(np.isnan(ends), np.float32(np.nan), found)


def realised(panel: Panel, days: int, estimator: Estimator, task: str) -> Matrix:
    """(days, symbols) daily volatility of the days t - days + 1 .. t; NaN where the stock is younger.

    Raises DataError when the panel lacks the ranges that the estimator reads.
    """
    if estimator == "close":
        log = np.log(last_known(panel["close"].values).astype(np.float64))
        variance = np.full(log.shape, np.nan)
        variance[1:] = np.diff(log, axis=0) ** 2
    else:
        if lacks := [name for name in ("high", "low") if name not in panel]:
            raise DataError(
                f"task {task}: estimator parkinson reads {' and '.join(lacks)}, which {panel.attrs['source']} lacks; "
                "set estimator to close"
            )
        moved = np.log(panel["high"].values.astype(np.float64) / panel["low"].values) ** 2 / (4 * math.log(2))
        # a day without trade after the first one is a day without a range; of a day with trade it is not known
        listed = ~np.isnan(last_known(panel["close"].values))
        variance = np.where(np.isnan(moved) & listed & ~panel["tradable"].values, 0.0, moved)
    return np.sqrt(trailing_mean(variance, days)).astype(np.float32)


def trailing_mean(values: NDArray[np.float64], days: int) -> NDArray[np.float64]:
    """(days, symbols) mean of the rows t - days + 1 .. t; NaN where one of them is."""
    mean = np.full(values.shape, np.nan)
    if len(values) >= days:
        windows = np.lib.stride_tricks.sliding_window_view(values, days, axis=0)
        mean[days - 1 :] = windows.mean(axis=-1)
    return mean
