"""Fast adaptive multitask optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._learned import Learning, learn, start
from mimstocr.balancing.base import BALANCERS, State

EPS = 1e-8


@BALANCERS.register("famo")
class Famo(Learning):
    """FAMO: all losses made to fall at one rate, read off the losses before and after a step (Liu et al. 2023).

    The step follows c sum_k z_k log L_k with z = softmax(w) and c = 1 / sum_k (z_k / L_k), so that the weights of the
    losses add up to 1. After it, w goes by Adam against the fall log L_k(before) - log L_k(after) of each loss, on
    the same batch. A task without a label in the batch has no weight in it and teaches nothing.
    """

    looks_back = True

    learning_rate: Annotated[float, Field(gt=0)] = 0.025
    """Of w (paper: 0.025)."""
    decay: Annotated[float, Field(ge=0)] = 1e-3
    """Pull of w back to even weights, gamma (paper: 1e-3)."""

    @property
    def negative_losses(self) -> str | None:
        """Refused: losses are compared by their logarithms."""
        return "it takes their logarithm; a balancer that does not look at losses, such as pcgrad, takes them"

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:  # noqa: ARG002
        """Even weights."""
        zeros = torch.zeros(n_tasks, dtype=torch.float64, device=device)
        return {**start(zeros), "before": zeros.clone()}

    def weights(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """z_k / L_k over their sum."""
        before = losses.double()
        parts = torch.where(before == 0, 0.0, torch.softmax(state["learned"], dim=0) / (before + EPS))
        weights = parts / parts.sum().clamp_min(torch.finfo(parts.dtype).tiny)
        return weights.to(losses), {**state, "before": before}

    def after_step(self, losses: Tensor, state: State) -> State:
        """w moves against the fall of each log loss, through the softmax."""
        before, after = state["before"], losses.double()
        fall = (before + EPS).log() - (after + EPS).log()
        fall = torch.where((before == 0) | (after == 0), 0.0, fall)
        z = torch.softmax(state["learned"], dim=0)
        return learn(state, z * (fall - (z * fall).sum()), self.learning_rate, self.decay)

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """z: the weights of the log losses as they stand."""
        return {"weight": torch.softmax(state["learned"], dim=0).tolist()}
