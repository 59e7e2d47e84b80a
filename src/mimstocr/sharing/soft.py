"""Soft sharing: a tower a task, drawn to one another by the distance of their weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.sharing._parts import towers
from mimstocr.sharing.base import SHARINGS, Mixing, Sharing, SharingModule

DISTANCE = (
    "Distance of the towers' weights over the root mean square of their lengths: 0 for equal towers, 1.41 for "
    "unrelated ones, such as fresh towers that do not start alike."
)


class SoftModule(SharingModule):
    """One backbone a task, and a penalty on the distances between them."""

    def __init__(self, towers: nn.ModuleList, tasks: Sequence[str], strength: float) -> None:
        super().__init__()
        self.towers = towers
        self.tasks = tuple(tasks)
        self.strength = strength

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] to [D, N, H] of each task's own tower."""
        return [tower(x, valid, facts) for tower in self.towers]

    def private(self) -> list[list[nn.Parameter]]:
        """Every tower is its task's own: no parameter is shared."""
        return [list(tower.parameters()) for tower in self.towers]

    def penalty(self, active: Sequence[str] | None = None) -> Tensor | None:
        """strength * sum_{i<j} ||theta_i - theta_j||^2 over the towers of the tasks that train.

        None without strength or with one such tower. A tower that does not train draws no other: it is where it began.
        """
        places = [k for k, task in enumerate(self.tasks) if active is None or task in active]
        if self.strength == 0 or len(places) == 1:
            return None
        # sum_{i<j} |t_i - t_j|^2 = K sum_k |t_k - mean|^2: K terms, where the pairs are K (K - 1) / 2
        spreads = [(part - part.mean(dim=0)).square().sum() for part in self._stacked(places)]
        return self.strength * len(places) * torch.stack(spreads).sum()

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:  # noqa: ARG002
        """The distances between the towers."""
        if len(self.towers) == 1:
            return []
        everyone = range(len(self.towers))
        flat = torch.cat([part.detach().flatten(1) for part in self._stacked(everyone)], dim=1)  # K, P
        squares = flat.square().sum(dim=1)
        size = ((squares[:, None] + squares[None, :]) / 2).sqrt()
        apart = torch.stack([torch.linalg.vector_norm(flat - tower, dim=1) for tower in flat])
        return [Mixing("distance of the towers", self.tasks, self.tasks, apart / size, DISTANCE)]

    def _stacked(self, places: Iterable[int]) -> list[Tensor]:
        """The parameters of the towers at `places`, one below the other, (towers, ...) each."""
        chosen = [self.towers[k].parameters() for k in places]
        return [torch.stack(parts) for parts in zip(*chosen, strict=True)]


@SHARINGS.register("soft")
class Soft(Sharing):
    """Soft sharing: one backbone a task, and a penalty on the distance of their weights (Duong et al. 2015).

    L = sum_k L_k + strength * sum_{i<j} ||theta_i - theta_j||^2 over the backbones' parameters, each pair once. Where
    the sum runs over i != j, as it is often printed, each pair counts twice: that lambda is half of `strength`. The
    penalty is added after the tasks are balanced.

    Every parameter is its task's own, so there is nothing for a balancer that reads gradients: choose one that reads
    losses. Cost: one backbone a task.
    """

    strength: Annotated[float, Field(ge=0)] = 0.001
    """Of the penalty; 0: separate towers, without end: one tower. It goes with the scale of the losses and no value is
    published for this use; here towers of an LSTM come to differ by about a fifth of their size."""
    alike: bool = True
    """Towers start from the same weights, and drift apart as far as the tasks pull; false: each from its own, where the
    penalty would first draw unrelated weights to their mean, which is near 0."""

    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """A tower a task."""
        made = towers(lambda: backbone.build(inputs), len(tasks), alike=self.alike)
        return SoftModule(made, tasks, self.strength)
