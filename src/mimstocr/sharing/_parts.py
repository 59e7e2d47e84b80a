"""What the structures are made of: towers, dense layers, gates, and the rows of the stocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

SLOPE = 0.1
"""Of the leaky ReLU below 0, as in the MLP backbone."""


def towers(make: Callable[[], nn.Module], n: int, *, alike: bool) -> nn.ModuleList:
    """n modules: `alike`, copies of one, which start from the same weights; else each fresh from `make`."""
    first = make()
    return nn.ModuleList([first, *(deepcopy(first) if alike else make() for _ in range(1, n))])


def dense(n_inputs: int, width: int) -> nn.Sequential:
    """A fully connected layer with a leaky ReLU; He's normal initial weights by fan-in, as in the MLP backbone."""
    linear = nn.Linear(n_inputs, width)
    nn.init.kaiming_normal_(linear.weight, a=SLOPE)
    return nn.Sequential(linear, nn.LeakyReLU(SLOPE))


class Gate(nn.Module):
    """softmax(W x) over experts, without a bias (Ma et al. 2018; Tang et al. 2020)."""

    def __init__(self, n_inputs: int, n_experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, n_experts, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[M, n_inputs] to weights [M, experts] that sum to 1."""
        weights: Tensor = self.linear(rows).softmax(-1)
        return weights


def mixed(weights: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """sum_e weights[:, e] * experts[e], [M, H], of weights [M, E] and E tensors [M, H]."""
    return (weights[..., None] * torch.stack(list(experts), dim=1)).sum(dim=1)


def windows_of(x: Tensor, valid: Tensor) -> Tensor:
    """The flattened windows [M, L * F] of the valid stocks, from [D, N, L, F] and bool [D, N]."""
    return x[valid].flatten(1)
