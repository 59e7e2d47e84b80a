"""The growth of wealth as a loss."""

from __future__ import annotations

from torch import Tensor

from mimstocr.losses._account import RUIN, AccountLoss, net_returns, on_days
from mimstocr.losses.base import LOSSES


def log_wealth(output: Tensor, gains: Tensor, valid: Tensor, *, cost: float = 0.001) -> Tensor:
    """Minus the logarithm of what each day makes of the money, net of costs: their sum is minus the log of the wealth.

    Arguments and returns as in `net_returns`: days that follow one another. Gives (days,), in nats; 0 on a day without
    a valid stock. Where a day leaves less than `RUIN` of the money, which short positions can do, the logarithm goes on
    as its tangent there, so that loss and slope stay finite. Raises ValueError on unequal shapes or a cost outside
    0 .. 1.
    """
    returns = net_returns(output, gains, valid, cost)
    lowest = RUIN - 1
    return -on_days(returns.clamp_min(lowest).log1p() + (returns - lowest).clamp_max(0) / RUIN, valid)


@LOSSES.register("log_wealth")
class LogWealth(AccountLoss):
    """Minus the daily log growth of an account that follows the positions, net of costs (Kelly's criterion)."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Minus the log growth of each day, (days,); see `log_wealth`."""
        return log_wealth(output, target, valid, cost=self.cost)
