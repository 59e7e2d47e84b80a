"""QLIKE: the loss of variance forecasts that noise in the realised variance does not mislead (Patton, JoE 2011)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mimstocr.losses._masked import check_days, daily_mean
from mimstocr.losses.base import LOSSES, Kind, Loss


def qlike(predicted: Tensor, realised: Tensor, valid: Tensor) -> Tensor:
    """Mean over each day's valid stocks of v / h - log(v / h) - 1, v the realised and h the predicted variance.

    That is e^x - x - 1 with x = 2 (t - z), where predicted (z) and realised (t) are natural logarithms of
    volatilities: Patton's robust family (Journal of Econometrics 160) at b = -2. predicted, realised, valid: (days,
    stocks); valid is bool. Gives (days,), without unit: 0 at a perfect forecast, never below, x^2 / 2 near it. The
    slope in z is 2 (1 - e^x) / n. A volatility predicted k times too high costs about 2 log k - 1 and pulls by less
    than 2 / n; one predicted k times too low costs about k^2 and pulls by about 2 k^2 / n, which float32 holds up to
    k = 1e19 (x = 88); beyond, the loss is infinite. A day without a valid stock gives 0 and no gradient. Raises
    ValueError on unequal shapes.
    """
    check_days(predicted, realised, valid)
    x = 2 * (realised.to(predicted.dtype) - predicted).masked_fill(~valid, 0.0)
    # expm1 keeps the digits of a good forecast, whose e^x is all but 1
    return daily_mean(x.expm1() - x, valid)


@LOSSES.register("qlike")
class Qlike(Loss):
    """Mean QLIKE of the day's valid stocks: a volatility predicted too low costs more than one too high."""

    targets: ClassVar[tuple[Kind, ...]] = ("scale",)

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The mean QLIKE of each day, (days,); see `qlike`."""
        return qlike(output, target, valid)
