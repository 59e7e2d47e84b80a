"""The Sharpe ratio of a run of days as a loss."""

from __future__ import annotations

from torch import Tensor

from mimstocr.losses._account import AccountLoss, Floor, net_returns, on_days
from mimstocr.losses.base import LOSSES


def sharpe(output: Tensor, gains: Tensor, valid: Tensor, *, cost: float = 0.001, floor: float = 1e-4) -> Tensor:
    """Minus the daily Sharpe ratio of the days' net returns r: -mean(r) / sqrt(var(r) + floor^2), var with ddof 1.

    Arguments and returns as in `net_returns`: days that follow one another. Gives (days,): that ratio on every day with
    a valid stock, 0 on the others. It is not annualised: sqrt(252) of it is what a year of stocks shows. floor: a daily
    volatility, positive, that keeps the ratio of next to no positions finite. Fewer than two days with a valid stock
    give 0 and no gradient. Raises ValueError on unequal shapes, a cost outside 0 .. 1 or a floor that is not positive.
    """
    if not floor > 0:
        raise ValueError(f"expected a positive floor, got {floor}")
    returns = net_returns(output, gains, valid, cost)
    if len(returns) < 2:
        return on_days(0 * returns.sum(), valid)
    return on_days(-returns.mean() / (returns.var() + floor**2).sqrt(), valid)


@LOSSES.register("sharpe")
class Sharpe(AccountLoss):
    """Minus the Sharpe ratio of the block's daily net returns (Moody and Saffell 2001 learn it directly)."""

    floor: Floor = 1e-4
    """Daily volatility that is added in the square: one basis point, far below that of any stock."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The block's loss on each of its days, (days,); see `sharpe`."""
        return sharpe(output, target, valid, cost=self.cost, floor=self.floor)
