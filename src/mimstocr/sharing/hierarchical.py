"""Hierarchical sharing: what lower tasks have made of the stocks feeds the higher ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.backbones._days import to_places
from mimstocr.components import near
from mimstocr.errors import ConfigError
from mimstocr.sharing._parts import dense
from mimstocr.sharing.base import SHARINGS, Mixing, Sharing, SharingModule

Level = Annotated[tuple[str, ...], Field(min_length=1)]

FEEDS = (
    "Frobenius norm of the weights by which the tower of each task (row) reads the backbone and the tasks below it "
    "(columns)."
)


class HierarchicalModule(SharingModule):
    """A backbone, and a dense tower a task that also reads the towers of all lower levels.

    levels: places of the tasks, lowest level first.
    """

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        levels: Sequence[Sequence[int]],
        tasks: Sequence[str],
        *,
        stop_gradient: bool,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = width
        self.top = list(levels[-1])
        self.order: list[int] = []
        """The tasks, lowest first."""
        self.below: dict[int, list[int]] = {}
        """Of each task, the tasks that feed it, lowest first."""
        for level in levels:
            self.below |= {k: list(self.order) for k in level}
            self.order += level
        self.stop_gradient = stop_gradient
        self.backbone = backbone
        self.towers = nn.ModuleList([dense(width * (1 + len(self.below[k])), width) for k in range(len(tasks))])

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] to one [D, N, H] a task."""
        shared: Tensor = self.backbone(x, valid, facts)[valid]
        made: dict[int, Tensor] = {}
        for k in self.order:
            fed = [made[low].detach() if self.stop_gradient else made[low] for low in self.below[k]]
            made[k] = self.towers[k](torch.cat([shared, *fed], dim=-1))
        return [to_places(made[k], valid) for k in range(len(self.tasks))]

    def private(self) -> list[list[nn.Parameter]]:
        """The towers of the top level; with `stop_gradient` all towers."""
        return [
            list(tower.parameters()) if self.stop_gradient or k in self.top else []
            for k, tower in enumerate(self.towers)
        ]

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:  # noqa: ARG002
        """How strongly each tower reads the backbone and each task below it; nothing with one level."""
        low = self.order[: -len(self.top)]
        if not low:
            return []
        values = x.new_full((len(self.tasks), 1 + len(low)), torch.nan)
        for k, tower in enumerate(self.towers):
            weight = next(tower.parameters()).detach()  # [width, width * (1 + tasks below)]
            parts = torch.split(weight, self.width, dim=1)
            norms = torch.stack([torch.linalg.matrix_norm(part) for part in parts])
            values[k, : len(norms)] = norms
        columns = ("backbone", *(self.tasks[k] for k in low))
        return [Mixing("what feeds the towers", self.tasks, columns, values, FEEDS)]


@SHARINGS.register("hierarchical")
class Hierarchical(Sharing):
    """Hierarchical sharing: low-level tasks feed high-level ones (Sogaard and Goldberg 2016; Hashimoto et al. 2017).

    One backbone; h_k = LeakyReLU(W_k [h, h_j of all tasks j of lower levels] + b_k), a dense tower a task. As in
    Hashimoto et al., a higher task reads the shared representation itself too, not the lower tasks' alone; every level
    reads the same backbone, where both papers take another of its layers.
    """

    levels: Annotated[tuple[Level, ...], Field(min_length=1)] | None = None
    """The tasks by level, lowest first, such as [[volume, volatility], [momentum], [return]]; each learned task once.
    None: the main task, which is the first, above all others."""
    stop_gradient: bool = False
    """Whether the losses of higher tasks end where they enter the towers of lower ones, which then follow their own
    loss alone."""

    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """A fresh backbone and towers. Raises ConfigError where `levels` does not name each task once."""
        levels = self._by_place(tasks)
        made = backbone.build(inputs)
        return HierarchicalModule(made, backbone.width, levels, tasks, stop_gradient=self.stop_gradient)

    def _by_place(self, tasks: Sequence[str]) -> list[list[int]]:
        if self.levels is None:
            return [list(range(1, len(tasks))), [0]] if len(tasks) > 1 else [[0]]
        named = Counter(name for level in self.levels for name in level)
        for name in named:
            if name not in tasks:
                raise ConfigError(f"sharing.levels: no task {name!r} is learned; {near(name, tasks)}")
        if double := [name for name, n in named.items() if n > 1]:
            raise ConfigError(f"sharing.levels: expected each task once, got {', '.join(double)} more than once")
        if missing := [name for name in tasks if name not in named]:
            raise ConfigError(
                f"sharing.levels: expected all learned tasks, missing: {', '.join(missing)}; put each in one level"
            )
        return [[tasks.index(name) for name in level] for level in self.levels]
