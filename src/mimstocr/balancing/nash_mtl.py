"""Nash-MTL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._gram import GramBalancer, Matrix, combine, directions
from mimstocr.balancing.base import BALANCERS, State

RIDGE = 1e-12
"""Added to the squared lengths of the unit gradients, so that weights stay finite where gradients cancel."""


@BALANCERS.register("nash_mtl")
class NashMtl(GramBalancer):
    """Nash-MTL: the step on which the tasks agree in a Nash bargaining game (Navon et al. 2022).

    d = sum_k a_k g_k with G a = 1 / a elementwise, G the inner products of the gradients: each task gains the same
    part, a_k <g_k, d> = 1. As in the authors' code, G enters over its Frobenius norm, so that d has the length of the
    gradients. The system is solved as the minimum of a' G a / 2 - sum_k log a_k, which is strictly convex, by damped
    Newton steps. A task without a gradient has no say; where gradients cancel, d vanishes.
    """

    update_every: Annotated[int, Field(ge=1)] = 1
    """Steps for which weights are kept (the authors' default: 1). The task gradients are computed at every step all
    the same."""
    max_norm: Annotated[float, Field(ge=0)] = 1.0
    """A longer step is cut to this length; 0: none is (the authors' default: 1)."""

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:
        """Every weight 1."""
        return {**super().init(n_tasks, sizes, device), "steps": torch.zeros((), dtype=torch.int64)}

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """The weighted sum of the gradients, no longer than `max_norm`."""
        if int(state["steps"]) % self.update_every == 0:
            update, after = super().update(gradients, losses, state)
        else:
            update, after = combine(state["weight"], gradients), state
        if self.max_norm > 0:
            length = torch.linalg.vector_norm(update, dtype=torch.float64)
            update = update * (self.max_norm / length.clamp_min(self.max_norm)).to(update.dtype)
        return update, {**after, "steps": state["steps"] + 1}

    def solve(self, gram: Tensor) -> Tensor:
        """a in the units of the gradients: solved for unit gradients, which is the same game."""
        cosines, inverse = directions(gram)
        active = inverse > 0
        shares = torch.zeros_like(inverse)
        shares[active] = torch.from_numpy(bargain(cosines[active][:, active].numpy()))
        length: Tensor = torch.linalg.matrix_norm(gram).sqrt()
        return shares * inverse * length


def bargain(gram: Matrix) -> Matrix:
    """The solution of G a = 1 / a, all above 0, for G with a diagonal of ones."""
    whole = gram + RIDGE * np.eye(len(gram))
    a = np.full(len(gram), 1 / np.sqrt(len(gram)))
    for _ in range(500):
        gradient = whole @ a - 1 / a
        # in parts of a: the Hessian is then well scaled however large or small a gets
        step = np.linalg.solve(whole * a[:, None] * a + np.eye(len(a)), gradient * a)
        decrement = float(np.sqrt(max(0.0, step @ (gradient * a))))
        a = a * (1 - step / (1 + decrement) if decrement > 0.25 else 1 - step)
        if decrement < 1e-10:
            break
    return a
