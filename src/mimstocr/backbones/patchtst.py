"""PatchTST: each series by itself, in patches that attend to one another."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._forecast import EncoderLayer, Normalised, check_patches
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES


class PatchTstModule(nn.Module):
    """Patches of each series as tokens of an encoder, all of them flattened to the forecast."""

    def __init__(self, n_patches: int, size: int, stride: int, layers: list[EncoderLayer], horizon: int) -> None:
        super().__init__()
        hidden = layers[0].first.normalized_shape[0]
        self.size, self.stride = size, stride
        self.embed = nn.Linear(size, hidden)
        self.place = nn.Parameter(torch.empty(n_patches, hidden).uniform_(-0.02, 0.02))  # the authors' start
        self.dropout = nn.Dropout(layers[0].dropout.p)
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(n_patches * hidden, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        padded = torch.cat([x, x[:, -1:].expand(-1, self.stride, -1)], dim=1)
        patches = padded.unfold(1, self.size, self.stride).transpose(1, 2)  # D, C, patches, size
        tokens = self.layers(self.dropout(self.embed(patches) + self.place).flatten(0, 1))  # D C, patches, H
        forecast: Tensor = torch.unflatten(self.head(tokens.flatten(1)), 0, (-1, x.shape[2])).transpose(1, 2)
        return forecast


@BACKBONES.register("patchtst")
class PatchTst(Forecaster):
    """A Transformer over patches of each series, for a fixed portfolio (Nie et al. 2023, PatchTST).

    Series are normalised over the window, and the same weights read each of them. With the last step repeated `stride`
    times at the end there are (L - patch_size) // stride + 2 patches; each is embedded linearly, given a learned
    place, and attends to the other patches of its series; all tokens of a series are flattened to its forecast.

    It departs from the paper in these: batch normalisation, with which a day would depend on the other days of its
    batch, is layer normalisation here, and stands ahead of each part (an option of the released code), as after it
    the size of a patch would be lost, which batch normalisation keeps; attention scores are not handed from layer to
    layer, as they are in the released code alone.
    """

    patch_size: Annotated[int, Field(ge=1)] = 16
    """Steps of a patch (paper: 16)."""
    stride: Annotated[int, Field(ge=1)] = 8
    """Steps from one patch to the next (paper: 8)."""
    hidden_size: Annotated[int, Field(ge=1)] = 16
    """Width of a token (paper: 16 for its small data, else 128)."""
    num_heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads (paper: 4 for its small data, else 16)."""
    num_layers: Annotated[int, Field(ge=1)] = 2
    """Encoder layers (paper: 3)."""
    feedforward_size: Annotated[int, Field(ge=1)] = 32
    """Inner width of the feed-forward layers (paper: 128 for its small data, else 256)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout while training (paper: 0.2 to 0.3)."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:  # noqa: ARG002
        """A fresh PatchTST. Raises ConfigError when the window is shorter than a patch."""
        self._divides(self.num_heads, self.hidden_size)
        check_patches(window, self.patch_size, self.stride, self.kind)
        n_patches = (window - self.patch_size) // self.stride + 2
        sizes = (self.hidden_size, self.num_heads, self.feedforward_size, self.dropout)
        layers = [EncoderLayer(*sizes, before=True) for _ in range(self.num_layers)]
        return Normalised(PatchTstModule(n_patches, self.patch_size, self.stride, layers, self.horizon))
