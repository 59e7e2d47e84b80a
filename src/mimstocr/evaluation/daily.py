"""Metrics of a ranking, per day, and their means over days (methods, section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError
from mimstocr.ranks import Places, places, ranks_of, tie_means

RELEVANCE_LEVELS = 5
"""NDCG grades a stock by the fifth of the day's returns that it falls in."""


class CrossSections(NamedTuple):
    """What all metrics of the days share. `by_score` and `by_return` place the valid stocks first."""

    scores: NDArray[np.float64]
    returns: NDArray[np.float64]
    valid: NDArray[np.bool_]
    n: NDArray[np.int64]
    by_score: Places
    by_return: Places
    evaluated: NDArray[np.bool_]


def daily_metrics(
    scores: NDArray[Any],
    returns: NDArray[Any],
    *,
    precision_at: Sequence[int] = (10, 20, 30, 50),
    ndcg_at: Sequence[int] = (10, 50),
) -> dict[str, NDArray[np.float64]]:
    """How well scores ranked the stocks of each day, name to (days,).

    scores, returns: (days, stocks); returns are raw fractions (0.01 = 1 %). A stock counts on a day where both
    are finite. A day with fewer than two such stocks, or with equal scores for all, is left out: NaN in
    everything but `stocks`. Columns may come in any order: stocks with equal scores share their places, and
    the metrics are expected values over the orders inside a tie.

    - `ic`: Pearson correlation of score and return. `rank_ic`: Spearman's, average ranks for ties. Both NaN
      where all returns are equal.
    - `precision@N`: share of the N highest scores whose return is above 0; NaN with fewer than N stocks.
    - `ndcg@k`: sum of (2^rel - 1) / log2(1 + rank) over the k highest scores, divided by the same sum in the
      order of the returns (Jarvelin and Kekalainen, TOIS 2002). rel = floor(5 (r - 1/2) / n) is the fifth, 0
      to 4, of the day's returns that the stock falls in; r is its average rank, 1 is the lowest. A day with
      fewer than k stocks sums over those it has.
    - `spread`: mean return of the tenth of the stocks with the highest scores minus that of the tenth with the
      lowest; a tenth is max(1, n // 10) stocks.
    - `turnover`: share of the highest tenth that was not in it on the evaluated day before; NaN on the first.
      Stocks tied at its edge hold equal shares of the places that are left.
    - `stocks`: how many counted.

    Raises DataError on shapes that differ, ConfigError on an N or k below 1.
    """
    for name, cuts in (("precision_at", precision_at), ("ndcg_at", ndcg_at)):
        if any(cut < 1 for cut in cuts):
            raise ConfigError(f"{name}: expected numbers of stocks from 1, got {tuple(cuts)}; leave the others out")
    day = _cross_sections(scores, returns)
    ranks = (ranks_of(day.by_score, day.n), ranks_of(day.by_return, day.n))
    daily = {"ic": _pearson(day.scores, day.returns, day), "rank_ic": _pearson(*ranks, day)}
    daily |= _precision(day, precision_at)
    daily |= _ndcg(day, ndcg_at)
    daily |= {"spread": _spread(day), "turnover": _turnover(day)}
    daily = {name: np.where(day.evaluated, values, np.nan) for name, values in daily.items()}
    return daily | {"stocks": day.n.astype(np.float64)}


def summarise(daily: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """One number a metric: its mean over the days on which it is defined, NaN where there is none.

    daily: what `daily_metrics` gives. Adds `icir` and `rank_icir`, mean / standard deviation over days (ddof 1,
    not annualised, NaN where it is 0); `days`, on which the IC is defined; `days_left_out`, all others. Other
    metrics may have fewer days than the IC (a precision@50 needs 50 stocks): `days_defined` counts them.
    """
    summary = {name: _mean(values) for name, values in daily.items()}
    summary["icir"] = _mean_over_std(daily["ic"])
    summary["rank_icir"] = _mean_over_std(daily["rank_ic"])
    used = days_defined(daily)["ic"]
    return summary | {"days": float(used), "days_left_out": float(len(daily["ic"]) - used)}


def days_defined(daily: Mapping[str, NDArray[np.float64]]) -> dict[str, int]:
    """On how many days each metric is defined."""
    return {name: int((~np.isnan(values)).sum()) for name, values in daily.items()}


def quantile_returns(scores: NDArray[Any], returns: NDArray[Any], n_quantiles: int = 5) -> NDArray[np.float64]:
    """Mean return of the stocks in each quantile of the day's scores, lowest first, (days, n_quantiles).

    scores, returns: (days, stocks), counted as in `daily_metrics`. A stock of average rank r among n is in
    quantile floor(n_quantiles (r - 1/2) / n), so equal scores are never parted; a quantile that no stock falls
    in is NaN, and so are the days that `daily_metrics` leaves out.
    Raises DataError on shapes that differ, ConfigError on fewer than two quantiles.
    """
    if n_quantiles < 2:
        raise ConfigError(f"n_quantiles: expected 2 or more, got {n_quantiles}; 5 gives fifths")
    day = _cross_sections(scores, returns)
    at, stock = np.nonzero(day.valid & day.evaluated[:, None])
    cell = at * n_quantiles + _part(day.by_score, day.n, n_quantiles)[at, stock]
    size = len(day.n) * n_quantiles
    counts = np.bincount(cell, minlength=size)
    sums = np.bincount(cell, weights=day.returns[at, stock], minlength=size)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    return means.reshape(-1, n_quantiles)


def _cross_sections(scores: NDArray[Any], returns: NDArray[Any]) -> CrossSections:
    if np.shape(scores) != np.shape(returns) or np.ndim(scores) != 2 or np.shape(scores)[1] == 0:
        raise DataError(
            f"expected scores and returns of one shape (days, stocks), got {np.shape(scores)} and "
            f"{np.shape(returns)}; align both to the same days and symbols"
        )
    valid = np.isfinite(scores) & np.isfinite(returns)
    counted_scores = np.where(valid, np.asarray(scores, dtype=np.float64), np.nan)
    counted_returns = np.where(valid, np.asarray(returns, dtype=np.float64), np.nan)
    n = valid.sum(axis=-1)
    by_score = places(counted_scores)
    all_tied = by_score.last[:, 0] + 1 == n
    return CrossSections(
        counted_scores, counted_returns, valid, n, by_score, places(counted_returns), (n >= 2) & ~all_tied
    )


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64], day: CrossSections) -> NDArray[np.float64]:
    """Correlation over the valid stocks, NaN where either is constant."""
    u, v = _deviations(x, day), _deviations(y, day)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (u * v).sum(axis=-1) / np.sqrt((u * u).sum(axis=-1) * (v * v).sum(axis=-1))
    # a constant is told by its ties: rounding of the mean would leave it a variance of its own
    constant = (day.by_return.last[:, 0] + 1 == day.n) | ~day.evaluated
    return np.where(constant, np.nan, np.clip(r, -1.0, 1.0))


def _deviations(x: NDArray[np.float64], day: CrossSections) -> NDArray[np.float64]:
    """Deviations from the day's mean in units of the largest, so that their squares neither vanish nor overflow."""
    total = np.where(day.valid, x, 0.0).sum(axis=-1)
    centred = np.where(day.valid, x - (total / np.maximum(day.n, 1))[:, None], 0.0)
    largest = np.abs(centred).max(axis=-1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(centred, largest, out=np.zeros_like(centred), where=largest > 0)
    return scaled


def _precision(day: CrossSections, cuts: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    rises = np.take_along_axis((day.returns > 0).astype(np.float64), day.by_score.order, axis=-1)
    among = _cumulated(tie_means(rises, day.by_score))
    stocks = rises.shape[1]
    return {f"precision@{n}": np.where(day.n >= n, among[:, min(n, stocks)] / n, np.nan) for n in cuts}


def _ndcg(day: CrossSections, cuts: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    gains = np.exp2(np.arange(RELEVANCE_LEVELS)) - 1.0
    gain = np.where(day.valid, gains[_part(day.by_return, day.n, RELEVANCE_LEVELS)], 0.0)
    discount = 1.0 / np.log2(2.0 + np.arange(gain.shape[1]))
    by_score = np.take_along_axis(gain, day.by_score.order, axis=-1)
    found = _cumulated(tie_means(by_score, day.by_score) * discount)
    ideal = _cumulated(np.take_along_axis(gain, day.by_return.order, axis=-1) * discount)
    metrics = {}
    for cut in cuts:
        k = min(cut, gain.shape[1])
        best = ideal[:, k]
        metrics[f"ndcg@{cut}"] = np.divide(found[:, k], best, out=np.full(len(best), np.nan), where=best > 0)
    return metrics


def _spread(day: CrossSections) -> NDArray[np.float64]:
    by_score = np.take_along_axis(np.where(day.valid, day.returns, 0.0), day.by_score.order, axis=-1)
    total = _cumulated(tie_means(by_score, day.by_score))
    tenth, days = _tenth(day), np.arange(len(day.n))
    highest = total[days, np.minimum(tenth, day.n)]
    lowest = total[days, day.n] - total[days, np.maximum(day.n - tenth, 0)]
    spread: NDArray[np.float64] = (highest - lowest) / tenth
    return spread


def _turnover(day: CrossSections) -> NDArray[np.float64]:
    """New share of the highest tenth; a tie across its edge shares the places that are left to it."""
    ties, tenth = day.by_score, _tenth(day)[:, None]
    by_place = np.clip((tenth - ties.first) / (ties.last - ties.first + 1), 0.0, 1.0)
    share = np.zeros(by_place.shape)
    np.put_along_axis(share, ties.order, by_place, axis=-1)
    turnover = np.full(len(share), np.nan)
    evaluated = np.flatnonzero(day.evaluated)
    today, before = share[evaluated[1:]], share[evaluated[:-1]]
    turnover[evaluated[1:]] = np.maximum(today - before, 0.0).sum(axis=-1) / tenth[evaluated[1:], 0]
    return turnover


def _tenth(day: CrossSections) -> NDArray[np.int64]:
    return np.maximum(1, day.n // 10)


def _part(by_value: Places, n: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Which of `parts` equal parts of the day's order a stock falls in, 0 the lowest; junk where it is not valid."""
    part = parts * (ranks_of(by_value, n) - 0.5) / np.maximum(n, 1)[:, None]
    return np.clip(part, 0, parts - 1).astype(np.int64)


def _cumulated(by_place: NDArray[np.float64]) -> NDArray[np.float64]:
    """(days, stocks + 1): at k, the sum over the first k places."""
    total = np.zeros((by_place.shape[0], by_place.shape[1] + 1))
    np.cumsum(by_place, axis=-1, out=total[:, 1:])
    return total


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _mean_over_std(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    if len(known) < 2 or known.min() == known.max():
        return float("nan")
    return float(known.mean() / known.std(ddof=1))
