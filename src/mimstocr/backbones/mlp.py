"""MLP: the whole window of each stock at once, without an order of its days."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._days import to_places
from mimstocr.backbones.base import BACKBONES, Backbone, Facts, Inputs

SLOPE = 0.1
"""Of the leaky ReLU below 0 (Qlib's DNN)."""


class MlpModule(nn.Module):
    """Fully connected layers over the flattened window of each valid stock."""

    def __init__(self, n_inputs: int, hidden_sizes: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for before, after in zip((n_inputs, *hidden_sizes[:-1]), hidden_sizes, strict=True):
            linear = nn.Linear(before, after)
            nn.init.kaiming_normal_(linear.weight, a=SLOPE)
            layers += [linear, nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout))

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:  # noqa: ARG002
        """[D, N, L, F] and bool [D, N] to [D, N, last hidden size]; invalid rows give zeros."""
        return to_places(self.layers(x[valid].flatten(1)), valid)


@BACKBONES.register("mlp")
class Mlp(Backbone):
    """Fully connected layers over each stock's flattened window (Qlib's DNN, without its batch normalisation).

    Taken from Qlib: leaky ReLU of slope 0.1 after each layer, dropout on the inputs and after the last layer, He's
    normal initial weights by fan-in, torch's initial biases. Its batch normalisation is left out: with it a stock's
    representation would depend on which other stocks and days are in the batch.
    """

    hidden_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (256,)
    """Widths of the layers (Qlib's DNN: one of 256; the MLP in HIST's comparison: 512, 512, 512)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout on the inputs and after the last layer while training (Qlib: 0.05)."""

    @property
    def width(self) -> int:
        """The last hidden size."""
        return self.hidden_sizes[-1]

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh MLP."""
        return MlpModule(inputs.window * inputs.n_features, self.hidden_sizes, self.dropout)
