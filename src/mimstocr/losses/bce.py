"""The binary cross-entropy of events."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from mimstocr.losses._masked import check_days, daily_mean
from mimstocr.losses.base import LOSSES, Kind, Loss


def bce(logits: Tensor, happened: Tensor, valid: Tensor) -> Tensor:
    """Mean over each day's valid stocks of -log p where it happened and -log(1 - p) where not, in nats.

    p = sigmoid(logit) is the chance that it happens. logits, happened, valid: (days, stocks); happened is 0 or 1
    where valid, and valid is bool. Gives (days,), which grows as |logit| where the model is surely wrong; the slope in
    a logit is (p - happened) / n. No logit is too large. A day without a valid stock gives 0 and no gradient. Raises
    ValueError on unequal shapes and, on a CPU, on a valid target other than 0 or 1; a GPU gives NaN for its day.
    """
    check_days(logits, happened, valid)
    happened = happened.to(logits.dtype).masked_fill(~valid, 0.0)
    side = _side(happened)
    # To look at values on a GPU is to wait for them at every step; there NaN stops the run.
    if side.device.type == "cpu" and bool(side.isnan().any()):
        raise ValueError(f"expected targets 0 (did not happen) or 1 (did), got {happened[side.isnan()][0].item():g}")
    return -daily_mean(logsigmoid(side * logits.masked_fill(~valid, 0.0)), valid)


@LOSSES.register("bce")
class Bce(Loss):
    """Mean binary cross-entropy of the day's valid stocks, an event and its absence alike."""

    targets: ClassVar[tuple[Kind, ...]] = ("event",)

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The mean binary cross-entropy of each day, (days,); see `bce`."""
        return bce(output, target, valid)


def _side(happened: Tensor) -> Tensor:
    """1 for an event, -1 for its absence, NaN for what is neither: times the logit, the logit of what came."""
    side = 2 * happened - 1
    return side.masked_fill(side.abs() != 1, math.nan)
