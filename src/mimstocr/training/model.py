"""The model: a sharing structure around a backbone, and a linear head a task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.sharing import Sharing
from mimstocr.tasks import Task


class Model(nn.Module):
    """Windows to one output a task.

    `forward(x, valid, facts)`: x [D, N, L, F], valid bool [D, N]; gives task name to [D, N] for a task of real values,
    [D, N, levels] for one of levels. What comes out where `valid` is false means nothing.
    """

    def __init__(self, backbone: Backbone, sharing: Sharing, tasks: Mapping[str, Task], inputs: Inputs) -> None:
        super().__init__()
        self.shared = sharing.build(backbone, list(tasks), inputs)
        self.heads = nn.ModuleDict({name: nn.Linear(backbone.width, task.width) for name, task in tasks.items()})

    def own_parameters(self) -> list[list[nn.Parameter]]:
        """What follows each task's own loss, one list a task: its head, and what is private to it in the sharing."""
        return [[*inner, *head.parameters()] for inner, head in zip(self._private(), self.heads.values(), strict=True)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """All the rest, which the losses of several tasks reach; with one task, all but its head."""
        own = {id(parameter) for inner in self._private() for parameter in inner}
        return [parameter for parameter in self.shared.parameters() if id(parameter) not in own]

    def _private(self) -> list[list[nn.Parameter]]:
        nothing: list[list[nn.Parameter]] = [[] for _ in self.heads]
        return (self.shared.private() or nothing) if len(self.heads) > 1 else nothing

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> dict[str, Tensor]:
        """The outputs of all tasks."""
        return {
            name: head(state).squeeze(-1)
            for (name, head), state in zip(self.heads.items(), self.shared(x, valid, facts), strict=True)
        }


def seeded_model(seed: int, backbone: Backbone, sharing: Sharing, tasks: Mapping[str, Task], inputs: Inputs) -> Model:
    """A fresh model whose weights depend on the seed alone; on the CPU. Seeds torch's global generator."""
    torch.manual_seed(seed)
    return Model(backbone, sharing, tasks, inputs)
