"""Places in a day's order, with ties kept in sight."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tie_bounds(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last place of each stock's tie in its day's order from the lowest x up, from 0.

    x: float (days, stocks), one stock at least. valid: bool (days, stocks). Both int64 (days, stocks), equal where
    there is no tie; those of invalid stocks mean nothing, but are places too.
    """
    x = x.detach().masked_fill(~valid, math.inf).contiguous()
    ranked = x.sort(dim=-1).values
    last = x.shape[1] - 1
    # NaN would be searched for in vain, beyond the last place
    first = torch.searchsorted(ranked, x).clamp_max(last)
    return first, (torch.searchsorted(ranked, x, right=True) - 1).clamp_min(first)
