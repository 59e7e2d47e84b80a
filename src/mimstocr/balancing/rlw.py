"""Random loss weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from mimstocr.balancing.base import BALANCERS, Balancer, State


@BALANCERS.register("rlw")
class RandomLossWeighting(Balancer):
    """RLW: weights drawn anew each step, softmax of standard normals (Lin et al. 2022)."""

    random = True

    def weights(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """softmax(N(0, 1)), with sum 1; drawn on the CPU, so that every device draws the same."""
        return torch.softmax(torch.randn(len(losses)), dim=0).to(losses), state
