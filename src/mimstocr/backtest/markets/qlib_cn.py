"""What Qlib's simulator asks of Chinese stocks."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mimstocr.backtest.market import MARKETS, Fraction, Market, Mask, Prices, Values
from mimstocr.data.panel import Days


@MARKETS.register("qlib_cn")
class QlibCn(Market):
    """Qlib's exchange with its usual Chinese settings, to compare with it: 0.05 % on buys, 0.15 % on sells, 5 at least.

    Differs from cn_a_share as Qlib does: the limit is a change of 9.5 % or more for every stock and day, suspended days
    trade wherever there is a close, and the minimum holds for all costs of an order together.
    """

    commission: Fraction = 0.0005
    """Fraction of the value of buys; on sells `extra_sell` comes on top."""
    extra_sell: Fraction = 0.001
    """Fraction of the value of sells besides the commission; the minimum holds for both together."""
    min_commission: Annotated[float, Field(ge=0)] = 5.0
    """The least that an order pays."""
    lot: Annotated[float, Field(gt=0)] | None = 100.0
    """Real shares in a lot."""
    suspensions: bool = False
    """Whether a stock that is not tradable on a day cannot be traded."""
    price_limits: bool = True
    """Whether `limit` binds."""
    lot_slack: Annotated[float, Field(ge=0, lt=0.5)] = 1e-3
    """By which fraction of a lot an order may miss a whole number of them: 0.1 of a share."""
    limit: Fraction = 0.095
    """A stock that rose by so much cannot be bought, one that fell by so much cannot be sold."""
    both_sides: bool = True
    """Whether at either limit nothing is traded at all, as Qlib's strategies have it (forbid_all_trade_at_limit)."""

    def rates(self, days: Days) -> Values:
        """Of buys the commission, of sells the commission and what comes on top."""
        rates = super().rates(days)
        rates[:, 1, 0] += self.extra_sell
        return rates

    def limits(self, prices: Prices) -> tuple[Mask, Mask]:
        """Where the price moved by the limit or more since the close before."""
        with np.errstate(invalid="ignore"):
            move = prices.fill / prices.before - 1.0
            upper, lower = move >= self.limit, move <= -self.limit
        return (upper | lower, upper | lower) if self.both_sides else (upper, lower)
