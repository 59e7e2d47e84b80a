"""ListNet: the scores' chances to be first against the targets' (Cao et al., ICML 2007)."""

from __future__ import annotations

import torch
from torch import Tensor

from mimstocr.losses._masked import check_days
from mimstocr.losses._ranking import Ranking
from mimstocr.losses.base import LOSSES


def listnet(f: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of the top-one probabilities: -sum_i softmax(y)_i log softmax(f)_i, in nats.

    f, y, valid: (days, stocks); f is the score, y the target, both in units of log odds, and valid is bool.
    Gives (days,), at least the entropy of softmax(y), which is reached where f differs from y by one shift. A
    day without a valid stock gives 0 and no gradient. Raises ValueError on unequal shapes.
    """
    check_days(f, y, valid)
    if f.shape[1] == 0:
        return f.sum(-1)
    lowest = torch.finfo(f.dtype).min
    p = y.to(f.dtype).masked_fill(~valid, lowest).softmax(-1)
    log_q = f.masked_fill(~valid, lowest).log_softmax(-1)
    return -(p * log_q).masked_fill(~valid, 0.0).sum(-1)


@LOSSES.register("listnet")
class ListNet(Ranking):
    """ListNet's top-one cross-entropy beside the pointwise loss."""

    def ranking(self, f: Tensor, w: Tensor, valid: Tensor) -> Tensor:
        """The cross-entropy of each day, (days,); see `listnet`. Real targets enter as the task gives them."""
        return listnet(f, w, valid)
