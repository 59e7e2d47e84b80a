"""LSTM and GRU: each stock's history on its own, the last hidden state of the top layer."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from mimstocr.backbones.base import BACKBONES, Backbone, Facts, Inputs


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
        state = out.new_zeros(*valid.shape, out.shape[-1])
        result: Tensor = state.masked_scatter(valid[..., None], out[-1])
        return result


class _RecurrentSettings(Backbone):
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


@BACKBONES.register("lstm")
class Lstm(_RecurrentSettings):
    """LSTM over each stock's window, last hidden state (Hochreiter and Schmidhuber 1997; Qlib's LSTM)."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh LSTM."""
        return Recurrent(nn.LSTM(inputs.n_features, self.hidden_size, self.num_layers, dropout=self.dropout))


@BACKBONES.register("gru")
class Gru(_RecurrentSettings):
    """GRU over each stock's window, last hidden state (Cho et al. 2014; Qlib's GRU)."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh GRU."""
        return Recurrent(nn.GRU(inputs.n_features, self.hidden_size, self.num_layers, dropout=self.dropout))
