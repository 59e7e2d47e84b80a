"""StockLoss-L2, the third loss of the profit-guided paper: the root mean square of the profits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mimstocr.losses._positions import Reward, Sign, StockLoss, hold_cautions, largest, positions, where_defined
from mimstocr.losses.base import LOSSES

Form = Literal["published", "signed"]


def stock_loss_l2(
    output: Tensor,
    gains: Tensor,
    valid: Tensor,
    *,
    sign: Sign = "smooth",
    gamma: float = 5.0,
    hold_reward: float = 1.0,
    form: Form = "published",
) -> Tensor:
    """Equation 3 of the paper, where hold_reward is 1, or with the sign of each profit kept.

    q_i = s_i d_i / max_j |d_j|. published: 1 - sqrt(sum_i v_i q_i^2 + hold_reward v_h^2). signed: 1 - sign(u) sqrt(|u|)
    - hold_reward v_h^2 with u = sum_i v_i sign(q_i) q_i^2. Arguments and shares as in `stock_loss`. Gives (days,),
    without unit: 0 for perfect foresight, and, signed, 2 for its opposite.

    The published form does not change when outputs change their signs, hard or smooth: it learns which stocks will
    move, and not where to. Both have an infinite slope where u, or the sum under the root, comes to 0; where it is 0
    they have none. A day without a valid stock, on which nothing moves, or whose outputs are all 0, gives 0 and no
    gradient. Raises ValueError on unequal shapes, gamma <= 0 or another form.
    """
    if form not in ("published", "signed"):
        raise ValueError(f"expected form published or signed, got {form!r}")
    day = positions(output, gains, valid, sign, gamma)
    most = largest(day.gains)
    q = day.signs * day.gains / most.masked_fill(most == 0, 1.0).unsqueeze(-1)
    cash = hold_reward * day.hold.square()
    if form == "published":
        value = 1 - _root((day.shares * q.square()).sum(-1) + cash)
    else:
        value = 1 - _root((day.shares * q * q.abs()).sum(-1)) - cash
    return where_defined(value, day.defined, most != 0)


@LOSSES.register("stock_loss_l2")
class StockLossL2(StockLoss):
    """1 minus the root mean square of the profits: StockLoss-L2, L3 of the profit-guided paper, which favours it."""

    form: Form = "published"
    """"published" squares the sign of a profit away, so it learns which stocks will move, and not where to; "signed"
    keeps it."""
    hold_reward: Reward = 1.0
    """What the squared share of Hold is paid, in units of the day's largest move: 1 as published, as much as perfect
    foresight; 0 pays cash nothing."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss of each day, (days,); see `stock_loss_l2`."""
        return stock_loss_l2(
            output,
            target,
            valid,
            sign=self.sign,
            gamma=self.gamma,
            hold_reward=self.hold_reward,
            form=self.form,
        )

    def cautions(self, hold: bool) -> list[str]:
        """Whether Hold is paid too much, and what the published form cannot learn."""
        told = hold_cautions(self, hold, self.hold_reward, "all the money, in units of the largest move")
        if self.form == "published":
            told.append(
                f"loss {self.kind} in its published form is the same for a long and a short position, so what side "
                "they are on is chance; loss.form: signed learns it"
            )
        return told


def _root(u: Tensor) -> Tensor:
    """sign(u) sqrt(|u|), without a gradient where u is 0."""
    zero = u == 0
    return u.sign() * u.abs().masked_fill(zero, 1.0).sqrt()
