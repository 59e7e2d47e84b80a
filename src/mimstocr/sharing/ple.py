"""PLE: experts of the tasks and shared ones, extracted layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones import Backbone, Facts, Inputs
from mimstocr.backbones._days import to_places
from mimstocr.sharing._parts import Gate, dense, mixed, windows_of
from mimstocr.sharing.base import SHARINGS, Mixing, Sharing, SharingModule

GATES = (
    "Weight of each expert (column) in what a gate (row) lets through, mean over the stocks; a row sums to 1. A task's "
    "gate sees the task's own experts and the shared ones, the shared gate all of them. Among several experts of one "
    "owner, which is which is chance."
)


class Extraction(nn.Module):
    """One layer: experts, each a task's own or shared, and gates over them.

    owners: of each expert the place of its task, or K where it is shared. Gate k < K is the task's and sees its own
    and the shared experts; gate K is the shared one and sees all, and the last layer does without it.
    """

    def __init__(self, experts: Sequence[nn.Module], owners: Sequence[int], n_inputs: int, *, last: bool) -> None:
        super().__init__()
        shared = owners[-1]  # K: the shared experts come last
        self.owners = tuple(owners)
        self.seen = [
            [e for e, owner in enumerate(owners) if owner in (gate, shared) or gate == shared]
            for gate in range(shared if last else shared + 1)
        ]
        """Of each gate, the experts that it sees."""
        self.experts = nn.ModuleList(experts)
        self.gates = nn.ModuleList([Gate(n_inputs, len(seen)) for seen in self.seen])

    def weights(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Of each gate, the weights [M, experts seen], from the states [M, n_inputs], the shared one last."""
        return [gate(states[place]) for place, gate in enumerate(self.gates)]

    def mix(self, weights: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
        """What each gate lets through of the experts' outputs [M, H]."""
        return [mixed(weight, [outputs[e] for e in seen]) for weight, seen in zip(weights, self.seen, strict=True)]


class PleModule(SharingModule):
    """Extraction layers; the experts of the first are backbones on the window, of the others dense layers."""

    def __init__(self, layers: Sequence[Extraction], tasks: Sequence[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.tasks = tuple(tasks)

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        """[D, N, L, F] to one [D, N, H] a task."""
        *_, (_, states) = self._extractions(x, valid, facts)
        return [to_places(state, valid) for state in states]

    def private(self) -> list[list[nn.Parameter]]:
        """The task's experts of the last layer, and its gates whose output meets no gate of another any more.

        A task's state is read by its own gates, and by its own experts of the next layer, which the shared gate there
        reads for all tasks. So its gates are its own in the last two layers, and in all where tasks have no experts.
        """
        layers = self._layers()
        found: list[list[nn.Parameter]] = [[] for _ in self.tasks]
        for number, layer in enumerate(layers):
            for k, own in enumerate(found):
                mine = [expert for expert, owner in zip(layer.experts, layer.owners, strict=True) if owner == k]
                if layer is layers[-1]:
                    own += [parameter for expert in mine for parameter in expert.parameters()]
                if number >= len(layers) - 2 or not mine:
                    own += layer.gates[k].parameters()
        return found

    def mixing(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Mixing]:
        """The weights of the experts in each gate, layer by layer."""
        tables = []
        for number, (layer, (weights, _)) in enumerate(
            zip(self._layers(), self._extractions(x, valid, facts), strict=True)
        ):
            values = x.new_full((len(weights), len(layer.owners)), math.nan)
            for row, (seen, weight) in enumerate(zip(layer.seen, weights, strict=True)):
                values[row, seen] = weight.detach().mean(dim=0)
            rows = (*self.tasks, "shared")[: len(weights)]
            tables.append(Mixing(f"gates of layer {number + 1}", rows, self._names(layer), values, GATES))
        return tables

    def _extractions(self, x: Tensor, valid: Tensor, facts: Facts) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Of each layer, the weights and the output of each gate, tasks first."""
        states = [windows_of(x, valid)] * (len(self.tasks) + 1)
        for number, layer in enumerate(self._layers()):
            outputs: list[Tensor] = [
                expert(x, valid, facts)[valid] if number == 0 else expert(states[owner])
                for expert, owner in zip(layer.experts, layer.owners, strict=True)
            ]
            weights = layer.weights(states)
            states = layer.mix(weights, outputs)
            yield weights, states

    def _layers(self) -> list[Extraction]:
        return [layer for layer in self.layers if isinstance(layer, Extraction)]

    def _names(self, layer: Extraction) -> tuple[str, ...]:
        """The experts of a layer: the owner, and a number where the owner has several."""
        names = []
        for e, owner in enumerate(layer.owners):
            name = (*self.tasks, "shared")[owner]
            number = f" {layer.owners[:e].count(owner) + 1}" if layer.owners.count(owner) > 1 else ""
            names.append(f"{name}{number}")
        return tuple(names)


@SHARINGS.register("ple")
class Ple(Sharing):
    """Progressive layered extraction: experts of each task and shared ones, in layers (Tang et al. 2020).

    In each layer the gate of task k mixes the task's own experts and the shared ones, and the shared gate, which the
    last layer lacks, all of them: g = softmax(W s) over the experts' outputs, where s is what the same gate of the
    layer before let through, the flattened window in the first. The experts of the first layer are backbones on the
    window; those of later layers are dense layers with a leaky ReLU on s. One layer is CGC. The towers above are the
    model's linear heads. Cost: shared_experts + K * task_experts backbones.
    """

    layers: Annotated[int, Field(ge=1)] = 2
    """Extraction layers; 1 is CGC (customised gate control)."""
    shared_experts: Annotated[int, Field(ge=1)] = 1
    """Experts of each layer that all tasks read."""
    task_experts: Annotated[int, Field(ge=0)] = 1
    """Experts of each layer that one task owns, for each task."""

    def build(self, backbone: Backbone, tasks: Sequence[str], inputs: Inputs) -> SharingModule:
        """Fresh experts and gates."""
        n, width = len(tasks), backbone.width
        owners = [k for k in range(n) for _ in range(self.task_experts)] + [n] * self.shared_experts
        layers = []
        for number in range(self.layers):
            first = number == 0
            experts = [backbone.build(inputs) if first else dense(width, width) for _ in owners]
            n_inputs = inputs.window * inputs.n_features if first else width
            layers.append(Extraction(experts, owners, n_inputs, last=number == self.layers - 1))
        return PleModule(layers, tasks)
