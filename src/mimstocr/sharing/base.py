"""The contract of a sharing structure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

from torch import nn

from mimstocr.backbones import Backbone, Inputs
from mimstocr.components import Component, Registry, component_field


class Sharing(Component):
    """Settings that build a module: forward(x, valid, facts) gives one [D, N, width] a task, in the tasks' order."""

    @abstractmethod
    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> nn.Module:
        """A new module around fresh backbones."""


SHARINGS: Registry[type[Sharing]] = Registry("sharing", "mimstocr.sharing")

AnySharing = Annotated[Sharing, *component_field(SHARINGS)]
