"""Cross-stitch units: towers that read one another by learned linear combinations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.backbones._days import to_places
from mimstocr.sharing._parts import dense, towers
from mimstocr.sharing.base import SHARINGS, Mixing, Sharing, SharingModule

STITCH = (
    "How much of each tower (column) goes into what each task (row) reads next. The diagonal is a task's own tower; "
    "without the rest nothing is shared."
)


class Stitch(nn.Module):
    """Linear combinations of the states of K towers, one a task.

    Each task's coefficients are a parameter of their own, [K, units], as in the last stitch no other task's loss
    reaches them. units: 1, or the width for coefficients of each channel.
    """

    def __init__(self, n_tasks: int, units: int, own: float) -> None:
        super().__init__()
        rest = (1 - own) / (n_tasks - 1) if n_tasks > 1 else 0.0
        start = torch.full((n_tasks, n_tasks), rest)
        start.fill_diagonal_(own if n_tasks > 1 else 1.0)
        self.rows = nn.ParameterList([row[:, None].repeat(1, units) for row in start])

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        """K tensors [M, H] to K tensors [M, H]."""
        together = torch.stack(list(states))  # K, M, H
        return [(row[:, None, :] * together).sum(dim=0) for row in self.rows]

    def table(self) -> Tensor:
        """[K, K]: the coefficients, their means where each channel has its own."""
        return torch.stack([row.detach().mean(dim=1) for row in self.rows])


class StitchedLayer(nn.Module):
    """A dense layer a task, and a stitch after them."""

    def __init__(self, blocks: nn.ModuleList, stitch: Stitch) -> None:
        super().__init__()
        self.blocks = blocks
        self.stitch = stitch

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        """K tensors [M, H] to K tensors [M, H]."""
        stitched: list[Tensor] = self.stitch([block(state) for block, state in zip(self.blocks, states, strict=True)])
        return stitched


class CrossStitchModule(SharingModule):
    """A tower a task, each a backbone and then dense layers, stitched after each of them."""

    def __init__(self, towers: nn.ModuleList, first: Stitch, layers: nn.ModuleList, tasks: Sequence[str]) -> None:
        super().__init__()
        self.towers = towers
        self.first = first
        self.layers = layers
        self.tasks = tuple(tasks)

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] to one [D, N, H] a task."""
        states = self.first([tower(x, valid, facts)[valid] for tower in self.towers])
        for layer in self.layers:
            states = layer(states)
        return [to_places(state, valid) for state in states]

    def private(self) -> list[list[nn.Parameter]]:
        """Each task's coefficients in the last stitch; everything else reaches all tasks through it."""
        return [[row] for row in self._stitches()[-1].rows]

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:  # noqa: ARG002
        """The coefficients of each stitch."""
        if len(self.tasks) == 1:
            return []
        names = ["stitch of the backbones", *(f"stitch of dense layer {i + 1}" for i in range(len(self.layers)))]
        found = zip(names, self._stitches(), strict=True)
        return [Mixing(name, self.tasks, self.tasks, stitch.table(), STITCH) for name, stitch in found]

    def _stitches(self) -> list[Stitch]:
        return [module for module in self.modules() if isinstance(module, Stitch)]


@SHARINGS.register("cross_stitch")
class CrossStitch(Sharing):
    """Cross-stitch units: a tower a task, and learned linear combinations between the towers (Misra et al. 2016).

    A tower is a backbone and then `layers` dense layers with a leaky ReLU. After the backbone and after each of these
    layers task k goes on with sum_j a_kj h_j over the towers' states. The backbone is one block here: what lies inside
    it, such as the layers of a stacked LSTM, is not stitched, as there is no form of it that all backbones have. The
    coefficients have no learning rate of their own (the paper raises theirs). Cost: one backbone a task.
    """

    layers: Annotated[int, Field(ge=0)] = 1
    """Dense layers of each tower above its backbone, each with a stitch after it."""
    units: Literal["channel", "tower"] = "channel"
    """Coefficients of each channel of the states, or one for a whole tower."""
    own: Annotated[float, Field(gt=0.5, le=1)] = 0.9
    """A task's coefficient of its own tower at the start (paper: 0.9 among others); the others share the rest, so that
    they sum to 1. Above a half, or no tower would be a task's own."""
    alike: bool = True
    """Towers start from the same weights (a choice of the paper), so that a channel means the same in all of them, and
    what comes out first is what hard sharing gives; false: each from its own."""

    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """A tower a task, and the stitches."""
        n, width = len(tasks), backbone.width
        units = width if self.units == "channel" else 1
        made = towers(lambda: backbone.build(inputs), n, alike=self.alike)
        blocks = [towers(lambda: dense(width, width), n, alike=self.alike) for _ in range(self.layers)]
        layers = nn.ModuleList([StitchedLayer(block, Stitch(n, units, self.own)) for block in blocks])
        return CrossStitchModule(made, Stitch(n, units, self.own), layers, tasks)
