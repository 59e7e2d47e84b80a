"""The cross-entropy of levels."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mimstocr.losses._masked import check_levels, daily_mean
from mimstocr.losses.base import LOSSES, Kind, Loss


def cross_entropy(logits: Tensor, levels: Tensor, valid: Tensor) -> Tensor:
    """Mean over each day's valid stocks of -log softmax(logits)[level], in nats.

    logits: (days, stocks, levels). levels: int64 (days, stocks), 0 .. levels - 1 where valid. valid: bool,
    (days, stocks). Gives (days,). Invalid places may hold anything, such as level -1 and NaN logits. A day
    without a valid stock gives 0 and no gradient. Raises ValueError on unequal shapes, and on a valid level out
    of range (on a GPU, torch's own error).
    """
    check_levels(logits, levels, valid)
    log_p = logits.masked_fill(~valid.unsqueeze(-1), 0.0).log_softmax(-1)
    hit = log_p.gather(-1, levels.masked_fill(~valid, 0).unsqueeze(-1)).squeeze(-1)
    return -daily_mean(hit, valid)


@LOSSES.register("cross_entropy")
class CrossEntropy(Loss):
    """Mean cross-entropy of the day's valid stocks, every level alike."""

    targets: ClassVar[tuple[Kind, ...]] = ("level",)

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The mean cross-entropy of each day, (days,); see `cross_entropy`."""
        return cross_entropy(output, target, valid)
