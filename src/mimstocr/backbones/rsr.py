"""RSR: a stock's state beside those of the stocks it is related to."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from mimstocr.backbones._days import masked_softmax
from mimstocr.backbones.base import BACKBONES, Facts, Inputs
from mimstocr.backbones.recurrent import Recurrent, RecurrentSettings, RnnKind
from mimstocr.errors import ConfigError

SLOPE = 0.2
"""Of the leaky ReLU below 0 (the released code's)."""


class RsrModule(nn.Module):
    """Temporal graph convolution over the relations of each day."""

    def __init__(self, encoder: Recurrent, n_concepts: int, *, implicit: bool, by_softmax: bool) -> None:
        super().__init__()
        hidden = encoder.rnn.hidden_size
        self.encoder = encoder
        self.relation = nn.Linear(n_concepts, 1)
        self.pair = nn.Linear(hidden, 2, bias=False) if implicit else None
        self.by_softmax = by_softmax

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:
        """[D, N, L, F], bool [D, N] and the fact `concepts` to [D, N, 2 H]; invalid rows give zeros."""
        state = self.encoder(x, valid, facts)
        member = (facts["concepts"] & valid[..., None]).to(state.dtype)  # D, N, C
        same = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
        related = (member @ member.transpose(1, 2) > 0) & ~same  # D, N, N
        weight = self._weights(self._strengths(state, member), related)
        return torch.cat([state, weight @ state], dim=-1)

    def _strengths(self, state: Tensor, member: Tensor) -> Tensor:
        """g of every pair, [D, N, N]."""
        # w . a_ij = sum_c m_ic w_c m_jc, where a itself would be [D, N, N, C]
        relation = (member * self.relation.weight) @ member.transpose(1, 2) + self.relation.bias
        if self.pair is None:
            return state @ state.transpose(1, 2) * leaky_relu(relation, SLOPE)
        receives, sends = self.pair(state).unbind(-1)
        return leaky_relu(receives[:, :, None] + sends[:, None, :] + relation, SLOPE)

    def _weights(self, strengths: Tensor, related: Tensor) -> Tensor:
        """What each stock i takes of each stock j, [D, N, N]; 0 where they are not related."""
        if self.by_softmax:
            return masked_softmax(strengths, related)
        count = related.sum(-1).clamp_min(1)
        return strengths * related / count[:, None, :]


@BACKBONES.register("rsr")
class Rsr(RecurrentSettings):
    """Recurrent states and their mean over related stocks, by learned strengths (Feng et al. 2019, RSR).

    e_i = last state of stock i. Two different stocks of a day are related when they share a concept, and a_ij[c] = 1
    when both belong to concept c. The representation is [e_i, r_i], of width 2 H, with r_i = sum_j s_ij e_j over the
    stocks j related to i: zeros for a stock without any. With phi the leaky ReLU of slope 0.2, the strength is

    - explicit: g_ij = e_i . e_j phi(w . a_ij + b);
    - implicit: g_ij = phi(u . e_i + v . e_j + w . a_ij + b).

    normalise=softmax: s_ij = softmax of g_ij over the stocks j related to i. normalise=count: s_ij = g_ij / d_j, with
    d_j the number of stocks related to j (the paper's equation).

    The released code differs: its softmax runs over i, the stocks that receive, so that what it adds for the sender j
    cancels out; its implicit strength is a sum of three leaky ReLUs; a stock is also related to itself, by a type of
    its own. Feng et al. train the LSTM beforehand, here all is trained together. Initial weights are torch's: uniform
    in +-1 / sqrt(H) for u and v, +-1 / sqrt(C) for w and b.
    """

    mixes_stocks: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"concepts"})

    rnn: RnnKind = "lstm"
    """The recurrent network of each stock (paper: lstm)."""
    strength: Literal["implicit", "explicit"] = "implicit"
    """How the strength of a relation is made of two states and their concepts (the paper has both)."""
    normalise: Literal["softmax", "count"] = "softmax"
    """What the strengths of a stock's relations are scaled by."""

    @property
    def width(self) -> int:
        """Twice the hidden size: a stock's own state and the relational one."""
        return 2 * self.hidden_size

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh RSR. Raises ConfigError without a concept table."""
        if inputs.n_concepts == 0:
            raise ConfigError(
                "backbone rsr: expected a concept table, which says which stocks are related, got none; set "
                "data.concepts=FILE, a CSV of symbol,concept, or take a backbone that needs none, such as gats"
            )
        return RsrModule(
            Recurrent(self.make_rnn(self.rnn, inputs.n_features)),
            inputs.n_concepts,
            implicit=self.strength == "implicit",
            by_softmax=self.normalise == "softmax",
        )
