"""ListMLE: the likelihood of the true order under Plackett and Luce (Xia et al., ICML 2008)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mimstocr.losses._masked import check_days, daily_mean
from mimstocr.losses._ranking import Ranking
from mimstocr.losses._ties import tie_bounds
from mimstocr.losses.base import LOSSES


def listmle(f: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """-log of the chance that stocks drawn one by one, with odds e^f, come from the highest y down, over n.

    f, y, valid: (days, stocks); f is the score, of y only the order counts, and valid is bool. Stocks of equal y
    form a group without an order: the m stocks of a group of odds G in all, above stocks of odds R in all, add

        log(R + G) + log(R + G (m - 1) / m) + .. + log(R + G / m) - log(m!) - (the sum of their f).

    This is Efron's rule for ties in Cox's likelihood (JASA 1977), times the m! orders of a group: exact where the
    group's scores are equal, Plackett-Luce itself where no two y are, and never a matter of the order of the
    stocks. It is 0 at best, with each group's scores equal and far above the next group's. The sum is divided by n,
    so that a day of many stocks weighs as one of few. Gives (days,), in nats a stock; 0 and no gradient for a day
    without a valid stock. Raises ValueError on unequal shapes.
    """
    check_days(f, y, valid)
    if f.shape[1] == 0:
        return f.sum(-1)
    y = y.to(f.dtype).masked_fill(~valid, math.inf)
    order = y.argsort(-1)  # from the lowest y up, invalid stocks after all others
    y, f, valid = (x.gather(-1, order) for x in (y, f.masked_fill(~valid, 0.0), valid))
    first, last = tie_bounds(y, valid)
    drawn, size = torch.arange(f.shape[1], device=f.device) - first + 1, last - first + 1
    group = _log_total(f, first) - size.to(f.dtype).log()
    below = f.logcumsumexp(-1).gather(-1, (first - 1).clamp_min(0)).masked_fill(first == 0, -math.inf)
    return daily_mean(torch.logaddexp(below - drawn.to(f.dtype).log(), group) - f, valid)


@LOSSES.register("listmle")
class ListMle(Ranking):
    """ListMLE, with ties as groups without an order, beside the pointwise loss."""

    def ranking(self, f: Tensor, w: Tensor, valid: Tensor) -> Tensor:
        """-log likelihood a stock of each day, (days,); see `listmle`."""
        return listmle(f, w, valid)


def _log_total(f: Tensor, group: Tensor) -> Tensor:
    """The log of the sum of e^f over each stock's group, (days, stocks), where a group is named by a column."""
    top = torch.zeros_like(f).scatter_reduce(-1, group, f.detach(), "amax", include_self=False).gather(-1, group)
    total = torch.zeros_like(f).scatter_add(-1, group, (f - top).exp())
    return top + total.gather(-1, group).log()
