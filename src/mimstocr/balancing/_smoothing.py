"""What CQB and DB-MTL share: log losses, a memory of each task's gradient, and the step of equal lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mimstocr.balancing.base import Balancer, State, admitted

EPS = 1e-12


class LogLosses(Balancer):
    """A balancer of gradients whose losses may enter as log L, with a memory of each task's gradient."""

    reads = "gradients"

    log_loss: bool = True
    """Losses enter as log L (the released code of both); false: as they are."""

    @property
    def negative_losses(self) -> str | None:
        """Refused where losses enter as log L."""
        if not self.log_loss:
            return None
        return "it takes their logarithm; balancer.log_loss=false takes them as they are"

    def admit(self, state: State, fresh: State, known: Sequence[int]) -> State:
        """Memory and step numbers of the tasks so far stay; those that enter have none."""
        kept = {name: admitted(state[name], fresh[name], known) for name in ("smoothed", "steps")}
        return {**fresh, **kept}

    def transform(self, losses: Tensor) -> Tensor:
        """log L, or L itself."""
        return log_losses(losses) if self.log_loss else losses


def log_losses(losses: Tensor) -> Tensor:
    """log L, (K,); finite and without gradient where L is 0, that of a task without a label on these days."""
    return losses.clamp_min(EPS).log()


def smooth(memory: Tensor, gradients: Tensor, rates: Tensor, steps: Tensor) -> Tensor:
    """rate * memory + (1 - rate) * gradient of each task, (K, P), with rates (K,).

    In a task's first step, where none of its `steps` (K,) is done, its memory is its gradient (Lin et al. 2023).
    """
    first = (steps == 0).expand(len(gradients))
    if first.all():
        return gradients.clone()
    rates = rates.to(gradients)[:, None]
    smoothed = rates * memory + (1 - rates) * gradients
    if first.any():
        smoothed[first] = gradients[first]
    return smoothed


def equal_lengths(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The step max_k |g_k| * sum_k g_k / |g_k|, (P,), and the norms |g_k|, (K,); a zero gradient adds nothing."""
    # in float64: the squares of a small gradient vanish in float32, and its unit vector would explode
    norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64).to(gradients.dtype)
    units = gradients / norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None]
    return norms.max() * units.sum(dim=0), norms
