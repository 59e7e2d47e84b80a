"""The contract of a sharing structure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

from torch import nn

from mimstocr.backbones import Backbone
from mimstocr.components import Component, Registry, component_field


class Sharing(Component):
    """Settings that build a module: forward(x, valid) gives one [D, N, width] a task, in the order of the tasks."""

    @abstractmethod
    def build(self, backbone: Backbone, tasks: Sequence[str], n_features: int, window: int) -> nn.Module:
        """A new module around fresh backbones."""


SHARINGS: Registry[type[Sharing]] = Registry("sharing", "mimstocr.sharing")

AnySharing = Annotated[Sharing, *component_field(SHARINGS)]
