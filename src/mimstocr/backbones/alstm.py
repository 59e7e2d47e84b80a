"""ALSTM: a recurrent network whose days of the window are weighed by attention."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._days import to_places
from mimstocr.backbones.base import BACKBONES, Facts, Inputs
from mimstocr.backbones.recurrent import RecurrentSettings, RnnKind


class AlstmModule(nn.Module):
    """Projection, recurrent network, attention over the window; of each valid stock."""

    def __init__(self, n_features: int, rnn: nn.LSTM | nn.GRU, dropout: float) -> None:
        super().__init__()
        hidden = rnn.hidden_size
        half = max(1, hidden // 2)
        self.project = nn.Linear(n_features, hidden)
        self.rnn = rnn
        self.attend = nn.Sequential(
            nn.Linear(hidden, half), nn.Dropout(dropout), nn.Tanh(), nn.Linear(half, 1, bias=False)
        )

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:  # noqa: ARG002
        """[D, N, L, F] and bool [D, N] to [D, N, 2 H]; invalid rows give zeros."""
        steps = x[valid].transpose(0, 1)  # L, M, F
        out, _ = self.rnn(self.project(steps).tanh().contiguous())  # L, M, H
        weight = self.attend(out).softmax(0)  # L, M, 1
        attended = (weight * out).sum(0)
        return to_places(torch.cat([out[-1], attended], dim=-1), valid)


@BACKBONES.register("alstm")
class Alstm(RecurrentSettings):
    """LSTM with attention over the days of the window (Feng et al. 2019, after Qin et al. 2017; Qlib's ALSTM).

    m_l = tanh(P x_l + p); h_1 .. h_L = LSTM(m_1 .. m_L); weights a_l = softmax over l of v . tanh(U h_l + u);
    the representation is [h_L, sum_l a_l h_l], of width 2 H. U maps to H / 2, as in Qlib (Feng et al. leave its width
    free). The adversarial training of Feng et al. is no part of it, as in Qlib. Initial weights are torch's.
    """

    rnn: RnnKind = "lstm"
    """The recurrent network (Feng et al. and Qlib's Alpha360 benchmark: lstm)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout between layers and inside the attention while training; needs two layers or more."""

    @property
    def width(self) -> int:
        """Twice the hidden size: the last state and the attended one."""
        return 2 * self.hidden_size

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh ALSTM."""
        return AlstmModule(inputs.n_features, self.make_rnn(self.rnn, self.hidden_size), self.dropout)
