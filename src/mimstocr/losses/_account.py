"""What the losses of several days share: an account that follows the positions, net of what its trades cost."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.losses._positions import PositionLoss, check_positions, signed_shares

RUIN = 0.01
"""The least part of the money that a day is taken to leave, where one divides by it or takes its logarithm: short
positions can lose more than there is."""


def net_returns(output: Tensor, gains: Tensor, valid: Tensor, cost: float) -> Tensor:
    """The account's return on each day with a valid stock, (days with one,), net of what its trades cost.

    output: (days, stocks) in -1 .. 1, or (days, stocks + 1) with Hold last. gains, valid: (days, stocks); gains are the
    stocks' returns as fractions, valid is bool. The days follow one another, and a column is one stock throughout.
    cost: the fraction of the traded value that a trade costs, on buys and sells alike.

    A day's weights are o_i / sum_j |o_j|, Hold in the sum, 0 for a stock that is not valid; what they leave is cash,
    which earns nothing. They are reached by trading from what the weights of the day before have become,
    w_i (1 + d_i) / (1 + sum_j w_j d_j), and apply to the money that is left after the cost: 1 + the return is
    (1 - cost sum_i |traded_i|) (1 + sum_i w_i d_i). The first day is entered free of cost: an account enters once,
    blocks of days would pay it each time. A day without a valid stock is passed over, the account stays as it was.
    Raises ValueError on unequal shapes or a cost outside 0 .. 1.
    """
    check_positions(output, gains, valid)
    if not 0 <= cost <= 1:
        raise ValueError(f"expected a cost of 0 .. 1 of the traded value, got {cost}")
    present = valid.any(-1)
    weights, _ = signed_shares(output[present], valid[present])
    gains = gains.to(output.dtype)[present].masked_fill(~valid[present], 0.0)
    profit = (weights * gains).sum(-1)
    drifted = (weights * (1 + gains))[:-1] / (1 + profit[:-1]).clamp_min(RUIN).unsqueeze(-1)
    traded = (weights[1:] - drifted).abs().sum(-1)
    # not 1 + the return less 1, which costs digits
    return profit - cost * torch.cat([torch.zeros_like(profit[:1]), traded]) * (1 + profit)


def on_days(values: Tensor, valid: Tensor) -> Tensor:
    """Values of the days that have a valid stock, (days with one,) or one for all, as (days,) with 0 on the others."""
    present = valid.any(-1)
    return values.new_zeros(present.shape).masked_scatter(present, values.expand(int(present.sum())))


class AccountLoss(PositionLoss):
    """A loss of the returns of an account, net of what its trades cost."""

    sequential: ClassVar[bool] = True

    cost: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Fraction of the traded value that a trade costs, on buys and sells alike; 0.1 % as in the backtest."""


Floor = Annotated[float, Field(gt=0)]
