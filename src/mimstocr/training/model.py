"""The model: a sharing structure around a backbone, and a linear head a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.sharing import Mixing, Sharing, SharingModule
from mimstocr.tasks import Task

EMBEDDING = 4
"""Numbers that tell the asset classes apart: few beside the features, enough for five classes to be all alike or all
different in any way that a linear layer sees."""


class WithClasses(SharingModule):
    """A sharing structure whose inputs carry a learned embedding of the stock's asset class at every step."""

    def __init__(self, inner: SharingModule, n_classes: int) -> None:
        super().__init__()
        self.inner = inner
        self.classes = nn.Embedding(n_classes, EMBEDDING)

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] and the fact `asset_class` to one [D, N, width] a task."""
        return list(self.inner(self._widened(x, facts), valid, facts))

    def private(self) -> list[list[nn.Parameter]]:
        """Those of the structure: the embedding is of all tasks."""
        return self.inner.private()

    def penalty(self, active: Sequence[str] | None = None) -> Tensor | None:
        """That of the structure."""
        return self.inner.penalty(active)

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:
        """That of the structure."""
        return self.inner.mixing(self._widened(x, facts), valid, facts)

    def _widened(self, x: Tensor, facts: Facts) -> Tensor:
        of = self.classes(facts["asset_class"])[:, :, None, :]
        return torch.cat([x, of.expand(-1, -1, x.shape[2], -1)], dim=-1)


class PositionHead(nn.Module):
    """Representations to positions in -1 .. 1: one a stock and, with `holds`, one a day for Hold, in the last column.

    Hold is read off the mean representation of the day's valid stocks, so it knows no order of theirs. The bias, which
    all stocks have in common, starts at 0: drawn at random it would put them all on one side, and a book that is all
    long or all short by chance earns the market's year, whatever is learned.
    """

    def __init__(self, width: int, *, holds: bool) -> None:
        super().__init__()
        self.stocks = nn.Linear(width, 1)
        nn.init.zeros_(self.stocks.bias)
        self.hold = nn.Linear(width, 1) if holds else None

    def forward(self, state: Tensor, valid: Tensor) -> Tensor:
        """[D, N, H] and bool [D, N] to [D, N] or, with Hold, [D, N + 1]."""
        said: Tensor = self.stocks(state).squeeze(-1)
        if self.hold is not None:
            total = state.masked_fill(~valid.unsqueeze(-1), 0.0).sum(dim=1)
            said = torch.cat([said, self.hold(total / valid.sum(dim=1, keepdim=True).clamp_min(1))], dim=1)
        return said.tanh()


class Model(nn.Module):
    """Windows to one output a task.

    `forward(x, valid, facts)`: x [D, N, L, F], valid bool [D, N]; gives task name to [D, N] for a task of real values,
    [D, N, levels] for one of levels, and for one of positions [D, N], or [D, N + 1] with Hold. What comes out where
    `valid` is false means nothing.
    """

    def __init__(self, backbone: Backbone, sharing: Sharing, tasks: Mapping[str, Task], inputs: Inputs) -> None:
        super().__init__()
        seen = replace(inputs, n_features=inputs.n_features + EMBEDDING) if inputs.n_classes else inputs
        shared = sharing.build(backbone, list(tasks), seen)
        self.shared = WithClasses(shared, inputs.n_classes) if inputs.n_classes else shared
        self.heads = nn.ModuleDict({name: _head(backbone.width, task) for name, task in tasks.items()})

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
            name: head(state, valid) if isinstance(head, PositionHead) else head(state).squeeze(-1)
            for (name, head), state in zip(self.heads.items(), self.shared(x, valid, facts), strict=True)
        }


def _head(width: int, task: Task) -> nn.Module:
    return PositionHead(width, holds=task.holds) if task.target == "position" else nn.Linear(width, task.width)


def seeded_model(seed: int, backbone: Backbone, sharing: Sharing, tasks: Mapping[str, Task], inputs: Inputs) -> Model:
    """A fresh model whose weights depend on the seed alone; on the CPU. Seeds torch's global generator."""
    torch.manual_seed(seed)
    return Model(backbone, sharing, tasks, inputs)
