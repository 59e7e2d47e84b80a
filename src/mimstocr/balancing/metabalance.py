"""MetaBalance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing.base import BALANCERS, Balancer, State


@BALANCERS.register("metabalance")
class MetaBalance(Balancer):
    """MetaBalance: gradients of the other tasks brought near the main task's length, tensor by tensor (He et al. 2022).

    For each shared parameter tensor, m_k <- beta m_k + (1 - beta) |g_k| from 0; the gradient of every task but the
    first, the main one, becomes relax * (m_main / m_k) g_k + (1 - relax) g_k; then all are added.
    """

    reads = "gradients"
    ordered = True

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Forgetting rate of the lengths (paper: 0.9)."""
    relax: Annotated[float, Field(ge=0, le=1)] = 0.7
    """How near: 1 makes the lengths equal, 0 leaves them (paper: tuned; the authors' code: 0.7)."""
    strategy: Literal["reduce", "enlarge", "both"] = "both"
    """Which gradients change: those longer than the main one's (the paper's strategy A), those shorter (B), or all
    (C, and the authors' code)."""

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:
        """Lengths of 0."""
        return {
            "lengths": torch.zeros(n_tasks, len(sizes), dtype=torch.float64, device=device),
            "sizes": torch.tensor(list(sizes), dtype=torch.int64),
        }

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """The sum of the gradients as adapted in each tensor."""
        parts = torch.split(gradients, state["sizes"].tolist(), dim=1)
        now = torch.stack([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in parts], dim=1)
        lengths = self.beta * state["lengths"] + (1 - self.beta) * now
        factors = self._factors(lengths)
        added = [factor @ part.double() for factor, part in zip(factors.T, parts, strict=True)]
        return torch.cat(added).to(gradients.dtype), {**state, "lengths": lengths}

    def _factors(self, lengths: Tensor) -> Tensor:
        """What each task's gradient is multiplied by, (K, tensors), from the smoothed lengths."""
        ratio = torch.where(lengths > 0, lengths[0] / lengths, 1.0)
        factors = self.relax * ratio + (1 - self.relax)
        if self.strategy == "both":
            return factors
        changed = ratio < 1 if self.strategy == "reduce" else ratio > 1
        return torch.where(changed, factors, 1.0)
