"""Sums over all pairs of a day's stocks, of which only a block is held at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**17
"""Pairs of stocks held at once: 512 KiB in float32, which stays in a processor's cache."""
GPU_BLOCK = 2**24
"""The same away from the CPU: 64 MiB, so that each launch has enough to do."""

Weigh = Callable[[slice], Tensor]
Cost = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def row_blocks(f: Tensor) -> list[slice]:
    """The stocks of f, (days, stocks), in runs that make at most `BLOCK` pairs with all stocks, or in ones."""
    days, n = f.shape
    pairs = BLOCK if f.device.type == "cpu" else GPU_BLOCK
    step = max(1, pairs // max(1, days * n))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def pair_sum(f: Tensor, valid: Tensor, weigh: Weigh, cost: Cost) -> Tensor:
    """Each day's sum of cost(weight_ij, f_i - f_j) over the ordered pairs (i, j) of its valid stocks, (days,).

    f: (days, stocks). valid: bool (days, stocks). weigh(rows): the weights of the stocks `rows` with all stocks,
    a new tensor (days, rows, stocks), where weight_ij = -weight_ji. cost(weight, gap): the costs, and their
    slopes in the gap, both 0 where the weight is; cost(-weight, -gap) = cost(weight, gap). It can be
    differentiated once, in f.
    """
    f = f.masked_fill(~valid, 0.0)
    with torch.no_grad():  # plain autograd would keep every n x n step for backward
        totals, slopes = torch.empty_like(f), torch.empty_like(f)
        for rows in row_blocks(f):
            weight = weigh(rows).masked_fill_(~valid.unsqueeze(1), 0.0)
            costs, steps = cost(weight, f[:, rows].unsqueeze(2) - f.unsqueeze(1))
            totals[:, rows], slopes[:, rows] = costs.sum(-1), steps.sum(-1)
        total = totals.masked_fill_(~valid, 0.0).sum(-1)
        # a pair is met in both orders, with the same cost and thus the opposite slope
        slope = slopes.mul_(2)
    return _with_slope(f, total, slope)


class _WithSlope(torch.autograd.Function):
    """`total` (days,), whose gradient in f (days, stocks) is known to be `slope`."""

    @staticmethod
    def forward(f: Tensor, total: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG004
        return total.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # create_graph: the slope would silently count as a constant
            raise RuntimeError("a sum over pairs can be differentiated only once; create_graph asks for more")
        return grad.unsqueeze(-1) * ctx.saved_tensors[0], None, None


_with_slope: Callable[[Tensor, Tensor, Tensor], Tensor] = _WithSlope.apply
