"""MMoE: experts that all tasks read, each task through a gate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.backbones._days import to_places
from mimstocr.sharing._parts import Gate, mixed, towers, windows_of
from mimstocr.sharing.base import SHARINGS, Mixing, Sharing, SharingModule

GATE = (
    "Weight of each expert (column) in what a task (row) reads, mean over the stocks; a row sums to 1. Which expert is "
    "which is chance: compare tasks, not seeds."
)


class MmoeModule(SharingModule):
    """Experts and one gate a task."""

    def __init__(self, experts: nn.ModuleList, gates: nn.ModuleList, tasks: Sequence[str]) -> None:
        super().__init__()
        self.experts = experts
        self.gates = gates
        self.tasks = tuple(tasks)

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] to one [D, N, H] a task."""
        window = windows_of(x, valid)
        states = [expert(x, valid, facts)[valid] for expert in self.experts]
        return [to_places(mixed(gate(window), states), valid) for gate in self.gates]

    def private(self) -> list[list[nn.Parameter]]:
        """Each task's gate."""
        return [list(gate.parameters()) for gate in self.gates]

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:  # noqa: ARG002
        """The weights of the experts in each task's gate."""
        window = windows_of(x, valid)
        weights = torch.stack([gate(window).detach().mean(dim=0) for gate in self.gates])
        columns = tuple(f"expert {i + 1}" for i in range(len(self.experts)))
        return [Mixing("gate", self.tasks, columns, weights, GATE)]


@SHARINGS.register("mmoe")
class Mmoe(Sharing):
    """Multi-gate mixture of experts: experts for all, and a softmax gate a task (Ma et al. 2018).

    f_k = sum_e g_ke(x) f_e(x), g_k(x) = softmax(W_k x): an expert is a whole backbone, x in the gate the flattened
    window of the stock. The towers above it are the model's linear heads. One expert is hard sharing. Cost: `experts`
    backbones.
    """

    experts: Annotated[int, Field(ge=1)] = 3
    """Backbones. The paper uses 8 small ones; here each is as large as the one of hard sharing."""

    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """Fresh experts and gates."""
        experts = towers(lambda: backbone.build(inputs), self.experts, alike=False)
        n_inputs = inputs.window * inputs.n_features
        return MmoeModule(experts, nn.ModuleList([Gate(n_inputs, self.experts) for _ in tasks]), tasks)
