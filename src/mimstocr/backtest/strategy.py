"""The contract of a strategy: scores in, target weights out; what is filled is the engine's business."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.backtest.market import Values, day_name
from mimstocr.components import Component, Registry, component_field, near
from mimstocr.data.panel import Days
from mimstocr.errors import ConfigError

__all__ = [
    "STRATEGIES",
    "AnyStrategy",
    "Decision",
    "Moment",
    "Plan",
    "Strategy",
    "View",
    "check_columns",
    "day_name",
    "following",
]


class Decision(NamedTuple):
    """What a strategy wants after a day."""

    weights: Values
    """(stocks,): fraction of the equity to be in each stock, below zero to be sold short; NaN: keep what is held."""
    of_cash: bool = False
    """Whether weights above zero are instead fractions of the cash after the day's sells, to be added to what is held;
    those that are 0 are still sold."""
    gave_way: tuple[str, ...] = ()
    """Which of its own constraints the strategy could not keep; a backtest counts them."""


class Moment(NamedTuple):
    """What a strategy knows of its account when it decides: what is held just before the fill."""

    day: int
    """The row of the day whose scores decide."""
    shares: Values
    """(stocks,) adjusted shares held."""
    weights: Values
    """(stocks,) what they are worth at the closes of that day, as fractions of the equity."""


Plan = Callable[[Moment], Decision | None]
"""Decides once a day; none is no decision, and everything is kept. What it remembers must not outlive an account: it is
used for another one from the first day on."""


@dataclass(frozen=True, eq=False)
class View:
    """What a strategy may know of the market besides the scores; `past` ends on the day that decides."""

    days: Days | None
    """(days,) of the scores."""
    closes: Values
    """(before + days, stocks) closes, NaN where unknown."""
    before: int = 0
    """Rows of `closes` that come before the first day of the scores."""
    days_per_year: int = 252
    groups: NDArray[np.bool_] | None = None
    """(stocks, groups), such as industries; none where the source has none."""
    group_names: Sequence[str] = ()
    tradable: NDArray[np.bool_] | None = None
    """(before + days, stocks) whether the stock could be traded; none: wherever there is a close."""
    outputs: Mapping[str, Values] = field(default_factory=dict)
    """Columns of the predictions, each (days, stocks) beside the scores and known when they are; NaN where a stock has
    none. There are those that the strategy reads."""

    def past(self, day: int) -> Values:
        """(rows, stocks) closes up to and including that of `day`."""
        return self.closes[: self.before + day + 1]

    def output(self, name: str) -> Values:
        """(days, stocks) of a column of the predictions, finite or NaN. Raises ConfigError when there is none."""
        check_columns([name], self.outputs)
        values = np.asarray(self.outputs[name], dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan)


def check_columns(wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError when a strategy reads a column that the predictions lack, naming those that they have."""
    there = list(known)
    for name in wanted:
        if name not in there:
            raise ConfigError(
                f"backtest.strategy reads the column {name!r} of the predictions, which they do not have: name the "
                f"output of a task that is learned; {near(name, there)}"
            )


class Strategy(Component):
    """Which shares of the money should be in which stocks."""

    light: ClassVar[bool] = True
    """Whether deciding costs little beside the engine; the report follows light strategies with other capitals too."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the predictions that it needs besides the score; `View.outputs` then has them."""
        return ()

    @abstractmethod
    def plan(self, scores: NDArray[Any], view: View) -> Plan:
        """What decides each day.

        scores: (days, stocks), known at the close of their day, NaN or infinite where a stock has none; a day without
        any is no decision. The decision of day t depends on rows 0 .. t of the scores and outputs, on `view.past(t)`
        and on the account.
        Raises DataError when the scores of a day do not suffice, here already where that can be seen; ConfigError when
        a column that it reads is not there.
        """


def following(weights: Values, gave_way: Mapping[str, NDArray[np.bool_]] | None = None) -> Plan:
    """The plan that decides for fixed weights, (days, stocks); a row of NaN is no decision.

    gave_way: name of a constraint to (days,), whether it could not be kept.
    """
    told = gave_way or {}

    def decide(moment: Moment) -> Decision | None:
        row = weights[moment.day]
        if np.isnan(row).all():
            return None
        return Decision(row, gave_way=tuple(name for name, days in told.items() if days[moment.day]))

    return decide


STRATEGIES: Registry[type[Strategy]] = Registry("strategy", "mimstocr.backtest.strategies")

AnyStrategy = Annotated[Strategy, *component_field(STRATEGIES)]
