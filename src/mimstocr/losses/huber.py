"""The Huber loss: squares of small errors, sizes of large ones (Huber, Annals of Mathematical Statistics 1964)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import huber_loss

from mimstocr.losses._masked import check_days, daily_mean
from mimstocr.losses.base import LOSSES, Kind, Loss


def huber(scores: Tensor, targets: Tensor, valid: Tensor, delta: float = 1.0) -> Tensor:
    """Mean over each day's valid stocks of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); e is the error.

    scores, targets, valid: (days, stocks); valid is bool. delta: positive, in the targets' unit. Gives (days,), in
    the square of that unit; the slope in a score is e up to delta in size and delta beyond, so that one stock pulls
    by delta / n at most. Where no error is larger than delta it is half the mean squared error. A day without a valid
    stock gives 0 and no gradient. Raises ValueError on unequal shapes or a delta that is not positive.
    """
    check_days(scores, targets, valid)
    if not delta > 0:
        raise ValueError(f"expected a positive delta, got {delta}")
    scores, targets = scores.masked_fill(~valid, 0.0), targets.to(scores.dtype).masked_fill(~valid, 0.0)
    return daily_mean(huber_loss(scores, targets, reduction="none", delta=delta), valid)


@LOSSES.register("huber")
class Huber(Loss):
    """Mean Huber loss of the day's valid stocks: a squared error that outliers cannot rule."""

    targets: ClassVar[tuple[Kind, ...]] = ("value",)

    delta: PositiveFloat = 1.0
    """Where squares end, in the target's unit; 1 is a standard deviation of targets that are standardised by day."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The mean Huber loss of each day, (days,); see `huber`."""
        return huber(output, target, valid, self.delta)
