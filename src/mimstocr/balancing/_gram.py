"""Balancers whose step is a weighted sum of the task gradients, with weights from their K x K Gram matrix alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.balancing.base import Balancer, State

Matrix = NDArray[np.float64]
CLOSE = 1e-13
"""Part of a squared length within which two inner products count as equal."""


class GramBalancer(Balancer):
    """A step that is a weighted sum of the task gradients, with weights from their inner products.

    The weights are found on the CPU in float64. They must not depend on a factor that all gradients share.
    """

    reads = "gradients"

    @abstractmethod
    def solve(self, gram: Tensor) -> Tensor:
        """Weights (K,) from the inner products (K, K) of the gradients, which are not all zero; both float64."""

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:  # noqa: ARG002
        """Every weight 1."""
        return {"weight": torch.ones(n_tasks, dtype=torch.float64)}

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """The weighted sum of the gradients."""
        gram = inner_products(gradients)
        if not gram.isfinite().all() or not gram.any():
            # nothing to weigh: a sum of zeros is zero, one that is not finite is the loop's to report
            return gradients.sum(dim=0), state
        weight = self.solve(gram)
        return combine(weight, gradients), {**state, "weight": weight}

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """The weights of the latest step."""
        return {"weight": state["weight"].tolist()}


def inner_products(gradients: Tensor) -> Tensor:
    """Inner products (K, K) of the rows over the square of their largest absolute value; float64, on the CPU."""
    whole = gradients.double()
    largest = whole.abs().amax()
    whole = whole / torch.where(largest > 0, largest, torch.ones_like(largest))
    return (whole @ whole.T).cpu()


def combine(weight: Tensor, gradients: Tensor) -> Tensor:
    """The sum (P,) of the rows with weights (K,), added in float64: weights may be large where rows cancel."""
    return (weight.to(gradients.device) @ gradients.double()).to(gradients.dtype)


def directions(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The cosines (K, K) between the gradients, and 1 over their lengths (K,); both 0 for a zero gradient."""
    lengths = gram.diagonal().sqrt()
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    return (gram * inverse[:, None] * inverse).clamp(-1, 1), inverse


def nearest(gram: Matrix) -> Matrix:
    """Weights (K,), none below 0 and with sum 1, of the shortest vector in the convex hull of K vectors.

    Exact after finitely many steps (Wolfe 1976, "Finding the nearest point in a polytope"). `gram` (K, K) are the
    vectors' inner products.
    """
    diagonal = gram.diagonal()
    corners = [int(diagonal.argmin())]
    weights = np.zeros(len(gram))
    weights[corners] = 1.0
    for _ in range(10 * len(gram)):  # enough by far; rounding alone could go around in circles
        products = gram @ weights
        new = int(products.argmin())
        if new in corners or products[new] >= weights @ products - CLOSE * diagonal[corners].max():
            break
        corners.append(new)
        weights, corners = _descend(gram, weights, corners)
    return weights


def _descend(gram: Matrix, weights: Matrix, corners: list[int]) -> tuple[Matrix, list[int]]:
    """Go to the shortest vector of the corners' affine hull; on the way drop the corners whose weight runs out."""
    while True:
        aim = np.zeros_like(weights)
        aim[corners] = _shortest_affine(gram, corners)
        out = [k for k in corners if aim[k] <= 0]
        if not out:
            return aim, corners
        part = min(weights[k] / (weights[k] - aim[k]) if weights[k] > 0 else 0.0 for k in out)
        weights = (1 - part) * weights + part * aim
        gone = [k for k in out if weights[k] <= CLOSE]
        weights[gone] = 0.0
        corners = [k for k in corners if k not in gone]


def _shortest_affine(gram: Matrix, corners: list[int]) -> Matrix:
    """Weights with sum 1, of any sign, of the shortest vector in the affine hull of the corners."""
    base = min(range(len(corners)), key=lambda i: gram[corners[i], corners[i]])
    others = [k for i, k in enumerate(corners) if i != base]
    b = corners[base]
    # the vectors from the base to the others, each in its own unit, so that short ones are not lost beside long ones
    between = gram[np.ix_(others, others)] - gram[others, b][:, None] - gram[others, b] + gram[b, b]
    lengths = np.sqrt(np.maximum(between.diagonal(), 0.0))
    unit = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    found = np.linalg.lstsq(between * unit[:, None] * unit, (gram[b, b] - gram[others, b]) * unit, rcond=None)[0] * unit
    return np.insert(found, base, 1.0 - found.sum())
