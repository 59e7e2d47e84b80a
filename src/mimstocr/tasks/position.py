"""The position task: what should be held of the stock?"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel
from mimstocr.losses import AnyLoss
from mimstocr.losses._positions import PositionLoss, signed_shares
from mimstocr.losses.stock_loss import StockLossProfit
from mimstocr.tasks.base import TASKS, Ahead, gain, shifted, traded_close


@TASKS.register("position")
class Position(Ahead):
    """The share of the money to hold of each stock, below zero to sell it short, learned from what it earns.

    The profit-guided paper, section 3: outputs o in -1 .. 1 become weights o_i / sum_j |o_j| over the stocks of the
    day and Hold, the money held back. The label d is what the loss multiplies positions by.
    """

    target = "position"

    horizon: Annotated[int, Field(ge=1)] | None = 1
    """Trading days that a position earns from; those of the trading rule, which decides daily, are 1."""
    hold: bool = True
    """Whether the model also says how much money to hold back (Hold)."""
    difference: Literal["gain", "return", "price"] = "gain"
    """d: "gain", the return, which the paper's text means. "return", its RET: the change of the daily return. "price",
    its PRC: the change of the price, which is scaled by the stock's first close in the data, so that expensive stocks
    do not outweigh cheap ones."""
    loss: AnyLoss = StockLossProfit(hold_reward=0.0)
    """What the task is trained on: the day's profit, where cash earns nothing."""

    @model_validator(mode="after")
    def _follows_an_account(self) -> Self:
        if self.loss.sequential and self.difference != "gain":
            raise ValueError(
                f"loss {self.loss.kind!r} follows an account through its returns, and difference {self.difference!r} "
                "is none; set difference: gain"
            )
        if self.loss.sequential and self.horizon not in (None, 1):
            raise ValueError(
                f"loss {self.loss.kind!r} follows an account from day to day, and returns of {self.horizon} days "
                "overlap; set horizon: 1"
            )
        return self

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) d: the change of x from t + delay to t + delay + horizon, or the return over them."""
        delay, horizon = self.span
        if self.difference == "gain":
            return gain(panel, delay, horizon)
        x = scaled_close(panel) if self.difference == "price" else daily_return(panel)
        change: Matrix = shifted(x, delay + horizon) - shifted(x, delay)
        return change

    @property
    def holds(self) -> bool:
        """Whether there is Hold."""
        return self.hold

    @property
    def in_units(self) -> bool:
        """A weight has not the unit of a return."""
        return False

    def said(self, output: Tensor, valid: Tensor) -> Tensor:
        """Outputs (days, stocks), or (days, stocks + 1) with Hold, to weights of the same shape; Hold's is its share.

        o_i / sum_j |o_j| over the valid stocks of the day and Hold; all 0 where all outputs are.
        """
        weights, hold = signed_shares(output, valid)
        return weights if output.shape == valid.shape else torch.cat([weights, hold.unsqueeze(-1)], dim=-1)

    def score(self, output: Tensor) -> Tensor:
        """The weight: the largest long position first."""
        return output

    def notes(self) -> list[str]:
        """What the loss as it is set cannot do."""
        return self.loss.cautions(self.hold) if isinstance(self.loss, PositionLoss) else []


def scaled_close(panel: Panel) -> Matrix:
    """(days, symbols) closes of days with trade over the stock's first close in the data, NaN elsewhere.

    The first close is before or on every day that has a label, so it is known when the label's day is; no split is
    needed to find it, and a stock that lists after the training days has one too.
    """
    close = panel["close"].values
    known = ~np.isnan(close)
    first = np.take_along_axis(close, known.argmax(axis=0)[None], axis=0)
    scaled: Matrix = traded_close(panel) / first
    return scaled


def daily_return(panel: Panel) -> Matrix:
    """(days, symbols) close[t] / close[t - 1] - 1, both of days with trade, else NaN."""
    close = traded_close(panel)
    change: Matrix = close / shifted(close, -1) - np.float32(1)
    return change
