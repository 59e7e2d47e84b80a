"""The contract of a balancer.

A balancer sees K task losses each step and decides the update of the P shared parameters. It says what it reads,
losses or gradients, so the training loop never asks its name. Its state is a dict of tensors that goes in and out as
a value, and so into checkpoints. What is drawn at random comes from torch's global generators, which checkpoints
carry too.

Heads: under a balancer that reads losses, a head follows its own weighted loss; under one that reads gradients, its
own transformed loss, unweighted. No head ever follows the loss of another task.
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
    looks_back: ClassVar[bool] = False
    """True: after the optimiser's step the losses of the same batch are computed once more, without gradient, for
    `after_step`."""
    ordered: ClassVar[bool] = False
    """True: the first task counts as the main one; otherwise the order of the tasks is of no matter."""
    random: ClassVar[bool] = False
    """True: the step depends on random draws."""

    @property
    def negative_losses(self) -> str | None:
        """Why a loss below 0 is refused, and what to do about it; none: such losses are fine."""
        return None

    def learned(self, tasks: Sequence[str]) -> list[str]:
        """The tasks that are learned, of all that are configured, main task first."""
        return list(tasks)

    @property
    def holdout(self) -> float:
        """Share of the last training days kept out of the gradient to measure over-fitting on (0: none)."""
        return 0.0

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:  # noqa: ARG002
        """The state before the first step, for K tasks and P shared parameters.

        `sizes` are the numbers of values of the shared parameter tensors, in their order in P; P is their sum.
        """
        return {}

    def transform(self, losses: Tensor) -> Tensor:
        """What each task loss (K,) becomes before it is differentiated."""
        return losses

    def weights(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """Weights (K,) of the transformed losses (K,) in the one sum that is differentiated.

        A loss of exactly 0 is that of a task without a label on the days of the step.
        """
        return torch.ones_like(losses), state

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """The update (P,) of the shared parameters from the gradients (K, P) of the transformed task losses.

        `losses` (K,) are detached and untransformed; one of exactly 0 is that of a task without a label.
        """
        return gradients.sum(dim=0), state

    def after_step(self, losses: Tensor, state: State) -> State:  # noqa: ARG002
        """The state after the optimiser's step, from the untransformed losses (K,) of the same batch after it."""
        return state

    def end_epoch(self, train: Tensor, indicator: Tensor, state: State) -> State:  # noqa: ARG002
        """The state after an epoch with mean task losses (K,), float64, in training and on the indicator split."""
        return state

    def admit(self, state: State, fresh: State, known: Sequence[int]) -> State:  # noqa: ARG002
        """The state when tasks enter the training late: `state` is of those at the places `known` of all.

        `fresh` is what `init` gives for all. By default everything starts anew; a balancer that keeps what it knows
        of the tasks in `state` lets the others begin as at the start of a training.
        """
        return fresh

    def weight_decay(self, state: State) -> float | None:  # noqa: ARG002
        """The optimiser's coupled L2 for the coming epoch; none: what training.weight_decay says."""
        return None

    def telemetry(self, state: State) -> dict[str, list[float]]:  # noqa: ARG002
        """What is worth a line in the history of an epoch; one value a task, or one in all."""
        return {}


def admitted(kept: Tensor, fresh: Tensor, known: Sequence[int], dim: int = 0) -> Tensor:
    """`fresh`, whose `dim` is of all tasks, with `kept` at the places `known`."""
    return fresh.index_copy(dim, torch.tensor(known, device=fresh.device), kept)


BALANCERS: Registry[type[Balancer]] = Registry("balancer", "mimstocr.balancing")

AnyBalancer = Annotated[Balancer, *component_field(BALANCERS)]
