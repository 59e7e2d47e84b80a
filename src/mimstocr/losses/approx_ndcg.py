"""Adaptive-k ApproxNDCG: how near a day's ranking is to the ideal one at its top (MiM-StocR, section 4.2).

NDCG counts places, which move in steps; here the places are soft (Qin, Liu and Li, 2010), so that a ranking can
be learned by gradients. The list is cut after k stocks, and k adapts to the day so that no level is cut in two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.autograd.function import once_differentiable

from mimstocr.losses._masked import check_days
from mimstocr.losses._pairs import row_blocks
from mimstocr.losses.base import LOSSES, Kind, Loss
from mimstocr.losses.cross_entropy import cross_entropy

Form = Literal["square", "linear"]


def relevance(levels: Tensor, form: Form = "square") -> Tensor:
    """What a stock of each level is worth: level^2 (the authors' code) or the level itself; any shape."""
    return levels.square() if form == "square" else levels


def expected_relevance(logits: Tensor, form: Form = "square") -> Tensor:
    """The predicted score: the mean relevance under softmax(logits), (..., levels) -> (...)."""
    worth = relevance(torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype), form)
    return (logits.softmax(-1) * worth).sum(-1)


def level_scores(logits: Tensor, levels: Tensor, valid: Tensor, form: Form = "square") -> tuple[Tensor, Tensor]:
    """The predicted and the true relevance, (days, stocks) each, from logits (days, stocks, levels) and levels.

    The predicted one, the score, is finite in invalid places; the true one is junk there, and integer.
    """
    f = expected_relevance(logits.masked_fill(~valid.unsqueeze(-1), 0.0), form)
    return f, relevance(levels, form)


def adaptive_k(levels: Tensor, valid: Tensor, share: float = 0.2) -> Tensor:
    """How many stocks are a day's top: whole levels from the highest down, until they reach `share` (Eq. 7).

    levels: int64 (days, stocks), 0 or more where valid. valid: bool (days, stocks). share: of the day's n valid
    stocks, in (0, 1]; they must be at least tau = ceil(share * n), worked out in whole numbers with the share
    as it was written (0.07 of 100 stocks is 7; floats make it 8). Gives int64 (days,); 0 for a day without
    a valid stock. Raises ValueError on unequal shapes or a share out of range.
    """
    check_days(levels, valid)
    if not 0 < share <= 1:
        raise ValueError(f"expected a share in (0, 1], got {share}")
    n = valid.sum(-1, keepdim=True)
    if levels.shape[1] == 0:
        return n.squeeze(-1)
    written = Fraction(share).limit_denominator(10**6)
    tau = (-(-n * written.numerator // written.denominator)).clamp_min(1)
    ranked = levels.masked_fill(~valid, -1).sort(dim=-1, descending=True).values
    lowest = ranked.gather(-1, tau - 1)  # the level of the stock in place tau is the last to be counted
    return ((levels >= lowest) & valid).sum(-1)


def soft_positions(f: Tensor, valid: Tensor, temperature: float = 1.0) -> Tensor:
    """Each stock's soft place in its day: 1 + sum over j != i of sigmoid(temperature (f_j - f_i)) (Eqs. 5-6).

    f: (days, stocks). valid: bool (days, stocks). temperature: positive; the larger, the nearer to true places.
    Gives (days, stocks), 1 .. n, and 1 in the invalid places. It takes n^2 sigmoids but holds only a block of
    them at once, forward and backward. It can be differentiated once. Raises ValueError on unequal shapes or a
    temperature that is not positive.
    """
    check_days(f, valid)
    if not temperature > 0:
        raise ValueError(f"expected a positive temperature, got {temperature}")
    return _soft_positions(f.masked_fill(~valid, 0.0), valid, temperature).masked_fill(~valid, 1.0)


def approx_ndcg(f: Tensor, w: Tensor, valid: Tensor, k: Tensor, temperature: float = 1.0) -> Tensor:
    """The NDCG of each day's k highest scores, by soft positions (ApproxNDCG@k; Eqs. 3-7).

    f, w, valid: (days, stocks); f is the score, w the relevance, 0 or more, and valid is bool. k: int64 (days,),
    1 or more; more than the day's n counts as n. Gives (days,):

        sum over the k highest f of G_i / log2(1 + pos_i), with G_i = 2^w_i - 1,
        divided by the sum over the k highest G, sorted, of G / log2(1 + place).

    The positions are taken over all n stocks and carry the gradient; which stocks are the k highest carries
    none. Stocks that tie with the k-th score share the places left to them, each counting (k - number above) /
    (number tied), so the order of the stocks never matters; without ties this is the plain selection. A day
    whose gains are all 0, or without a valid stock, gives 0 and no gradient. Raises ValueError on unequal shapes
    or a temperature that is not positive.
    """
    check_days(f, w, valid)
    if k.shape != f.shape[:1]:
        raise ValueError(f"expected one k a day, shape {tuple(f.shape[:1])}, got shape {tuple(k.shape)}")
    if f.shape[1] == 0:
        return f.sum(-1)
    k = k.minimum(valid.sum(-1)).unsqueeze(-1)
    gain = gains(w.to(f.dtype).masked_fill(~valid, 0.0))
    counted = gain * _share_in_top(f.detach().masked_fill(~valid, -math.inf), k)
    dcg = (counted / torch.log2(1 + soft_positions(f, valid, temperature))).sum(-1)
    ideal = ideal_dcg(gain, k)
    return dcg / ideal.masked_fill(ideal == 0, 1.0)


def approx_ndcg_loss(f: Tensor, w: Tensor, valid: Tensor, k: Tensor, temperature: float = 1.0) -> Tensor:
    """exp(-ApproxNDCG@k) of each day, from 1 at worst down to 1/e (Eq. 8); arguments as in `approx_ndcg`.

    It lifts the gains that are among the k highest scores already; a stock below the cut it only pushes down,
    whatever its gain. The cross-entropy beside it (Eq. 9) brings such a stock up, or k = n does. A day whose
    gains are all 0 has no ranking to learn: it gives 0 and no gradient.
    """
    no_gain = ~((w > 0) & valid).any(-1)
    return (-approx_ndcg(f, w, valid, k, temperature)).exp().masked_fill(no_gain, 0.0)


def gains(w: Tensor) -> Tensor:
    """2^w - 1, over 2^(the day's highest w): a ratio needs no more, and 2^(12^2) does not fit in float32."""
    top = w.amax(-1, keepdim=True)
    return torch.exp2(w - top) - torch.exp2(-top)


def ideal_dcg(gain: Tensor, k: Tensor) -> Tensor:
    """The k highest gains at the places 1 .. k, (days,)."""
    place = torch.arange(1, gain.shape[1] + 1, device=gain.device)
    best = gain.sort(dim=-1, descending=True).values
    return (best / torch.log2(1 + place.to(gain.dtype))).masked_fill(place > k, 0.0).sum(-1)


@LOSSES.register("approx_ndcg")
class ApproxNdcg(Loss):
    """Cross-entropy of levels together with exp(-ApproxNDCG@k) of their ranking (MiM-StocR, Eq. 9)."""

    targets: ClassVar[tuple[Kind, ...]] = ("level",)

    k: Literal["adaptive", "all"] | PositiveInt = "adaptive"
    """Stocks that count: "adaptive" takes whole levels up to `share`, "all" cuts nothing, a number is fixed."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Least part of the day's stocks that an adaptive k takes in; a fifth, as in the paper."""
    temperature: PositiveFloat = 1.0
    """Steepness of the soft positions, per unit of expected relevance."""
    relevance: Form = "square"
    """A level's worth: "square" of it, as the authors' code runs, or "linear"."""
    lambda_ce: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the cross-entropy; the ranking term has the rest."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """lambda_ce * cross-entropy + (1 - lambda_ce) * exp(-ApproxNDCG@k) of each day, (days,)."""
        per_level = cross_entropy(output, target, valid)
        f, w = level_scores(output, target, valid, self.relevance)
        ranking = approx_ndcg_loss(f, w, valid, self._k(target, valid), self.temperature)
        return self.lambda_ce * per_level + (1 - self.lambda_ce) * ranking

    def diagnostics(self, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """The k that each day used, float (days,)."""
        return {"k": self._k(target, valid).to(torch.get_default_dtype())}

    def _k(self, levels: Tensor, valid: Tensor) -> Tensor:
        if self.k == "adaptive":
            return adaptive_k(levels, valid, self.share)
        n = valid.sum(-1)
        return n if self.k == "all" else n.clamp_max(self.k)


def _share_in_top(f: Tensor, k: Tensor) -> Tensor:
    """How much of each stock is among the k highest f, 0 .. 1, adding up to k; f is -inf where not valid."""
    bound = f.sort(dim=-1, descending=True).values.gather(-1, (k - 1).clamp_min(0))
    above, tied = f > bound, f == bound
    left = k - above.sum(-1, keepdim=True)
    return above + tied * (left.to(f.dtype) / tied.sum(-1, keepdim=True))


class _SoftPositions(torch.autograd.Function):
    """`soft_positions` of an f finite everywhere; plain autograd would keep several n x n steps for backward."""

    @staticmethod
    def forward(f: Tensor, valid: Tensor, temperature: float) -> Tensor:
        positions = torch.empty_like(f)
        for rows, ahead in _sigmoids(f, valid, temperature):
            positions[:, rows] = ahead.sum(-1)
        # Each stock was ahead of itself by sigmoid(0) = 1/2, where it counts as 1.
        return positions.add_(0.5)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:  # noqa: ARG004
        f, valid, ctx.temperature = inputs
        ctx.save_for_backward(f, valid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """For stock m, temperature * sum over i of slope_mi (grad_i - grad_m): the slopes are symmetric.

        Invalid columns have no slope; what the invalid rows get ends at the masking of f in `soft_positions`.
        """
        f, valid = ctx.saved_tensors
        found = torch.empty_like(f)
        pull: Tensor | None = None  # like the sigmoids, one buffer for all blocks
        for rows, s in _sigmoids(f, valid, ctx.temperature):
            slope = s.addcmul_(s, s, value=-1)
            pull = torch.empty_like(slope) if pull is None else pull[:, : slope.shape[1]]
            torch.sub(grad.unsqueeze(1), grad[:, rows].unsqueeze(2), out=pull)
            found[:, rows] = pull.mul_(slope).sum(-1)
        return found.mul_(ctx.temperature), None, None


_soft_positions: Callable[[Tensor, Tensor, float], Tensor] = _SoftPositions.apply


def _sigmoids(f: Tensor, valid: Tensor, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows i with their sigmoid(temperature (f_j - f_i)), (days, rows, stocks), 0 where j is not valid.

    Each block overwrites the one before: fresh memory for each would cost more than the sums.
    """
    columns = f.masked_fill(~valid, -math.inf).unsqueeze(1)
    blocks = row_blocks(f)
    buffer = f.new_empty(len(f), blocks[0].stop if blocks else 0, f.shape[1])
    for rows in blocks:
        block = buffer[:, : rows.stop - rows.start]
        # The difference first: a temperature times two huge scores would make it inf - inf.
        torch.sub(columns, f[:, rows].unsqueeze(2), out=block)
        yield rows, block.mul_(temperature).sigmoid_()
