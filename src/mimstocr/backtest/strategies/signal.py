"""The return a model expects, as far as it is sure of the direction."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import ByScores
from mimstocr.backtest.strategy import STRATEGIES, Plan, View, day_name, following
from mimstocr.errors import DataError

ROUNDED = 1e-6
"""By how much a probability may be beyond 0 .. 1: seeds are averaged in float32."""


@STRATEGIES.register("signal")
class Signal(ByScores):
    """Each stock long, short or flat by its expected return times the confidence in its direction.

    The threshold rule of "Multi-Task Learning for Trading" (Backtesting Framework) for many stocks at once: with the
    return v and the probability p of a rise, a stock whose signal is above `above` is held, one below `below` is sold
    short, any other is flat. The signal is

    - agreeing: v |2 p - 1| where p is on the side of v (v > 0 and p > 1/2, or v < 0 and p < 1/2), else 0: 0 where the
      direction is a coin toss or contradicts the return, v where it is certain;
    - published: v p, as printed there. p is that of a rise, so it shrinks what is negative more than what is positive,
      and most where the direction is sure of the fall: a short is rarely signalled.

    A position is 1 / N of the equity, N the stocks scored that day, so that every stock has a slice of its own. The
    chapter's accounts, one a stock, drift apart; these slices are cut anew at every decision. For one stock both are
    the same.

    A scored stock whose v or p is not known is flat; the days on which there is one are counted as `signal`.
    """

    value: str | None = None
    """Column of the predictions with the expected return, in whatever unit the task was trained; none: the score."""
    confidence: str | None = None
    """Column with the probability of a rise; none: full confidence, the signal is v."""
    form: Literal["agreeing", "published"] = "agreeing"
    """How v and p make a signal; without `confidence` it is v."""
    above: Annotated[float, Field(ge=0)] = 0.001
    """Signals above it are held, in the unit of v; 0.001 is the chapter's, for plain returns."""
    below: Annotated[float, Field(le=0)] | None = None
    """Signals below it are sold short; none: -above."""
    side: Literal["long", "long_short"] = "long"
    """Whether stocks are sold short; that needs a market with `short: true`."""
    slots: PositiveInt | None = None
    """N, whatever is scored: every position is 1 / slots. On a day with more positions than slots N is their number."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.below is not None and self.side == "long":
            raise ValueError("below is for what is sold short; set side: long_short, or leave below out")
        if self.form == "published" and self.confidence is None:
            raise ValueError("form: published needs confidence, the column with the probability of a rise")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of value and confidence."""
        return tuple(name for name in (self.value, self.confidence) if name is not None)

    def plan(self, scores: NDArray[Any], view: View) -> Plan:
        """Follows `weights`, and tells the days on which a scored stock has no signal."""
        known = np.where(np.isfinite(scores), np.asarray(scores, dtype=np.float64), np.nan)
        lacking = np.isfinite(known) & np.isnan(self.signals(known, view))
        return following(self.weights(scores, view), {"signal": np.any(lacking, axis=-1)})

    def targets(self, scores: Values, view: View) -> Values:
        """1 / N of the side that each signal is on."""
        signal = self.signals(scores, view)
        side = (signal > self.above).astype(np.float64)
        if self.side == "long_short":
            side -= signal < (-self.above if self.below is None else self.below)
        scored: Values = np.isfinite(scores).sum(axis=-1, keepdims=True).astype(np.float64)
        if self.slots is not None:
            scored = np.maximum(np.abs(side).sum(axis=-1, keepdims=True), self.slots)
        return side / np.maximum(scored, 1.0)

    def signals(self, scores: Values, view: View) -> Values:
        """(days, stocks) the signal of each scored stock; NaN without a score, value or confidence.

        Raises DataError when the confidence is no probability.
        """
        value = scores if self.value is None else np.where(np.isnan(scores), np.nan, view.output(self.value))
        if self.confidence is None:
            return value
        p = view.output(self.confidence)
        self._check_probability(p, view)
        if self.form == "published":
            return value * p
        sure = 2.0 * p - 1.0
        unknown = np.isnan(value) | np.isnan(p)
        return np.where(unknown, np.nan, np.where(value * sure > 0, value * np.abs(sure), 0.0))

    def _check_probability(self, p: Values, view: View) -> None:
        beyond = (p < -ROUNDED) | (p > 1 + ROUNDED)
        if beyond.any():
            day, stock = np.argwhere(beyond)[0]
            raise DataError(
                f"strategy.confidence: expected probabilities of 0 .. 1 in the column {self.confidence!r}, got "
                f"{p[day, stock]:g} on {day_name(view.days, int(day))}; name the column of a task that asks whether "
                "the price rises"
            )
