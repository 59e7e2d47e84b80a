"""The best trade-off of score, risk and cost under constraints."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from mimstocr.backtest.covariance import shrunk_covariance
from mimstocr.backtest.optimum import Groups, Problem, load_solver, optimum
from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategies._scores import at_least, enough, order
from mimstocr.backtest.strategy import STRATEGIES, Decision, Moment, Strategy, View, day_name
from mimstocr.errors import ConfigError, DataError
from mimstocr.ranks import average_ranks

KEPT = 1e-6
"""A trade of a smaller fraction of the equity is none, and a band is at least so wide."""
CURE = "raise strategy.risk_target, industry_band or turnover_cap"
EVEN = 1e-9
"""By how much n parts may miss their sum: 3 x (1 / 3) is less than 1 in floats."""


@STRATEGIES.register("optimised")
class Optimised(Strategy):
    """The best trade-off of score, risk and cost under constraints; needs the extra `portfolio`.

    Each day, of all weights w >= 0 of the stocks that are scored (mean-variance, Markowitz 1952, with costs),

        maximise  alpha'w - risk_aversion / 2 w'Sw - trade_cost sum|w - held|
        subject to  sum w = invested,  w <= position_cap,
                    sqrt(days_per_year w'Sw) <= risk_target,
                    |sum of w in g - b_g sum w| <= industry_band  for every group g,
                    min(buys, sells) <= turnover_cap,

    - alpha = ic x volatility x z is what a stock is expected to return on a day (Grinold 1994, "Alpha is volatility
      times IC times score"): z is its score less the mean of the day, in standard deviations of the day (0 where all
      scores are equal), the volatility is that of S;
    - S is the covariance of daily returns (`shrunk_covariance`) of the `days` days up to the one that decides, of all
      stocks scored on it; a return counts where the closes of its day and of the day before are known;
    - held is what the account holds, b_g the part of the day's scored stocks that is in g: equal weights are neutral,
      and so is a stock in no group;
    - buys and sells are the sums of w - held above and below zero, so that moving money between cash and stocks is no
      turnover, nor is the sell of a stock that has lost its score.

    Held stocks without a score are sold. A trade below a millionth of the equity is left out. The constraints hold for
    what is decided; prices move until the fill.

    Where the constraints contradict each other, such as a turnover that is too small to bring a stock that has risen
    back to its cap, the turnover is as small as the others allow. Where the least risky portfolio is above
    `risk_target`, as much is invested as is not, and the rest is cash. All else is always kept.
    """

    light: ClassVar[bool] = False

    k: PositiveInt | None = None
    """Only the k highest scores and what is held can get a weight, ties by column; none: all that are scored."""
    by: Literal["score", "rank"] = "score"
    """What z is made of: the score itself, or its rank among the stocks of the day."""
    ic: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The correlation of scores and returns to be reckoned with: how far the scores are trusted."""
    risk_aversion: Annotated[float, Field(ge=0)] = 10.0
    """What a unit of variance costs; 0: only `risk_target` and the caps limit the risk."""
    trade_cost: Annotated[float, Field(ge=0)] = 0.001
    """What a unit traded costs. It counts against the return of one day: for scores that stay good for n days, an nth
    of the market's costs."""
    invested: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the equity in stocks."""
    position_cap: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Largest weight of a stock."""
    turnover_cap: Annotated[float, Field(ge=0)] | None = None
    """Largest turnover of a day, one-way, as a fraction of the equity; none: no limit."""
    industry_band: Annotated[float, Field(ge=0)] | None = None
    """By how much of the equity a group may be above or below its neutral weight, to a millionth; none: no limit. The
    groups are those of `data.concepts`."""
    risk_target: Annotated[float, Field(gt=0)] | None = None
    """Largest yearly volatility that S expects; none: no limit."""
    days: Annotated[int, Field(ge=2)] = 252
    """Daily returns that S is made of."""
    min_days: Annotated[int, Field(ge=2)] = 20
    """A stock with fewer known returns among them gets its risk from the others, see `shrunk_covariance`."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_days > self.days:
            raise ValueError(f"expected min_days to be at most days, got {self.min_days} and {self.days}")
        if self.k is not None and self.k < self._least():
            raise ValueError(
                f"{self.k} stocks of at most {self.position_cap:g} each cannot hold {self.invested:g} of the equity; "
                f"raise k to {self._least()}, or raise position_cap, or lower invested"
            )
        if self.k is not None and self.industry_band is not None:
            raise ValueError("k and industry_band exclude each other: the k highest may have no stock of a group")
        return self

    def plan(self, scores: NDArray[Any], view: View) -> Construction:
        """Decides by what is held.

        Raises ConfigError without the solver, or with `industry_band` but no groups; DataError naming the day that has
        too few scored stocks, or too few prices before it.
        """
        load_solver()
        if self.industry_band is not None and view.groups is None:
            raise ConfigError(
                "strategy.industry_band needs to know which stocks belong together, but the source has no groups; "
                "give data.concepts, or leave industry_band out"
            )
        known = np.where(np.isfinite(scores), np.asarray(scores, dtype=np.float64), np.nan)
        n_scored = np.isfinite(known).sum(axis=-1)
        enough(known, self.k or 1, view.days)
        cure = "raise strategy.position_cap or lower strategy.invested"
        at_least(self._least(), n_scored, view.days, "invested / position_cap", cure)
        if n_scored.any():
            first = int(np.argmax(n_scored > 0))
            if (rows := len(view.past(first))) <= self.min_days:
                raise DataError(
                    f"expected more than strategy.min_days = {self.min_days} days of prices up to the first scores, on "
                    f"{day_name(view.days, first)}, got {rows}; start later, read earlier prices or lower min_days"
                )
        return Construction(self, known, view)

    def _least(self) -> int:
        """The fewest stocks that can hold all that is to be invested."""
        return math.ceil(self.invested / self.position_cap - EVEN)


class Construction:
    """The plan of `Optimised` for given scores."""

    def __init__(self, settings: Optimised, scores: Values, view: View) -> None:
        self._settings = settings
        self._scores = scores
        self._ranked = order(scores)
        self._view = view

    def __call__(self, moment: Moment) -> Decision | None:
        """All weights of the day, NaN where what is held is to be kept; none on a day without scores."""
        day = moment.day
        scored = self._ranked[day, : int(np.isfinite(self._scores[day]).sum())]
        if not len(scored):
            return None
        problem, places = self._problem(day, scored, moment.weights[scored])
        try:
            found = optimum(problem)
        except DataError as error:
            raise DataError(f"{error}, on {day_name(self._view.days, day)}; {CURE}") from None
        chosen = scored[places]
        weights = np.zeros(len(moment.weights))
        weights[chosen] = _cleaned(found.weights, problem.held, problem.invested)
        return Decision(weights, gave_way=found.gave_way)

    def _problem(self, day: int, scored: NDArray[np.int64], held: Values) -> tuple[Problem, NDArray[np.int64]]:
        """The problem of a day, and which of its scored stocks it is about, from the highest score down."""
        settings, view = self._settings, self._view
        covariance = self._covariance(day, scored)
        places = np.arange(len(scored))
        if settings.k is not None:
            places = places[(places < settings.k) | (held > 0)]
        groups = None
        if settings.industry_band is not None and view.groups is not None:
            members = view.groups[scored].astype(np.float64)
            groups = Groups(members, members.mean(axis=0), max(settings.industry_band, KEPT))
        target = settings.risk_target
        problem = Problem(
            alpha=(settings.ic * np.sqrt(np.diag(covariance)) * self._standard(day, scored))[places],
            covariance=covariance[np.ix_(places, places)],
            held=held[places],
            invested=settings.invested,
            position_cap=settings.position_cap,
            risk_aversion=settings.risk_aversion,
            trade_cost=settings.trade_cost,
            risk_cap=None if target is None else target / math.sqrt(view.days_per_year),
            groups=groups,
            turnover_cap=settings.turnover_cap,
        )
        return problem, places

    def _covariance(self, day: int, scored: NDArray[np.int64]) -> Values:
        closes = self._view.past(day)[-self._settings.days - 1 :, scored].astype(np.float64)
        try:
            return shrunk_covariance(closes[1:] / closes[:-1] - 1.0, self._settings.min_days).values
        except DataError as error:
            raise DataError(
                f"{error} up to {day_name(self._view.days, day)}; lower strategy.min_days, or score stocks that have "
                "been traded for longer"
            ) from None

    def _standard(self, day: int, scored: NDArray[np.int64]) -> Values:
        """The scores, or their ranks, less their mean, in standard deviations."""
        values = self._scores[day, scored]
        if self._settings.by == "rank":
            values = average_ranks(values[None])[0]
        span = np.ptp(values)
        if not span > 0:
            return np.zeros(len(values))
        unit = (values - values.min()) / span  # so that rounding cannot make equal what is not
        standard: Values = (unit - unit.mean()) / unit.std()
        return standard


def _cleaned(weights: Values, held: Values, invested: float) -> Values:
    """Without what the solver's precision leaves: weights of 0, and NaN where what is held is kept."""
    clean = np.where(weights < KEPT, 0.0, weights)
    clean *= min(1.0, invested / max(float(clean.sum()), EVEN))
    return np.where((clean > 0) & (np.abs(clean - held) < KEPT), np.nan, clean)
