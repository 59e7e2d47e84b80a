"""What CQB and DB-MTL share: log losses, a memory of each task's gradient, and the step of equal lengths."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-12
LOG_NEEDS = "it takes their logarithm; balancer.log_loss=false takes them as they are"
"""What `Balancer.negative_losses` says where log losses are on."""


def log_losses(losses: Tensor) -> Tensor:
    """log L, (K,); finite and without gradient where L is 0, that of a task without a label on these days."""
    return losses.clamp_min(EPS).log()


def smooth(memory: Tensor, gradients: Tensor, rates: Tensor) -> Tensor:
    """rate * memory + (1 - rate) * gradient of each task, (K, P), with rates (K,)."""
    rates = rates.to(gradients)[:, None]
    return rates * memory + (1 - rates) * gradients


def equal_lengths(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The step max_k |g_k| * sum_k g_k / |g_k|, (P,), and the norms |g_k|, (K,); a zero gradient adds nothing."""
    # in float64: the squares of a small gradient vanish in float32, and its unit vector would explode
    norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64).to(gradients.dtype)
    units = gradients / norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None]
    return norms.max() * units.sum(dim=0), norms
