"""HIST: what a stock shares with its concepts, what it shares with stocks like it, and what is left."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from mimstocr.backbones._days import cosine, masked_softmax
from mimstocr.backbones.base import BACKBONES, Facts, Inputs
from mimstocr.backbones.recurrent import Recurrent, RecurrentSettings, RnnKind

TIE = 1e-6
"""Cosines this near to one another count as equal: it is their rounding in float32."""


class HistModule(nn.Module):
    """The three parts on top of the recurrent states; the predefined one only with concepts."""

    def __init__(self, encoder: Recurrent, top_k: int, *, with_concepts: bool) -> None:
        super().__init__()
        hidden = encoder.rnn.hidden_size
        self.encoder = encoder
        self.top_k = top_k
        self.predefined = Shared(hidden) if with_concepts else None
        self.hidden = Shared(hidden)
        self.individual = _linear(hidden)

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:
        """[D, N, L, F], bool [D, N], facts `concepts` and `market_value` to [D, N, H]; invalid rows give zeros."""
        rest = self.encoder(x, valid, facts)
        forecasts = []
        if self.predefined is not None:
            concepts = predefined_concepts(rest, valid, facts["concepts"], facts["market_value"])
            forecast, backcast = self.predefined(rest, *concepts)
            forecasts.append(forecast)
            rest = rest - backcast
        forecast, backcast = self.hidden(rest, *hidden_concepts(rest, valid, self.top_k))
        forecasts.append(forecast)
        forecasts.append(leaky_relu(self.individual(rest - backcast)))
        return torch.stack(forecasts).sum(0).masked_fill(~valid[..., None], 0.0)


class Shared(nn.Module):
    """What stocks share with concepts: a forecast of it, and a backcast to take away from the states."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.share, self.forecast, self.backcast = _linear(hidden), _linear(hidden), _linear(hidden)

    def forward(self, state: Tensor, concepts: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """State [D, N, H], concepts [D, C, H] and which of them are there, bool [D, C], to two [D, N, H].

        Without any concept that day the shared information is 0 ahead of the linear layers.
        """
        weight = masked_softmax(cosine(state, concepts), live[:, None, :])  # D, N, C
        shared = self.share(weight @ concepts)
        return leaky_relu(self.forecast(shared)), self.backcast(shared)


def predefined_concepts(state: Tensor, valid: Tensor, concepts: Tensor, market_value: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings [D, C, H] of the given concepts, and which of them have a member that day, bool [D, C].

    First the mean of the members' states, weighted by market value; then, by the softmax over all stocks of their inner
    products with it, a mean of all stocks' states.
    """
    member = concepts & valid[..., None]  # D, N, C
    value = market_value.masked_fill(~valid, 0.0).to(state.dtype)
    weight = member * value[..., None]
    live = member.any(dim=1)
    share = weight / weight.sum(dim=1, keepdim=True).where(live[:, None, :], 1.0)
    first = share.transpose(1, 2) @ state  # D, C, H
    likeness = masked_softmax(state @ first.transpose(1, 2), valid[..., None], dim=1)  # D, N, C
    return likeness.transpose(1, 2) @ state, live


def hidden_concepts(state: Tensor, valid: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Embeddings [D, N, H] of the concepts that stocks make for one another, and which are there, bool [D, N].

    Every stock is a concept, and joins the `top_k` concepts of other stocks whose cosine with it is highest, with all
    that tie with the last of them. A concept that someone joined is there: the sum of its own stock's state and of
    those of the stocks that joined, each times its cosine with that state.
    """
    similar = cosine(state, state)  # D, stocks, concepts
    same = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    others = valid[:, :, None] & valid[:, None, :] & ~same
    ranked = similar.detach().masked_fill(~others, -torch.inf)
    last = ranked.topk(min(top_k, valid.shape[1]), dim=-1).values[..., -1:]
    joined = others & (ranked >= last - TIE)
    live = joined.any(dim=1)
    weight = similar * (joined | (same & live[:, None, :]))
    return weight.transpose(1, 2) @ state, live


@BACKBONES.register("hist")
class Hist(RecurrentSettings):
    """Shared information of given and of hidden concepts, and what is left of each stock (Xu et al. 2021, HIST).

    x_i = last state of stock i. Each part makes a forecast, and the three add up to the representation; the first two
    make a backcast too, which is taken away from x before the next part.

    1. Predefined concepts: e_k is the mean of the states of concept k's members, weighted by market value; then
       corrected to sum_i softmax_i(x_i . e_k) x_i, over all stocks i of the day. Stock i receives
       sum_k softmax_k(cos(x_i, e_k)) e_k.
    2. Hidden concepts: each stock is one, made of the stocks that have it among their `top_k` most similar; those that
       nobody has are dropped. Received as in 1.
    3. Individual: what is left.

    Of what is received, s = S (it), forecast = LeakyReLU(F s), backcast = B s, each with a bias. A concept without a
    stock of the day does not take part; where there is none at all, what is received is 0. Without a concept table
    the first part is skipped. S, F, B start Xavier uniform, as in the released code; all else as torch's.

    The released code is followed where it departs from the paper: inner products in the correction, where the paper has
    cosines; no leaky ReLU on corrected concepts, on s and on backcasts; K similar concepts, where the paper has one.
    It is not followed in these:

    - it adds 1 to the sum of market values in the mean, so that the mean depends on their unit;
    - it tells absent concepts by embeddings and similarities that sum to 0; here they are masked;
    - a stock's own place competes for the K with a similarity of 0, ahead of other stocks with negative cosines;
    - it breaks ties of the K-th by the order of the stocks; here all of them are kept;
    - it fails on a day of fewer than K stocks; here a stock then joins all others.

    Qlib's HIST differs more: plain means of members, no correction, K = 1, and a start from a trained LSTM.
    """

    mixes_stocks: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"concepts", "market_value"})

    rnn: RnnKind = "gru"
    """The recurrent network of each stock (paper: gru; Qlib's benchmark: lstm)."""
    top_k: Annotated[int, Field(ge=1)] = 3
    """K, hidden concepts that a stock joins (released code: 3)."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh HIST."""
        encoder = Recurrent(self.make_rnn(self.rnn, inputs.n_features))
        return HistModule(encoder, self.top_k, with_concepts=inputs.n_concepts > 0)


def _linear(hidden: int) -> nn.Linear:
    layer = nn.Linear(hidden, hidden)
    nn.init.xavier_uniform_(layer.weight)
    return layer
