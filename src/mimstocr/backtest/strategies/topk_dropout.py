"""The highest scores, of which only a few are exchanged a day."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import enough, order
from mimstocr.backtest.strategy import STRATEGIES, Decision, Moment, Plan, Strategy, View


@STRATEGIES.register("topk_dropout")
class TopkDropout(Strategy):
    """About k stocks, of which at most n_drop are exchanged a day for better ones.

    The method of Qlib's TopkDropoutStrategy with its choices "bottom" and "top". Every day the held stocks are put
    together with as many of the best others as are missing to k + n_drop; those held that are among the n_drop lowest
    of them all are sold whole, and the best others are bought until k are held, each for the same part of the cash
    after the sells. All else is kept as it is, whatever it has become worth.

    Held stocks without a score come after all others, so they are dropped first; equal scores are taken in the order
    of the columns. As in Qlib the buys count on every sell: when one cannot be filled, or has to wait for
    `hold_days`, more than k are held for a while. With fewer than k + n_drop stocks scored there may be no other to
    buy for one that is sold. More than k + n_drop held stocks, which stuck sells can bring, mean no buys.
    """

    k: PositiveInt = 50
    """Stocks to hold; Qlib's topk."""
    n_drop: PositiveInt = 5
    """Most stocks sold a day."""
    invested: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Fraction of the cash that the buys of a day may spend; Qlib's risk_degree."""
    hold_days: PositiveInt = 1
    """Trading days a stock is held at least, from fill to fill; Qlib's hold_thresh."""

    def plan(self, scores: NDArray[Any], view: View) -> Plan:
        """Decides by what is held; DataError naming the day that has fewer than k scored stocks."""
        enough(scores, self.k, view.days)
        ranked, n_scored = order(scores), np.isfinite(scores).sum(axis=-1)
        absent = np.full(scores.shape[1], -self.hold_days)  # the last day on which a stock was not held

        def decide(moment: Moment) -> Decision | None:
            day, held = moment.day, moment.shares != 0
            absent[~held] = day
            if not n_scored[day]:
                return None
            sell, buy = self._exchange(held, ranked[day], n_scored[day])
            sell = sell[day - absent[sell] >= self.hold_days]
            return Decision(self._weights(sell, buy, len(held)), of_cash=True)

        return decide

    def _exchange(
        self, held: NDArray[np.bool_], ranked: NDArray[np.int64], n_scored: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The columns to sell and to buy; `ranked` are all columns from the best down, the first n_scored scored."""
        missing = self.k - int(held.sum())
        others = ranked[:n_scored]
        others = others[~held[others]][: max(missing + self.n_drop, 0)]
        together = held.copy()
        together[others] = True
        lowest = ranked[together[ranked]][-self.n_drop :]
        sell = lowest[held[lowest]]
        return sell, others[: len(sell) + missing]

    def _weights(self, sell: NDArray[np.int64], buy: NDArray[np.int64], n: int) -> Values:
        weights = np.full(n, np.nan)
        weights[sell] = 0.0
        weights[buy] = self.invested / max(len(buy), 1)
        return weights
