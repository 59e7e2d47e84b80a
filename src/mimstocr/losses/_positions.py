"""What the losses of positions share: how outputs become shares of the money (profit-guided paper, section 3)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import pad

from mimstocr.losses.base import Kind, Loss

Sign = Literal["smooth", "hard"]
Reward = Annotated[float, Field(ge=0)]

MUCH = 0.05
"""Reward of Hold, in the unit of the profit beside it, that hardly any position can match."""


class Positions(NamedTuple):
    """The outputs of some days as positions; 0 where there is no valid stock."""

    sizes: Tensor
    """(days, stocks) |o_i|."""
    signs: Tensor
    """(days, stocks) s_i: sign(o_i), or tanh(gamma o_i)."""
    shares: Tensor
    """(days, stocks) v_i = |o_i| / sum_j |o_j|, Hold in the sum."""
    hold: Tensor
    """(days,) v_h, the share of Hold; 0 without it."""
    gains: Tensor
    """(days, stocks) d_i."""
    defined: Tensor
    """(days,) bool: some output is not 0, so that there are shares."""


def positions(output: Tensor, gains: Tensor, valid: Tensor, sign: Sign, gamma: float) -> Positions:
    """What outputs mean; see `Positions`, and `Kind` for the shapes. Raises ValueError on others or gamma <= 0."""
    check_positions(output, gains, valid)
    if not gamma > 0:
        raise ValueError(f"expected a positive gamma, got {gamma}")
    weights, hold = signed_shares(output, valid)
    stocks = output[:, : valid.shape[1]].masked_fill(~valid, 0.0)
    return Positions(
        sizes=stocks.abs(),
        signs=stocks.sign() if sign == "hard" else torch.tanh(gamma * stocks),
        shares=weights.abs(),
        hold=hold,
        gains=gains.to(output.dtype).masked_fill(~valid, 0.0),
        defined=(weights.abs().sum(-1) + hold) != 0,  # true of NaN, which is not to be hidden
    )


def check_positions(output: Tensor, gains: Tensor, valid: Tensor) -> None:
    """Raise ValueError unless gains and valid are (days, stocks), and output is too or has one column more, Hold."""
    shape = tuple(valid.shape)
    if len(shape) != 2 or gains.shape != valid.shape or tuple(output.shape) not in (shape, (shape[0], shape[1] + 1)):
        raise ValueError(
            "expected gains and valid (days, stocks), and outputs (days, stocks) or (days, stocks + 1), "
            f"got {tuple(gains.shape)}, {shape} and {tuple(output.shape)}"
        )


def signed_shares(output: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """o_i / sum_j |o_j| of each stock, (days, stocks), and |o_h| / sum_j |o_j| of Hold, (days,).

    output: (days, stocks), or (days, stocks + 1) with Hold last, which counts in the sum. Stocks that are not valid
    have no part in it and get 0. All 0 and no gradient on a day without a valid stock, or whose outputs are all 0.
    """
    stocks = output[:, : valid.shape[1]].masked_fill(~valid, 0.0)
    hold = output[:, valid.shape[1] :].masked_fill(~valid.any(-1, keepdim=True), 0.0)
    total = stocks.abs().sum(-1, keepdim=True) + hold.abs().sum(-1, keepdim=True)
    nothing = total == 0
    total = total.masked_fill(nothing, 1.0)
    weights, held = (stocks / total).masked_fill(nothing, 0.0), (hold / total).masked_fill(nothing, 0.0)
    return weights, held.abs().sum(-1)


def largest(gains: Tensor) -> Tensor:
    """max_j |d_j| of each day, (days, stocks) to (days,); 0 without a stock."""
    return pad(gains.abs(), (0, 1)).amax(-1)


def where_defined(value: Tensor, *conditions: Tensor) -> Tensor:
    """The values (days,) where all conditions (days,) hold, else 0 and no gradient."""
    return value.masked_fill(~torch.stack(conditions).all(0), 0.0)


class PositionLoss(Loss):
    """A loss of positions."""

    targets: ClassVar[tuple[Kind, ...]] = ("position",)

    def cautions(self, hold: bool) -> list[str]:  # noqa: ARG002
        """What a reader of results must know of the loss as it is set, with Hold among the outputs or without."""
        return []


class StockLoss(PositionLoss):
    """A loss of the profit-guided paper: each day by itself, from shares and signs."""

    sign: Sign = "smooth"
    """s_i: "smooth", tanh(gamma o_i), which lets an output pass through 0 (paper, section 4), or "hard", its sign."""
    gamma: PositiveFloat = 5.0
    """How sharply the smooth sign turns (paper: 5)."""


def hold_cautions(loss: Loss, hold: bool, reward: float, unit: str) -> list[str]:
    """A word on a reward of Hold that outweighs every stock."""
    if not hold or reward <= MUCH:
        return []
    return [
        f"loss {loss.kind} pays Hold {reward:g} for {unit}; positions earn less, so the money ends in "
        "cash (1 is the paper's); set loss.hold_reward to the daily rate of cash, or 0"
    ]
