"""The contract of a backbone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from torch import nn

from mimstocr.components import Component, Registry, component_field


class Backbone(Component):
    """Settings that build a module: forward(x, valid), [D, N, L, F] and bool [D, N], to [D, N, width].

    Rows where `valid` is false come out as zeros and touch no other row; the order of the stocks never matters.
    """

    mixes_stocks: ClassVar[bool] = False
    """Whether a stock's representation depends on the other stocks of its day."""

    @property
    @abstractmethod
    def width(self) -> int:
        """H, the size of a representation."""

    @abstractmethod
    def build(self, n_features: int, window: int) -> nn.Module:
        """A new module with fresh weights from torch's global generator."""


BACKBONES: Registry[type[Backbone]] = Registry("backbone", "mimstocr.backbones")

AnyBackbone = Annotated[Backbone, *component_field(BACKBONES)]
