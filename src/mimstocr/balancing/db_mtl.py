"""Dual-Balancing Multi-Task Learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._smoothing import LogLosses, equal_lengths, smooth
from mimstocr.balancing.base import BALANCERS, State


@BALANCERS.register("db_mtl")
class DbMtl(LogLosses):
    """DB-MTL: log losses and smoothed gradients rescaled to the largest norm (Lin et al. 2023).

    The memory of task k is h_k <- b h_k + (1 - b) g_k, which starts as the first gradient; the step is
    max_k |h_k| * sum_k h_k / |h_k|. In a task's step number s the forgetting rate is b = beta / s^fade.
    """

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Base of the forgetting rate (the paper searches 0.1 to 0.9; the default is of the authors' library)."""
    fade: Annotated[float, Field(ge=0)] = 0.5
    """Power of the step number by which the forgetting rate falls (paper: 0.5, or 0 for a constant rate)."""

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:
        """Zero memory."""
        return {
            "smoothed": torch.zeros(n_tasks, sum(sizes), device=device),
            "steps": torch.zeros(n_tasks, dtype=torch.int64),
            "weight": torch.ones(n_tasks, dtype=torch.float64, device=device),
        }

    def rate(self, step: int) -> float:
        """The forgetting rate in step number `step`, from 1."""
        return float(self.beta / step**self.fade)

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """Smooth, then bring all memories to the largest norm and add them; a zero one adds nothing."""
        steps = state["steps"] + 1
        rates = [self.rate(step) for step in steps.expand(len(gradients)).tolist()]
        smoothed = smooth(state["smoothed"], gradients, torch.tensor(rates, dtype=torch.float64), state["steps"])
        update, norms = equal_lengths(smoothed)
        weight = torch.where(norms > 0, norms.max().double() / norms.double(), 0.0)
        return update, {**state, "smoothed": smoothed, "steps": steps, "weight": weight}

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """The weight of each task's memory in the latest step."""
        return {"weight": state["weight"].tolist()}
