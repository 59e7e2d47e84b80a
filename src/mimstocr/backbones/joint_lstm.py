"""An LSTM over all series of a portfolio at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._portfolio import Portfolio
from mimstocr.backbones.base import BACKBONES


class LastState(nn.Module):
    """The last hidden state of the top layer of a recurrent network."""

    def __init__(self, rnn: nn.LSTM) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, H]."""
        out, _ = self.rnn(x.transpose(0, 1).contiguous())  # time first is the layout that the kernels want
        last: Tensor = out[-1]
        return last


@BACKBONES.register("joint_lstm")
class JointLstm(Portfolio):
    """LSTM over the joint window of a fixed portfolio, last hidden state (Hochreiter and Schmidhuber 1997).

    At every step it reads all features of all stocks; `lstm` reads each stock by itself. It makes no forecast of the
    series: its last state is mapped to the stocks. Torch's initial weights: uniform in +-1 / sqrt(hidden_size).
    """

    hidden_size: Annotated[int, Field(ge=1)] = 64
    """Width of the hidden state, which holds all stocks together."""
    num_layers: Annotated[int, Field(ge=1)] = 1
    """Stacked layers."""

    def trunk(self, n_series: int, window: int) -> tuple[nn.Module, int]:  # noqa: ARG002
        """A fresh LSTM."""
        return LastState(nn.LSTM(n_series, self.hidden_size, self.num_layers)), self.hidden_size
