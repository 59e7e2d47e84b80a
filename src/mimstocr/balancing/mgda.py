"""The multiple-gradient descent algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from mimstocr.balancing._gram import GramBalancer, nearest
from mimstocr.balancing.base import BALANCERS


@BALANCERS.register("mgda")
class Mgda(GramBalancer):
    """MGDA: the shortest vector in the convex hull of the task gradients (Sener & Koltun 2018; Desideri 2012).

    Found exactly, by Wolfe's algorithm; for two tasks that is the paper's closed form. (The Frank-Wolfe steps of the
    paper approach it slowly from three tasks on.)
    """

    def solve(self, gram: Tensor) -> Tensor:
        """The weights of the shortest vector; none is negative, and their sum is 1."""
        return torch.from_numpy(nearest(gram.numpy()))
