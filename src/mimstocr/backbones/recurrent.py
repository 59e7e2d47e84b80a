"""LSTM and GRU: each stock's history on its own, the last hidden state of the top layer."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from mimstocr.backbones._days import to_places
from mimstocr.backbones.base import BACKBONES, Backbone, Facts, Inputs

RnnKind = Literal["lstm", "gru"]
RNNS: dict[RnnKind, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """A recurrent network over the window of each valid stock."""

    def __init__(self, rnn: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:  # noqa: ARG002
        """[D, N, L, F] and bool [D, N] to [D, N, H]; invalid rows give zeros."""
        # time first is the layout that the kernels want; only valid rows are computed
        steps = x[valid].transpose(0, 1).contiguous()  # L, M, F
        out, _ = self.rnn(steps)
        return to_places(out[-1], valid)


class RecurrentSettings(Backbone):
    """Settings of a backbone that reads each stock's window by a recurrent network first."""

    hidden_size: Annotated[int, Field(ge=1)] = 64
    """Width of the hidden state (paper and Qlib: 64)."""
    num_layers: Annotated[int, Field(ge=1)] = 2
    """Stacked layers (Qlib: 2)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout between layers while training; needs two layers or more."""

    @model_validator(mode="after")
    def _dropout_has_a_place(self) -> Self:
        if self.dropout > 0 and self.num_layers == 1:
            raise ValueError(f"dropout ({self.dropout}) acts between layers, but num_layers is 1; set one or the other")
        return self

    @property
    def width(self) -> int:
        """The hidden size."""
        return self.hidden_size

    def make_rnn(self, kind: RnnKind, n_features: int) -> nn.LSTM | nn.GRU:
        """A fresh network, time first; torch's initial weights: uniform in +-1 / sqrt(hidden_size)."""
        return RNNS[kind](n_features, self.hidden_size, self.num_layers, dropout=self.dropout)


@BACKBONES.register("lstm")
class Lstm(RecurrentSettings):
    """LSTM over each stock's window, last hidden state (Hochreiter and Schmidhuber 1997; Qlib's LSTM)."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh LSTM."""
        return Recurrent(self.make_rnn("lstm", inputs.n_features))


@BACKBONES.register("gru")
class Gru(RecurrentSettings):
    """GRU over each stock's window, last hidden state (Cho et al. 2014; Qlib's GRU)."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh GRU."""
        return Recurrent(self.make_rnn("gru", inputs.n_features))
