"""LambdaLoss: pairs weighted by what NDCG has at stake in their order (Wang et al., CIKM 2018)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import logsigmoid

from mimstocr.losses._masked import check_days
from mimstocr.losses._pairs import Weigh, pair_sum
from mimstocr.losses._ranking import Ranking
from mimstocr.losses._ties import tie_bounds
from mimstocr.losses.approx_ndcg import gains, ideal_dcg, relevance
from mimstocr.losses.base import LOSSES

TOP_LEVEL = 4
"""The level that the highest of a day's real values counts as; the lowest counts as level 0."""


def lambda_loss(
    f: Tensor, w: Tensor, valid: Tensor, k: int | None = None, mu: float = 10.0, temperature: float = 1.0
) -> Tensor:
    """NDCG-Loss2++ of each day, over n: over the pairs with w_i > w_j, 1 / n of the sum of

        (rho_ij + mu delta_ij) (G_i - G_j) log2(1 + e^(-temperature (f_i - f_j))),

    with G = (2^w - 1) / (the ideal DCG), places p by the scores f, D(p) = log2(1 + p), d = |p_i - p_j|,
    rho_ij = |1 / D(p_i) - 1 / D(p_j)| and delta_ij = 1 / D(d) - 1 / D(d + 1).

    f, w, valid: (days, stocks); f is the score, w the relevance, 0 or more, and valid is bool. k: the cut of
    NDCG@k, 1 or more: then 1 / D is 0 beyond place k in rho and the ideal DCG, and delta is divided by
    1 - 1 / D(max(p_i, p_j)) where that place is beyond k (Jagerman et al., SIGIR 2022). mu: 0 or more.
    temperature: positive, the paper's sigma.

    The places carry no gradient. Stocks of equal score have what their places hold on average: 1 / D, the
    divisor of delta, and the distance, (m + 1) / 3 within a tie of m; so the order of the stocks never matters.
    A day whose w are all equal, or without a valid stock, gives 0 and no gradient. The paper has the sum; it
    grows about as n, so it is divided by n, for a day of many stocks to weigh as one of few. Gives (days,). It
    holds only a block of the n^2 pairs at once and can be differentiated once. Raises ValueError on unequal
    shapes, or a k, mu or temperature out of range.
    """
    check_days(f, w, valid)
    if not (temperature > 0 and mu >= 0 and (k is None or k >= 1)):
        raise ValueError(f"expected a positive temperature, mu >= 0 and k >= 1, got {temperature}, {mu} and {k}")
    if f.shape[1] == 0:
        return f.sum(-1)
    n = valid.sum(-1, keepdim=True)
    gain = gains(w.to(f.dtype).masked_fill(~valid, 0.0))
    ideal = ideal_dcg(gain, n if k is None else n.clamp_max(k)).unsqueeze(-1)
    gain = gain / ideal.masked_fill(ideal == 0, 1.0)
    stakes = _stakes(f, valid, k, mu)

    def weigh(rows: slice) -> Tensor:
        return stakes(rows).mul_(gain[:, rows].unsqueeze(2) - gain.unsqueeze(1))

    def cost(weight: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        lead = gap.mul_(temperature).mul_(weight.sign())  # of the better stock of the pair
        return -weight.abs() * logsigmoid(lead), -temperature * weight * lead.neg().sigmoid_()

    total = pair_sum(f, valid, weigh, cost) / 2  # each pair was met in both orders
    return total / math.log(2) / n.squeeze(-1).clamp_min(1)


@LOSSES.register("lambda_loss")
class LambdaLoss(Ranking):
    """NDCG-Loss2++ of the LambdaLoss framework beside the pointwise loss."""

    k: Literal["all"] | PositiveInt = "all"
    """Places of the NDCG that it bounds: a number, or "all"."""
    mu: Annotated[float, Field(ge=0)] = 10.0
    """Weight of NDCG-Loss2 beside LambdaRank's weights; 10 as in the paper, 0 is LambdaRank."""
    temperature: PositiveFloat = 1.0
    """Steepness of a pair's probability, per unit of score (the paper's sigma)."""

    def ranking(self, f: Tensor, w: Tensor, valid: Tensor) -> Tensor:
        """NDCG-Loss2++ of each day, (days,); see `lambda_loss`."""
        return lambda_loss(f, w, valid, None if self.k == "all" else self.k, self.mu, self.temperature)

    def worth(self, values: Tensor, valid: Tensor) -> Tensor:
        """Real values as levels from 0, the day's lowest, to 4, its highest, in even steps of rank; ties share."""
        if values.shape[1] == 0:
            return values
        first, last = tie_bounds(values, valid)
        steps = (valid.sum(-1, keepdim=True) - 1).clamp_min(1)
        return relevance(TOP_LEVEL / 2 * (first + last).to(values.dtype) / steps, self.relevance)


def _stakes(f: Tensor, valid: Tensor, k: int | None, mu: float) -> Weigh:
    """rho + mu delta of the pairs in a block of rows, (days, rows, stocks), from the places by f."""
    first, last = tie_bounds(-f, valid)
    place = torch.arange(1, f.shape[1] + 1, device=f.device)
    cut = place > (f.shape[1] if k is None else k)
    by_place = 1 / torch.log2(1 + place.double())
    discount = _tie_mean(by_place.masked_fill(cut, 0.0), first, last).to(f.dtype)
    boost = _tie_mean((1 / (1 - by_place)).masked_fill(~cut, 1.0), first, last).to(f.dtype)
    place = ((first + last) / 2).to(f.dtype)
    within = (last - first + 2).to(f.dtype) / 3  # the mean distance of two places of a tie

    def stakes(rows: slice) -> Tensor:
        mine, all_ = place[:, rows].unsqueeze(2), place.unsqueeze(1)
        distance = (mine - all_).abs_()
        delta = _delta(distance.add_((distance == 0) * within[:, rows].unsqueeze(2)))
        if k is not None:
            delta *= torch.where(mine > all_, boost[:, rows].unsqueeze(2), boost.unsqueeze(1))
        return (discount[:, rows].unsqueeze(2) - discount.unsqueeze(1)).abs_().add_(delta, alpha=mu)

    return stakes


def _delta(d: Tensor) -> Tensor:
    """1 / log2(1 + d) - 1 / log2(2 + d), in a form that keeps its digits where d is large; d is positive."""
    near = (1 + d).log_()
    step = (1 + d).reciprocal_().log1p_()
    return step / (near * (near + step)) * math.log(2)


def _tie_mean(by_place: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The mean of by_place, (stocks,), over the places first .. last, (days, stocks)."""
    total = torch.cat([by_place.new_zeros(1), by_place.cumsum(0)])
    return (total[last + 1] - total[first]) / (last - first + 1)
