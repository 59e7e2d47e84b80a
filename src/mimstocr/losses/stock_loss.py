"""StockLoss, the first loss of the profit-guided paper: the day's profit."""

from __future__ import annotations

from torch import Tensor

from mimstocr.losses._positions import Reward, Sign, StockLoss, hold_cautions, positions, where_defined
from mimstocr.losses.base import LOSSES


def stock_loss(
    output: Tensor,
    gains: Tensor,
    valid: Tensor,
    *,
    sign: Sign = "smooth",
    gamma: float = 5.0,
    hold_reward: float = 1.0,
) -> Tensor:
    """-(sum_i v_i s_i d_i + hold_reward v_h), Equation 1 of the paper, where hold_reward is 1.

    output: (days, stocks) in -1 .. 1, or (days, stocks + 1) with Hold last. gains (d), valid: (days, stocks); gains
    are fractions (0.01 = 1 %), valid is bool. v_i = |o_i| / sum_j |o_j| over the valid stocks and Hold, v_h is that of
    Hold; s_i is sign(o_i), or tanh(gamma o_i). Gives (days,): with the hard sign and without Hold, minus the day's
    profit.

    Hold is paid 1 a day as published, a hundred times what stocks move, so that the loss falls with v_h whatever they
    do, and all money ends in cash; with hold_reward the daily rate of cash, it weighs cash against stocks. A day
    without a valid stock, or whose outputs are all 0, gives 0 and no gradient. Raises ValueError on unequal shapes or
    gamma <= 0.
    """
    day = positions(output, gains, valid, sign, gamma)
    profit = (day.shares * day.signs * day.gains).sum(-1)
    return -where_defined(profit + hold_reward * day.hold, day.defined)


@LOSSES.register("stock_loss")
class StockLossProfit(StockLoss):
    """Minus the day's profit of the positions: StockLoss, L1 of the profit-guided paper."""

    hold_reward: Reward = 1.0
    """What the share of Hold is paid a day, a fraction: 1 as published, where cash beats every stock; the daily rate of
    cash, 0.0001 or so, is sensible."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Minus the profit of each day, (days,); see `stock_loss`."""
        return stock_loss(output, target, valid, sign=self.sign, gamma=self.gamma, hold_reward=self.hold_reward)

    def cautions(self, hold: bool) -> list[str]:
        """Whether Hold is paid too much."""
        return hold_cautions(self, hold, self.hold_reward, "all the money a day")
