"""Another strategy's weights, each scaled to one volatility."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.backtest.strategy import (
    STRATEGIES,
    AnyStrategy,
    Decision,
    Moment,
    Plan,
    Strategy,
    View,
    day_name,
)
from mimstocr.errors import DataError


@STRATEGIES.register("vol_scaled")
class VolScaled(Strategy):
    """The weights of another strategy, scaled so that every stock brings the same risk.

    w_i = w_i(of) x target / (sigma_i x sqrt(days_per_year)), sigma_i the stock's expected daily volatility: the sizing
    of time-series momentum (Moskowitz, Ooi and Pedersen, JFE 2012, eq. 5, with a target of 40 % for single futures). A
    position of weight 1 would have the target as its yearly volatility; that of the account is below it, as stocks are
    not of one mind.

    - A stock without a forecast, or with a volatility of 0, has weight 0; the days on which `of` would have held such a
      stock are counted as `forecast`.
    - No weight is scaled by more than `max_scale`; the days on which one would have been are counted as
      `target_for_max_scale`.
    - Where the sizes of all weights sum to more than `max_leverage`, all are scaled down to it; these days are counted
      as `target_for_max_leverage`. What is not invested is cash.
    """

    of: AnyStrategy = TopK()
    """Whose weights: any strategy whose weights depend on the predictions alone, not on what is held."""
    target: Annotated[float, Field(gt=0)] = 0.2
    """Yearly volatility of a position of weight 1, as a fraction."""
    forecast: str | None = None
    """Column of the predictions with the daily volatility, as a fraction; none: the standard deviation of past
    returns."""
    window: Annotated[int, Field(ge=2)] = 60
    """Days of past returns, where there is no column: of the last so many days up to the one that decides those count
    on which, as on the day before, the stock was traded; a stock with fewer than half of them has no forecast."""
    max_scale: Annotated[float, Field(gt=0)] = 2.0
    """The most by which a weight is scaled; prices that hardly move would take all the money otherwise."""
    max_leverage: Annotated[float, Field(gt=0)] = 1.0
    """The largest sum of the sizes of all weights; above 1 the market must allow it."""

    @field_validator("of")
    @classmethod
    def _by_scores(cls, of: Strategy) -> Strategy:
        if not isinstance(of, ByScores):
            known = [name for name in STRATEGIES.names() if issubclass(STRATEGIES.get(name), ByScores)]
            raise ValueError(
                f"expected a strategy whose weights depend on the predictions alone, got {of.kind!r}; choose one of "
                f"{', '.join(known)}"
            )
        return of

    @property
    def reads(self) -> tuple[str, ...]:
        """What the other strategy reads, and the column of the volatility."""
        return tuple(dict.fromkeys((*self.of.reads, *([] if self.forecast is None else [self.forecast]))))

    def plan(self, scores: NDArray[Any], view: View) -> Plan:
        """Decides what the other strategy does, scaled. Raises DataError when a forecast is below 0."""
        inner = self.of.plan(scores, view)
        if self.forecast is None:
            volatility = trailing_volatility(view, len(scores), self.window)
        else:
            volatility = view.output(self.forecast)
            self._check_forecast(volatility, view)
        daily_target = self.target / math.sqrt(view.days_per_year)

        def decide(moment: Moment) -> Decision | None:
            decision = inner(moment)
            return None if decision is None else self._scaled(decision, volatility[moment.day], daily_target)

        return decide

    def _check_forecast(self, volatility: Values, view: View) -> None:
        if (volatility < 0).any():
            day, stock = np.argwhere(volatility < 0)[0]
            raise DataError(
                f"strategy.forecast: expected daily volatilities in the column {self.forecast!r}, got "
                f"{volatility[day, stock]:g} on {day_name(view.days, int(day))}; name the column of a volatility task, "
                "or leave it out for that of past returns"
            )

    def _scaled(self, decision: Decision, volatility: Values, daily_target: float) -> Decision:
        known = volatility > 0  # NaN is not
        wanted = ~np.isnan(decision.weights) & (decision.weights != 0)
        least = daily_target / self.max_scale
        # by the larger of the two: a volatility near 0 would overflow; an infinite one leaves nothing
        weights = decision.weights * (daily_target / np.maximum(np.where(known, volatility, np.inf), least))
        total = float(np.nansum(np.abs(weights)))
        if total > self.max_leverage:
            weights *= self.max_leverage / total
        happened = {
            "forecast": bool((wanted & ~known).any()),
            "target_for_max_scale": bool((wanted & known & (volatility < least)).any()),
            "target_for_max_leverage": total > self.max_leverage,
        }
        gave_way = (*decision.gave_way, *(name for name, so in happened.items() if so))
        return decision._replace(weights=weights, gave_way=gave_way)


def trailing_volatility(view: View, n_days: int, window: int) -> Values:
    """(days, stocks) standard deviation (ddof 1) of the known daily returns of the `window` days up to each day.

    A return is known where the stock was traded on its day and on the day before. NaN where fewer than half of the
    window, or fewer than two, are known.
    """
    closes = np.asarray(view.closes[: view.before + n_days], dtype=np.float64)
    if view.tradable is not None:
        closes = np.where(view.tradable[: view.before + n_days], closes, np.nan)
    moves = np.full((window + len(closes), closes.shape[1]), np.nan)
    moves[window + 1 :] = closes[1:] / closes[:-1] - 1.0
    lagged = [moves[len(moves) - n_days - lag : len(moves) - lag] for lag in range(window)]
    n, total, squares = (np.zeros((n_days, closes.shape[1])) for _ in range(3))
    for values in lagged:
        n += ~np.isnan(values)
        total += np.nan_to_num(values)
    mean = total / np.maximum(n, 1.0)
    for values in lagged:
        squares += np.nan_to_num(values - mean) ** 2
    enough = n >= max(2, math.ceil(window / 2))
    return np.where(enough, np.sqrt(squares / np.maximum(n - 1.0, 1.0)), np.nan)
