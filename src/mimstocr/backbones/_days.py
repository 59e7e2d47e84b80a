"""What the backbones share: rows to places, and attention within days that have places without a stock."""

from __future__ import annotations

import torch
from torch import Tensor

SHORTEST = 1e-6
"""A vector below this length has no direction."""


def to_places(rows: Tensor, valid: Tensor) -> Tensor:
    """[M, H], one row for each true place of `valid` [D, N] in its order, to [D, N, H]; zeros elsewhere."""
    places: Tensor = rows.new_zeros(*valid.shape, rows.shape[-1]).masked_scatter(valid[..., None], rows)
    return places


def masked_softmax(scores: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the places where `mask` is true, 0 at the others; all 0 where there is none.

    mask is bool and broadcasts to `scores`. Always finite, and so is its gradient, for finite scores.
    """
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim) * mask


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosines of the rows of x [D, N, H] with those of y [D, M, H], [D, N, M]; 0 with a vector of no direction."""
    return _unit(x) @ _unit(y).transpose(1, 2)


def _unit(x: Tensor) -> Tensor:
    square = x.square().sum(-1, keepdim=True)
    directed = square > SHORTEST**2
    # not a division by a clamped length: its gradient at 0 would be 1 / SHORTEST
    return x * square.where(directed, 1.0).rsqrt() * directed
