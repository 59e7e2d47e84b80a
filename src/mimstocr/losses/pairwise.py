"""The pairwise hinge: no pair of stocks in the wrong order (RSR; Feng et al., TOIS 2019)."""

from __future__ import annotations

from torch import Tensor

from mimstocr.losses._masked import check_days
from mimstocr.losses._pairs import pair_sum
from mimstocr.losses._ranking import Ranking
from mimstocr.losses.base import LOSSES


def pairwise_hinge(f: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """The mean over i and j of relu(-(f_i - f_j) (y_i - y_j)), RSR's Equation 8 over n^2 (as its code has it).

    f, y, valid: (days, stocks); f is the score, y the return or relevance, and valid is bool. The mean is over
    all n^2 ordered pairs of the day's valid stocks, so the n pairs i = j are counted, each 0. Gives (days,), in
    units of f times y. Equal scores cost nothing and have slope 0: a model that gives one score to all is not
    moved by this term, only by the pointwise one beside it. A day without a valid stock gives 0 and no gradient.
    It can be differentiated once. Raises ValueError on unequal shapes.
    """
    check_days(f, y, valid)
    y = y.to(f.dtype).masked_fill(~valid, 0.0)
    total = pair_sum(f, valid, lambda rows: y[:, rows].unsqueeze(2) - y.unsqueeze(1), _hinge)
    return total / valid.sum(-1).clamp_min(1).square()


@LOSSES.register("pairwise")
class Pairwise(Ranking):
    """Pairwise hinge of RSR beside the pointwise loss; MiM-StocR's ablation "Pair-wise" on levels."""

    def ranking(self, f: Tensor, w: Tensor, valid: Tensor) -> Tensor:
        """The mean hinge of each day, (days,); see `pairwise_hinge`."""
        return pairwise_hinge(f, w, valid)


def _hinge(weight: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """relu(-weight * gap) and its slope in the gap, 0 at the kink."""
    hinge = (weight * gap).neg_().relu_()
    return hinge, -weight * (hinge > 0)
