"""The contract of a sharing structure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.components import Component, Registry, component_field


class Mixing(NamedTuple):
    """One table of what a structure does with its parts, such as the gates of tasks over experts."""

    name: str
    """What the numbers are, such as "gate" or "stitch of layer 1"."""
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Tensor
    """(rows, columns); where they differ from stock to stock, the mean over the valid ones. NaN: no such connection."""
    meaning: str = ""
    """How the table is read, in a sentence or two."""


class SharingModule(nn.Module, ABC):
    """What a sharing structure builds."""

    @abstractmethod
    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] and bool [D, N] to one [D, N, width] a task, in the tasks' order."""

    def private(self) -> list[list[nn.Parameter]]:
        """A task's own parameters, those that no other task's loss reaches, one list a task; none by default.

        They follow their task's own loss, as its head does; balancers that read gradients see the rest alone.
        """
        return []

    def penalty(self, active: Sequence[str] | None = None) -> Tensor | None:  # noqa: ARG002
        """What is added to the loss after the tasks are balanced, such as the distance of towers; none: nothing.

        active: the tasks that train, by default all; nothing is drawn to what is private to the others, which stands
        where it began.
        """
        return None

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:  # noqa: ARG002
        """What is worth looking at, on these inputs; nothing by default."""
        return []


class Sharing(Component):
    """Settings that build a `SharingModule`."""

    @abstractmethod
    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """A new module around fresh backbones; every task's representation has the backbone's width."""


SHARINGS: Registry[type[Sharing]] = Registry("sharing", "mimstocr.sharing")

AnySharing = Annotated[Sharing, *component_field(SHARINGS)]
