"""The Sortino ratio of a run of days as a loss."""

from __future__ import annotations

from torch import Tensor

from mimstocr.losses._account import AccountLoss, Floor, net_returns, on_days
from mimstocr.losses.base import LOSSES


def sortino(output: Tensor, gains: Tensor, valid: Tensor, *, cost: float = 0.001, floor: float = 1e-3) -> Tensor:
    """Minus the daily Sortino ratio of the days' net returns r: -mean(r) / sqrt(mean(min(r, 0)^2) + floor^2).

    The downside is against 0, over all days (methods, section 8). Arguments and returns as in `net_returns`: days that
    follow one another. Gives (days,): that ratio on every day with a valid stock, 0 on the others; not annualised.
    floor: a daily downside, positive: a short run of days may have none of its own. Fewer than two days with a valid
    stock give 0 and no gradient. Raises ValueError on unequal shapes, a cost outside 0 .. 1 or a floor that is not
    positive.
    """
    if not floor > 0:
        raise ValueError(f"expected a positive floor, got {floor}")
    returns = net_returns(output, gains, valid, cost)
    if len(returns) < 2:
        return on_days(0 * returns.sum(), valid)
    return on_days(-returns.mean() / (returns.clamp_max(0).square().mean() + floor**2).sqrt(), valid)


@LOSSES.register("sortino")
class Sortino(AccountLoss):
    """Minus the Sortino ratio of the block's daily net returns: falls count as risk, rises do not."""

    floor: Floor = 1e-3
    """Daily downside that is added in the square: ten basis points, so that a block without a fall has a finite ratio
    that its neighbours do not drown in."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The block's loss on each of its days, (days,); see `sortino`."""
        return sortino(output, target, valid, cost=self.cost, floor=self.floor)
