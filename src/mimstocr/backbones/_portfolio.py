"""What the backbones of a fixed portfolio share: the joint window of all its stocks, and their settings."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones.base import Backbone, Facts, Inputs
from mimstocr.errors import ConfigError, DataError


def joint_window(x: Tensor, valid: Tensor) -> Tensor:
    """[D, N, L, F] and bool [D, N] to [D, L, N * F]: the series of the first stock come first; zeros where invalid."""
    return x.masked_fill(~valid[..., None, None], 0.0).transpose(1, 2).flatten(2)


class PortfolioModule(nn.Module):
    """A trunk over the joint window, and a linear map of what it says to one representation a stock."""

    def __init__(self, trunk: nn.Module, n_outputs: int, n_symbols: int, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(n_outputs, n_symbols * width)
        self.n_symbols = n_symbols

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> Tensor:  # noqa: ARG002
        """[D, N, L, F] and bool [D, N] to [D, N, width]; invalid rows give zeros. Raises DataError for another N."""
        if x.shape[1] != self.n_symbols:
            raise DataError(
                f"a model of a fixed portfolio of {self.n_symbols} stocks was given {x.shape[1]}; give it all stocks "
                "of the panel that it was made for, in the panel's order"
            )
        said = self.trunk(joint_window(x, valid)).flatten(1)
        by_stock: Tensor = self.out(said).reshape(*valid.shape, -1)
        return by_stock.masked_fill(~valid[..., None], 0.0)


class Portfolio(Backbone):
    """Settings of a backbone of a fixed portfolio: a trunk that reads all series of all its stocks at once.

    It sees every stock of the panel every day, in the panel's order, with zeros for those that are not in the day's
    cross-section; so their number is part of its weights, and the order matters.
    """

    fixed_portfolio: ClassVar[bool] = True
    mixes_stocks: ClassVar[bool] = True

    stock_width: Annotated[int, Field(ge=1)] = 16
    """Numbers that represent a stock: what the trunk says is mapped linearly to so many for each."""

    @property
    def width(self) -> int:
        """`stock_width`."""
        return self.stock_width

    @abstractmethod
    def trunk(self, n_series: int, window: int) -> tuple[nn.Module, int]:
        """A module from [D, L, n_series] to [D, ...], and how many numbers a day that is. Raises ConfigError."""

    def build(self, inputs: Inputs) -> nn.Module:
        """A fresh trunk and its map to the stocks. Raises ConfigError without a number of stocks."""
        if inputs.n_symbols == 0:
            raise ConfigError(
                f"backbone {self.kind}: expected the number of stocks of a fixed portfolio (Inputs.n_symbols), got 0; "
                "give that of the panel, or take a backbone for any cross-section, such as lstm"
            )
        trunk, n_outputs = self.trunk(inputs.n_symbols * inputs.n_features, inputs.window)
        return PortfolioModule(trunk, n_outputs, inputs.n_symbols, self.width)


class Forecaster(Portfolio):
    """Settings of a published forecaster of many series, whose forecast of all of them is mapped to the stocks."""

    horizon: Annotated[int, Field(ge=1)] = 1
    """Steps ahead that the forecaster says of every series; all of them are read for the representation."""

    @abstractmethod
    def forecaster(self, n_series: int, window: int) -> nn.Module:
        """A module from [D, L, C] to the forecast [D, horizon, C] of its C series. Raises ConfigError."""

    def trunk(self, n_series: int, window: int) -> tuple[nn.Module, int]:
        """The forecaster."""
        return self.forecaster(n_series, window), self.horizon * n_series

    def _divides(self, heads: int, hidden_size: int) -> None:
        """Raise ConfigError unless the heads share the hidden size evenly."""
        if hidden_size % heads:
            raise ConfigError(
                f"backbone {self.kind}: expected a hidden_size that num_heads ({heads}) divides, got {hidden_size}; "
                "change one of the two"
            )
