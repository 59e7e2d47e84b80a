"""The contract of a backbone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor, nn

from mimstocr.components import Component, Registry, component_field

Facts = Mapping[str, Tensor]
"""What is known of a batch's stocks besides their windows, by name (see `mimstocr.data.facts`):

- concepts: bool [D, N, C], which of C concepts, such as industries, a stock belongs to;
- market_value: float32 [D, N], above 0, in the source's currency; only ratios within a day mean something;
- asset_class: int64 [D, N], the place of the stock's class among several (see `mimstocr.data.assets`). The model adds
  an embedding of it to every step of a window before a backbone reads it.

What stands where `valid` is false means nothing.
"""


@dataclass(frozen=True)
class Inputs:
    """Sizes of what a backbone is given."""

    n_features: int
    """F."""
    window: int
    """L."""
    n_concepts: int = 0
    """C; 0: there is no concept table, and no fact `concepts`."""
    n_classes: int = 0
    """Asset classes; 0: there is one, and no fact `asset_class`."""
    n_symbols: int = 0
    """N of a panel whose stocks are always the same; 0: they may differ from day to day."""


class Backbone(Component):
    """Settings that build a module: forward(x, valid, facts), [D, N, L, F] and bool [D, N], to [D, N, width].

    Rows where `valid` is false come out as zeros and touch no other row; the order of the stocks never matters, save
    to a backbone of a fixed portfolio.
    """

    fixed_portfolio: ClassVar[bool] = False
    """Whether it is made for the stocks of one panel: it sees all N of them every day, in the panel's order."""
    mixes_stocks: ClassVar[bool] = False
    """Whether a stock's representation depends on the other stocks of its day."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Names of the facts that `forward` looks at where they are there."""

    @property
    @abstractmethod
    def width(self) -> int:
        """H, the size of a representation."""

    @abstractmethod
    def build(self, inputs: Inputs) -> nn.Module:
        """A new module with fresh weights from torch's global generator. Raises ConfigError without what it needs."""


BACKBONES: Registry[type[Backbone]] = Registry("backbone", "mimstocr.backbones")

AnyBackbone = Annotated[Backbone, *component_field(BACKBONES)]
