"""StockLoss-Max, the second loss of the profit-guided paper: profit as a share of the day's largest move."""

from __future__ import annotations

from torch import Tensor

from mimstocr.losses._positions import Reward, Sign, StockLoss, hold_cautions, largest, positions, where_defined
from mimstocr.losses.base import LOSSES


def stock_loss_max(
    output: Tensor,
    gains: Tensor,
    valid: Tensor,
    *,
    sign: Sign = "smooth",
    gamma: float = 5.0,
    hold_reward: float = 1.0,
) -> Tensor:
    """1 - (sum_i v_i s_i d_i / max_j |d_j| + hold_reward v_h), Equation 2 of the paper, where hold_reward is 1.

    Arguments and shares as in `stock_loss`; the largest move is that of the valid stocks. Gives (days,), without unit:
    0 where all money is on the right side of the stock that moves most, 2 where it is on the wrong one. Days count
    alike, whether the market is calm or wild.

    Hold is paid in units of the day's largest move: at 1, as published, as much as perfect foresight. A day without a
    valid stock, on which nothing moves, or whose outputs are all 0, gives 0 and no gradient. Raises ValueError on
    unequal shapes or gamma <= 0.
    """
    day = positions(output, gains, valid, sign, gamma)
    most = largest(day.gains)
    moves = day.gains / most.masked_fill(most == 0, 1.0).unsqueeze(-1)
    profit = (day.shares * day.signs * moves).sum(-1)
    return where_defined(1 - (profit + hold_reward * day.hold), day.defined, most != 0)


@LOSSES.register("stock_loss_max")
class StockLossMax(StockLoss):
    """1 minus the profit as a share of the day's largest move: StockLoss-Max, L2 of the profit-guided paper."""

    hold_reward: Reward = 1.0
    """What the share of Hold is paid, in units of the day's largest move: 1 as published, as much as perfect foresight;
    0, or the daily rate of cash over such a move, 0.002 or so, is sensible."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss of each day, (days,); see `stock_loss_max`."""
        return stock_loss_max(output, target, valid, sign=self.sign, gamma=self.gamma, hold_reward=self.hold_reward)

    def cautions(self, hold: bool) -> list[str]:
        """Whether Hold is paid too much."""
        return hold_cautions(self, hold, self.hold_reward, "all the money, in units of the largest move")
