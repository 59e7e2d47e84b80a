"""The contract of a strategy: scores in, target weights out; what is filled is the engine's business."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mimstocr.components import Component, Registry, component_field
from mimstocr.data.panel import Days


class Strategy(Component):
    """Which shares of the money should be in which stocks."""

    @abstractmethod
    def weights(self, scores: NDArray[Any], days: Days | None = None) -> NDArray[np.float64]:
        """The target weights of each day, (days, stocks).

        scores: (days, stocks), known at the close of their day, NaN where a stock has none. days: their dates,
        to name them in errors; none: they are named by number.
        A row of weights is not negative and sums to at most 1, the rest is cash. A row of NaN is no decision:
        the engine keeps what it holds. Row t depends on rows 0 .. t of the scores alone.
        Raises DataError when the scores of a day do not suffice.
        """


def day_name(days: Days | None, index: int) -> str:
    """How an error names a day."""
    return f"day {index}" if days is None else str(days[index])


STRATEGIES: Registry[type[Strategy]] = Registry("strategy", "mimstocr.backtest.strategies")

AnyStrategy = Annotated[Strategy, *component_field(STRATEGIES)]
