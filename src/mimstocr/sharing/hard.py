"""Hard parameter sharing: one backbone, every task reads the same representation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.sharing.base import SHARINGS, Sharing, SharingModule


class HardModule(SharingModule):
    """One backbone under all tasks."""

    def __init__(self, backbone: nn.Module, n_tasks: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.n_tasks = n_tasks

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] to the same [D, N, H] for every task."""
        return [self.backbone(x, valid, facts)] * self.n_tasks


@SHARINGS.register("hard")
class Hard(Sharing):
    """One backbone shared by all tasks, linear heads on top (Caruana 1997; MiM-StocR)."""

    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """A fresh shared backbone."""
        return HardModule(backbone.build(inputs), len(tasks))
