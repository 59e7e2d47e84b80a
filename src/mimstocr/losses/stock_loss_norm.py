"""StockLoss-Norm, the fourth loss of the profit-guided paper: profit over that of the same sizes held long."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor

from mimstocr.losses._positions import Sign, StockLoss, positions, where_defined
from mimstocr.losses.base import LOSSES

Form = Literal["published", "safe"]


def stock_loss_norm(
    output: Tensor,
    gains: Tensor,
    valid: Tensor,
    *,
    sign: Sign = "smooth",
    gamma: float = 5.0,
    form: Form = "published",
    eps: float = 1e-8,
) -> Tensor:
    """-sum_i |o_i| s_i d_i / sum_i |o_i| d_i, Equation 4 of the paper; safe: over sum_i |o_i| |d_i| + eps.

    Arguments as in `stock_loss`; eps > 0 is in the unit of |o| d. Gives (days,), without unit; the safe form lies in
    -1 (every position on its right side) .. 1. Hold, where there is one, has no part in it and no gradient.

    The published denominator is below 0 on a day on which the sizes held long would lose, and then the loss falls as
    the positions lose more; near 0 it makes the loss as large as one likes. A day without a valid stock, or whose
    denominator is 0, gives 0 and no gradient. Raises ValueError on unequal shapes, gamma or eps <= 0, or another form.
    """
    if form not in ("published", "safe"):
        raise ValueError(f"expected form published or safe, got {form!r}")
    if not eps > 0:
        raise ValueError(f"expected a positive eps, got {eps}")
    day = positions(output, gains, valid, sign, gamma)
    profit = (day.sizes * day.signs * day.gains).sum(-1)
    below = (day.sizes * day.gains).sum(-1) if form == "published" else (day.sizes * day.gains.abs()).sum(-1) + eps
    return -where_defined(profit / below.masked_fill(below == 0, 1.0), below != 0)


@LOSSES.register("stock_loss_norm")
class StockLossNorm(StockLoss):
    """Minus the profit over that of the same sizes held long: StockLoss-Norm, L4 of the profit-guided paper."""

    form: Form = "published"
    """"published" divides by the profit of the same sizes held long, which turns the aim round where that is below 0;
    "safe" by what could have been earned at most."""
    eps: PositiveFloat = 1e-8
    """Added to the safe form's denominator, which is near 0.01 for full positions and gains of 1 %."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss of each day, (days,); see `stock_loss_norm`."""
        return stock_loss_norm(output, target, valid, sign=self.sign, gamma=self.gamma, form=self.form, eps=self.eps)

    def cautions(self, hold: bool) -> list[str]:
        """What the published form turns round, and that Hold is not learned."""
        told = []
        if hold:
            told.append(
                f"loss {self.kind} has no part for Hold, whose share of the money is then what an untrained head says; "
                "set hold: false"
            )
        if self.form == "published":
            told.append(
                f"loss {self.kind} in its published form rewards losses on days on which its sizes held long would "
                "lose; loss.form: safe does not"
            )
        return told
