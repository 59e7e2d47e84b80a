"""DLinear: a linear forecast of trend and season."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._forecast import decompose
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES


class SeriesLinear(nn.Module):
    """A linear map of the window of each series: one for all of them, or one for each."""

    def __init__(self, window: int, horizon: int, n_maps: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(window)  # torch's start of a linear layer
        self.weight = nn.Parameter(torch.empty(n_maps, horizon, window).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_maps, horizon).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        if len(self.weight) == 1:
            return self.weight @ x + self.bias[..., None]
        return torch.einsum("chl,dlc->dhc", self.weight, x) + self.bias.T


class DLinearModule(nn.Module):
    """The sum of a linear map of the season and one of the trend."""

    def __init__(self, window: int, horizon: int, n_maps: int, kernel_size: int) -> None:
        super().__init__()
        self.season, self.trend = (SeriesLinear(window, horizon, n_maps) for _ in range(2))
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        season, trend = decompose(x, self.kernel_size)
        forecast: Tensor = self.season(season) + self.trend(trend)
        return forecast


@BACKBONES.register("dlinear")
class DLinear(Forecaster):
    """Linear maps of the trend and the season of each series, for a fixed portfolio (Zeng et al. 2023, DLinear).

    The trend is a moving average with the first and last step repeated beyond the edges, the season what is left; the
    forecast is W_s season + W_t trend + b. It is all linear, and what series tell of one another comes by the map to
    the stocks alone. Initial weights are torch's of a linear layer.
    """

    kernel_size: Annotated[int, Field(ge=1)] = 25
    """Steps of the moving average (paper: 25)."""
    individual: bool = False
    """Maps of its own for every series (the paper's DLinear-I), or the same for all (DLinear-S, its default)."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:
        """A fresh DLinear."""
        return DLinearModule(window, self.horizon, n_series if self.individual else 1, self.kernel_size)
