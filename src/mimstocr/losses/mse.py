"""The mean squared error."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mimstocr.losses._masked import check_days, daily_mean
from mimstocr.losses.base import LOSSES, Kind, Loss


def mse(scores: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean over each day's valid stocks of (score - target)^2.

    scores, targets, valid: (days, stocks); valid is bool. Gives (days,), in the square of the targets' unit. A
    day without a valid stock gives 0 and no gradient. Raises ValueError on unequal shapes.
    """
    check_days(scores, targets, valid)
    error = (scores - targets.to(scores.dtype)).masked_fill(~valid, 0.0)
    return daily_mean(error.square(), valid)


@LOSSES.register("mse")
class Mse(Loss):
    """Mean squared error of the day's valid stocks."""

    targets: ClassVar[tuple[Kind, ...]] = ("value",)

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The mean squared error of each day, (days,); see `mse`."""
        return mse(output, target, valid)
