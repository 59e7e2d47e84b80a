"""Covariances of returns, shrunk towards one correlation for all pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import DataError

Values = NDArray[np.float64]

FLOOR = 1e-6
"""Share of every correlation that is left out, so that stocks that move alike do not make a covariance singular."""


class Covariance(NamedTuple):
    """What `shrunk_covariance` finds."""

    values: Values
    """(stocks, stocks), of the returns of one day; positive definite."""
    unknown: NDArray[np.bool_]
    """(stocks,) those with too few returns, whose rows are made from those of the others."""
    intensity: float
    """How far the sample was moved to the target, 0 to 1."""


def shrunk_covariance(returns: Values, least: int) -> Covariance:
    """The covariance of Ledoit and Wolf (2004), "Honey, I shrunk the sample covariance matrix".

    With S the sample covariance (divided by the number T of days) and F the target, which has the variances of S and
    the mean r of its correlations as the correlation of every pair, it is

        d F + (1 - d) S,   d = max(0, min(1, (pi - rho) / (gamma T)))

    where pi is the sum of the asymptotic variances of the entries of S, rho that of their asymptotic covariances with
    those of F, and gamma the squared distance of F and S (their appendix B). Every correlation is then lowered by the
    fraction `FLOOR`.

    returns: (days, stocks), NaN where unknown. A missing return counts as the mean of its stock, and the known ones
    are scaled up for it, so that the variance is that of the known returns; this moves the correlations of a stock with
    many gaps towards 0. A stock with fewer than `least` known returns, or whose known returns are all equal, gets the
    median of the variances of the others. Its correlations follow from those of the others: it moves with their mean,
    each taken by its own volatility, as far as makes its mean correlation with them r (0 where r is below 0).

    Raises DataError when that is every stock.
    """
    moves, n_known = _complete(returns)
    unknown = (n_known < max(least, 2)) | ~(np.abs(moves).max(axis=0, initial=0.0) > 0)
    if unknown.all():
        raise DataError(
            f"expected a stock with at least {least} daily returns that are not all equal, got at most "
            f"{n_known.max(initial=0)} in {len(returns)} days"
        )
    volatility, correlation, mean, intensity = _shrunk(moves[:, ~unknown])
    if unknown.any():
        volatility, correlation = _with_unknown(volatility, correlation, mean, unknown)
    values = correlation * np.outer(volatility, volatility) * (1.0 - FLOOR)
    np.fill_diagonal(values, volatility**2)
    return Covariance(values, unknown, intensity)


def _complete(returns: Values) -> tuple[Values, NDArray[np.int64]]:
    """(days, stocks) deviations from the mean, 0 where unknown, the others scaled up for these; and (stocks,) known."""
    known = np.isfinite(returns)
    n_known: NDArray[np.int64] = known.sum(axis=0)
    mean = np.where(known, returns, 0.0).sum(axis=0) / np.maximum(n_known, 1)
    moves = np.where(known, returns - mean, 0.0)
    # equal returns differ from their mean by its rounding
    moves[:, np.abs(moves).max(axis=0, initial=0.0) <= 1e-12 * np.abs(mean)] = 0.0
    return moves * np.sqrt(len(returns) / np.maximum(n_known, 1)), n_known


def _shrunk(moves: Values) -> tuple[Values, Values, float, float]:
    """Volatilities, correlations after shrinkage, the mean correlation and the intensity.

    The sums over pairs of the paper are taken over stocks first, which leaves one product of matrices.
    """
    n_days, n = moves.shape
    sample = moves.T @ moves / n_days
    volatility = np.sqrt(np.diag(sample))
    correlation = sample / np.outer(volatility, volatility)
    mean = float((correlation.sum() - n) / (n * (n - 1))) if n > 1 else 0.0
    target = np.full((n, n), mean)
    np.fill_diagonal(target, 1.0)
    gamma = float((((target - correlation) * np.outer(volatility, volatility)) ** 2).sum())
    squares = moves**2
    pi = float((squares.sum(axis=1) ** 2).mean() - (sample**2).sum())
    own = float((squares**2).mean(axis=0).sum() - (volatility**4).sum())  # pi of the variances
    cubes, scaled = (moves**3 / volatility).sum(axis=1), (moves * volatility).sum(axis=1)
    between = float((cubes * scaled).mean() - volatility @ sample @ volatility) - own
    rho = own + mean * between
    intensity = min(max((pi - rho) / (gamma * n_days), 0.0), 1.0) if gamma > 0 else 0.0
    return volatility, intensity * target + (1.0 - intensity) * correlation, mean, intensity


def _with_unknown(
    volatility: Values, correlation: Values, mean: float, unknown: NDArray[np.bool_]
) -> tuple[Values, Values]:
    """The same with the stocks that are not known; they have a part in common, and one of their own."""
    n = len(unknown)
    known = ~unknown
    with_mean = correlation.mean(axis=0)
    variance = float(with_mean.mean())  # of the mean of the others, above the mean correlation
    shared = max(mean, 0.0) / variance if variance > 0 else 0.0
    full = np.full((n, n), shared**2 * variance)
    full[np.ix_(known, known)] = correlation
    full[np.ix_(unknown, known)] = shared * with_mean
    full[np.ix_(known, unknown)] = shared * with_mean[:, None]
    np.fill_diagonal(full, 1.0)
    volatilities = np.full(n, np.sqrt(np.median(volatility**2)))
    volatilities[known] = volatility
    return volatilities, full
