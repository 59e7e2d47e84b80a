"""iTransformer: whole windows as tokens, so that series attend to one another."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._forecast import EncoderLayer, Normalised
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES


class ITransformerModule(nn.Module):
    """One token a series, an encoder among them, and a linear map of each to its forecast."""

    def __init__(self, window: int, horizon: int, layers: list[EncoderLayer]) -> None:
        super().__init__()
        hidden = layers[0].first.normalized_shape[0]
        self.embed = nn.Linear(window, hidden)
        self.dropout = nn.Dropout(layers[0].dropout.p)
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        tokens = self.layers(self.dropout(self.embed(x.transpose(1, 2))))  # D, C, H
        forecast: Tensor = self.head(self.norm(tokens)).transpose(1, 2)
        return forecast


@BACKBONES.register("itransformer")
class ITransformer(Forecaster):
    """A Transformer with the window of each series as a token, fixed portfolio (Liu et al. 2024, iTransformer).

    Series are normalised over the window; each is embedded linearly as one token and attends to all others, and its
    last token is mapped linearly to its forecast. The released code also takes the marks of the calendar as tokens,
    which there are none of here, and has dropout of the attention weights.
    """

    hidden_size: Annotated[int, Field(ge=1)] = 32
    """Width of a token (paper: 128 to 512)."""
    num_heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads (released code: 8)."""
    num_layers: Annotated[int, Field(ge=1)] = 2
    """Encoder layers (paper: 2 to 4)."""
    feedforward_size: Annotated[int, Field(ge=1)] = 64
    """Inner width of the feed-forward layers (released scripts: that of a token)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout while training (released code: 0.1)."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:  # noqa: ARG002
        """A fresh iTransformer."""
        self._divides(self.num_heads, self.hidden_size)
        sizes = (self.hidden_size, self.num_heads, self.feedforward_size, self.dropout)
        layers = [EncoderLayer(*sizes) for _ in range(self.num_layers)]
        return Normalised(ITransformerModule(window, self.horizon, layers))
