"""The contract of a balancer.

A balancer sees K task losses each step and decides the update of the P shared parameters; each head always
follows its own loss. It says what it reads, so the training loop never asks its name. Its state is a dict of
tensors that goes in and out as a value, and so into checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from mimstocr.components import Component, Registry, component_field

State = dict[str, Tensor]


class Balancer(Component):
    """The rule by which task losses make one step."""

    reads: ClassVar[Literal["losses", "gradients"]] = "losses"
    """"losses": `weights` is called, and one backward pass of the weighted sum is made. "gradients": `update`
    is called with the task gradients, which cost one backward pass a task."""

    def learned(self, tasks: Sequence[str]) -> list[str]:
        """The tasks that are learned, of all that are configured, main task first."""
        return list(tasks)

    @property
    def holdout(self) -> float:
        """Share of the last training days kept out of the gradient to measure over-fitting on (0: none)."""
        return 0.0

    def init(self, n_tasks: int, n_shared: int, device: torch.device) -> State:  # noqa: ARG002
        """The state before the first step, for K tasks and P shared parameters."""
        return {}

    def transform(self, losses: Tensor) -> Tensor:
        """What each task loss (K,) becomes before it is differentiated."""
        return losses

    def weights(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """Weights (K,) of the transformed losses (K,) in the one sum that is differentiated."""
        return torch.ones_like(losses), state

    def update(self, gradients: Tensor, state: State) -> tuple[Tensor, State]:
        """The update (P,) of the shared parameters from the task gradients (K, P)."""
        return gradients.sum(dim=0), state

    def end_epoch(self, train: Tensor, indicator: Tensor, state: State) -> State:  # noqa: ARG002
        """The state after an epoch with mean task losses (K,), float64, in training and on the indicator split."""
        return state

    def weight_decay(self, state: State) -> float | None:  # noqa: ARG002
        """The optimiser's coupled L2 for the coming epoch; none: what training.weight_decay says."""
        return None

    def telemetry(self, state: State) -> dict[str, list[float]]:  # noqa: ARG002
        """What is worth a line in the history of an epoch; one value a task, or one in all."""
        return {}


BALANCERS: Registry[type[Balancer]] = Registry("balancer", "mimstocr.balancing")

AnyBalancer = Annotated[Balancer, *component_field(BALANCERS)]
