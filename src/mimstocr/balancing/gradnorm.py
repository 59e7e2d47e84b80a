"""Gradient normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._learned import Learning, learn, start
from mimstocr.balancing.base import BALANCERS, State, admitted

FLOOR = 1e-3
"""The lowest weight: no task is switched off or turned around."""


@BALANCERS.register("gradnorm")
class GradNorm(Learning):
    """GradNorm: learned weights that bring all tasks to one training rate (Chen et al. 2018).

    Minimises sum_k |G_k - mean(G) r_k^alpha| in the weights w_k, the target held constant: G_k = w_k |grad L_k|,
    r_k = (L_k / L_k(0)) over its mean. One step of Adam a batch, on norms in units of their mean; then the weights
    are brought to the sum K. Norms are over all shared parameters (the paper: of the last shared layer).
    """

    reads = "gradients"

    alpha: Annotated[float, Field(ge=0)] = 1.5
    """Pull towards one training rate (paper: 1.5 on NYUv2, 0.12 on its toy example)."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.025
    """Of the weights (paper: 0.025)."""

    @property
    def negative_losses(self) -> str | None:
        """Refused: the ratio of two losses says nothing then."""
        return "it compares ratios of losses; a balancer that does not look at losses, such as pcgrad, takes them"

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:  # noqa: ARG002
        """Every weight 1, no first loss yet."""
        ones = torch.ones(n_tasks, dtype=torch.float64, device=device)
        return {**start(ones), "first": torch.zeros_like(ones)}

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """The weighted sum of the gradients; the weights then learn from this batch."""
        losses, weights = losses.double(), state["learned"]
        update = (weights @ gradients.double()).to(gradients.dtype)
        # L(0) is the first loss of a task that has a label; a task without one so far is taken to stand still
        first = torch.where(state["first"] == 0, losses, state["first"])
        ratio = torch.where(first == 0, 1.0, losses / first)
        rates = ratio / ratio.mean().clamp_min(torch.finfo(ratio.dtype).tiny)
        norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
        norms = norms / norms.mean().clamp_min(torch.finfo(norms.dtype).tiny)
        weighted = weights * norms
        gradient = torch.sign(weighted - weighted.mean() * rates**self.alpha) * norms
        state = learn(state, gradient, self.learning_rate)
        learned = state["learned"].clamp_min(FLOOR)
        return update, {**state, "learned": learned * len(learned) / learned.sum(), "first": first}

    def admit(self, state: State, fresh: State, known: Sequence[int]) -> State:
        """Weights and first losses of the tasks so far stay; a task that enters has weight 1, so the sum is right."""
        admission = super().admit(state, fresh, known)
        return {**admission, "first": admitted(state["first"], fresh["first"], known)}

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """The weights as they stand."""
        return {"weight": state["learned"].tolist()}
