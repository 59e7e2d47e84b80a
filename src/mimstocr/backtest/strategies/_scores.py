"""What strategies share: ranks of the scores of a day, and weights that follow from the scores alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimstocr.backtest.orders import Values
from mimstocr.backtest.strategy import Plan, Strategy, View, day_name, following
from mimstocr.data.panel import Days
from mimstocr.errors import DataError


class ByScores(Strategy):
    """A strategy whose weights depend on the scores alone, not on what the account holds."""

    def plan(self, scores: NDArray[Any], view: View) -> Plan:
        """Follows `weights`, whatever is held."""
        return following(self.weights(scores, view))

    def weights(self, scores: NDArray[Any], view: View) -> Values:
        """(days, stocks) the weights that `plan` follows; NaN throughout on a day without a decision."""
        known = np.isfinite(scores)
        weights = self.targets(np.where(known, np.asarray(scores, dtype=np.float64), np.nan), view)
        weights[~known.any(axis=-1)] = np.nan
        return weights

    @abstractmethod
    def targets(self, scores: Values, view: View) -> Values:
        """(days, stocks) the same, of scores that are finite or NaN; rows of days without scores do not count."""


def enough(scores: NDArray[Any], k: int, days: Days | None) -> None:
    """Raise DataError naming the first day that has some scored stocks but fewer than k."""
    n_scored = np.isfinite(scores).sum(axis=-1)
    short = n_scored[(n_scored > 0) & (n_scored < k)]
    cure = f"lower strategy.k to at most {short.min(initial=k)}"
    at_least(k, n_scored, days, "K", cure)


def at_least(least: int, n_scored: NDArray[np.int64], days: Days | None, what: str, cure: str) -> None:
    """Raise DataError naming the first day that has scored stocks, (days,), but fewer than `least`."""
    if (short := (n_scored > 0) & (n_scored < least)).any():
        first = int(np.argmax(short))
        raise DataError(
            f"fewer stocks than {what}: expected at least {least} scored stocks on every day, got {n_scored[first]} on "
            f"{day_name(days, first)} ({int(short.sum())} such days); {cure}, or choose a larger universe"
        )


def order(scores: NDArray[Any]) -> NDArray[np.int64]:
    """(days, stocks) columns from the highest score to the lowest, ties by column, those without a score last."""
    scored = np.isfinite(scores)
    keys = np.where(scored, -np.asarray(scores, dtype=np.float64), np.nan)
    return np.argsort(keys, axis=-1, kind="stable")


def highest(scores: NDArray[Any], k: int, days: Days | None) -> NDArray[np.int64]:
    """(days, k) columns of the k highest scores of each day; DataError where a scored day has fewer."""
    enough(scores, k, days)
    return order(scores)[:, :k]
