"""GATs: every stock of a day attends to all stocks of that day."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from mimstocr.backbones._days import masked_softmax
from mimstocr.backbones.base import BACKBONES, Facts, Inputs
from mimstocr.backbones.recurrent import Recurrent, RecurrentSettings, RnnKind


class GatsModule(nn.Module):
    """One head of additive attention among the stocks of each day."""

    def __init__(self, encoder: Recurrent) -> None:
        super().__init__()
        hidden = encoder.rnn.hidden_size
        self.encoder = encoder
        self.transform = nn.Linear(hidden, hidden)
        self.attention = nn.Parameter(torch.randn(2, hidden))
        """[2, H]: a1, that of the stock that attends, and a2, that of the one attended to."""
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:
        """[D, N, L, F] and bool [D, N] to [D, N, H]; invalid rows give zeros."""
        state = self.encoder(x, valid, facts)
        # a1 . W h_i + a2 . W h_j as a sum of two [D, N], where [W h_i, W h_j] would be [D, N, N, 2 H]
        attends, attended = (self.transform(state) @ self.attention.T).unbind(-1)
        scores = leaky_relu(attends[:, :, None] + attended[:, None, :])  # D, N, N
        mixed = masked_softmax(scores, valid[:, None, :]) @ state + state
        return leaky_relu(self.out(mixed)).masked_fill(~valid[..., None], 0.0)


@BACKBONES.register("gats")
class Gats(RecurrentSettings):
    """Graph attention among all stocks of a day, over recurrent states (Velickovic et al. 2018; Qlib's GATs).

    h_i = last state of stock i; e_ij = LeakyReLU(a1 . W h_i + a2 . W h_j) with slope 0.01; w_ij = softmax of e_ij over
    all stocks j of the day, i among them; the representation is LeakyReLU(V (sum_j w_ij h_j + h_i) + v).

    As in Qlib, and unlike Velickovic et al.: W has a bias and serves the scores alone, h itself is averaged; the
    graph is complete; one head. a starts as N(0, 1), Qlib's; all else as torch's. Qlib's benchmark starts from
    the weights of a trained LSTM, which is not done here.
    """

    mixes_stocks: ClassVar[bool] = True

    rnn: RnnKind = "lstm"
    """The recurrent network of each stock (Qlib's Alpha360 benchmark: lstm)."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh GATs."""
        return GatsModule(Recurrent(self.make_rnn(self.rnn, inputs.n_features)))
