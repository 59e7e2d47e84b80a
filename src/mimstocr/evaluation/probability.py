"""What predicted probabilities were worth: of an event, or of levels that exclude each other."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation._samples import aligned, common, mean, mean_square
from mimstocr.ranks import average_ranks

CLIP = 2.0**-23
"""Log losses take a probability of the truth below it as it: 1.2e-7, which is how far from 1 float32 can tell. So a
sure prediction that fails costs 15.9 nats, not infinitely many."""
BINS = 10
"""Bins of the expected calibration error."""
SUM_TOLERANCE = 1e-4
"""How far from 1 the probabilities of a sample may add up: softmax in float32 stays well within."""


class EventMetrics(TypedDict):
    """Fractions, but log_loss and base_log_loss (nats), daily_auc_days and daily_auc_left_out (days) and the counts.

    clipped: samples whose log loss was bounded. samples: how many counted. left_out: cells with only one of the two
    numbers.
    """

    accuracy: float
    majority: float
    base_rate: float
    auc: float
    daily_auc: float
    daily_auc_days: int
    daily_auc_left_out: int
    log_loss: float
    base_log_loss: float
    brier: float
    brier_skill: float
    ece: float
    clipped: int
    samples: int
    left_out: int


class LevelMetrics(TypedDict):
    """log_loss and base_log_loss in nats, ece and macro_auc fractions; auc: (levels,), each against the rest.

    clipped: samples whose log loss was bounded.
    """

    log_loss: float
    base_log_loss: float
    ece: float
    macro_auc: float
    auc: NDArray[np.float64]
    clipped: int


class ReliabilityTable(NamedTuple):
    """What was said against what came, by bins of the probability.

    edges: (bins + 1,), 0 .. 1; a bin has its lower edge, the last one 1 too. samples: (bins,) how many. probability,
    happened: (bins,) mean probability and share that happened; NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    samples: NDArray[np.int64]
    probability: NDArray[np.float64]
    happened: NDArray[np.float64]


def event_metrics(probability: NDArray[Any], happened: NDArray[Any]) -> EventMetrics:
    """Discrimination and calibration of the predicted probability of an event, over all samples alike.

    probability, happened: (samples,) or (days, stocks); happened is 0 or 1 (or bool); NaN for a stock without one.

    - `accuracy`: share where the likelier of both came; a probability of 0.5 is half right. `majority`: the accuracy
      of always naming the more frequent one, which accuracy must beat. `base_rate`: share that happened.
    - `auc`: chance that a sample where it happened has the higher probability than one where not, ties count a half
      (Mann-Whitney). It mixes days: a model that knows good days from bad ones has a high one without knowing stocks.
    - `daily_auc`: mean over days of the AUC within the day (the function `daily_auc`), over the daily_auc_days on which
      both kinds occur; daily_auc_left_out: the other days. NaN, 0 and 0 for (samples,).
    - `log_loss`: mean of -log of the probability of what came, which counts as 2^-23 at least. `base_log_loss`: that
      of always saying base_rate.
    - `brier`: mean squared difference of probability and outcome (Brier 1950). `brier_skill`: 1 - brier / the brier of
      always saying base_rate, which nobody knew beforehand.
    - `ece`: expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015): mean over the samples of |mean
      probability - share that happened| of their bin among ten of equal width. Chance alone makes it positive.

    NaN: all without a sample; auc and brier_skill where only one kind occurs. Raises DataError on shapes that differ,
    on a probability outside 0 .. 1 and an outcome other than 0 and 1.
    """
    grid_p, grid_y = _checked(probability, happened)
    (p, y), left_out = common(grid_p, grid_y)
    by_day = _auc(grid_p, grid_y) if grid_p.ndim == 2 else np.zeros(0)
    defined = by_day[~np.isnan(by_day)]
    rate, brier = mean(y), mean_square(p - y)
    of_truth = np.where(y == 1, p, 1.0 - p)
    return {
        "accuracy": mean(np.where(of_truth == 0.5, 0.5, of_truth > 0.5)),
        "majority": max(rate, 1.0 - rate),
        "base_rate": rate,
        "auc": float(_auc(p, y)),
        "daily_auc": mean(defined),
        "daily_auc_days": len(defined),
        "daily_auc_left_out": len(by_day) - len(defined),
        "log_loss": _log_loss(of_truth),
        "base_log_loss": _entropy(np.array([rate, 1.0 - rate])),
        "brier": brier,
        "brier_skill": 1.0 - brier / (rate * (1.0 - rate)) if 0 < rate < 1 else math.nan,
        "ece": _ece(p, y),
        "clipped": int((of_truth < CLIP).sum()),
        "samples": len(y),
        "left_out": left_out,
    }


def daily_auc(probability: NDArray[Any], happened: NDArray[Any]) -> NDArray[np.float64]:
    """The AUC within each day's cross-section, (days,); NaN on a day on which not both kinds occur.

    probability, happened: (days, stocks), as in `event_metrics`. Raises what that does.
    """
    p, y = _checked(probability, happened)
    if p.ndim != 2:
        raise DataError(f"expected probability and happened of shape (days, stocks), got {p.shape}; give days a row")
    return _auc(p, y)


def reliability_table(probability: NDArray[Any], happened: NDArray[Any], bins: int = BINS) -> ReliabilityTable:
    """Mean probability and share that happened in bins of equal width, over all samples alike.

    probability, happened: as in `event_metrics`. Raises what that does, and ConfigError on fewer than one bin.
    """
    if bins < 1:
        raise ConfigError(f"bins: expected 1 or more, got {bins}; 10 is usual")
    p, y = common(*_checked(probability, happened))[0]
    return _reliability(p, y, bins)


def level_metrics(probabilities: NDArray[Any], levels: NDArray[Any]) -> LevelMetrics:
    """Discrimination and calibration of the predicted probabilities of levels.

    probabilities: (samples, levels), each row adds up to 1. levels: (samples,), integers 0 .. levels - 1, what came.

    - `log_loss`, `base_log_loss`: as in `event_metrics`; the base is always to say the share of each level.
    - `ece`: of the highest probability of each sample against the share in which its level came (Guo et al., ICML
      2017), in ten bins of equal width; of m levels that share the highest, each is the named one by 1 / m.
    - `auc`: of each level's probability against all other levels together; NaN for a level that never or always came.
      `macro_auc`: their mean over the levels that have one, each alike.

    NaN without a sample. Raises DataError on other shapes, probabilities that are not finite, outside 0 .. 1 or do not
    add up to 1, and on levels that are no integers or out of range.
    """
    p, true = _checked_levels(probabilities, levels)
    came = true[:, None] == np.arange(p.shape[1])
    of_truth, top = p[came], p.max(axis=1)
    named = p == top[:, None]
    auc = _auc(p.T, came.T.astype(np.float64))
    return {
        "log_loss": _log_loss(of_truth),
        "base_log_loss": _entropy(np.array([mean(column) for column in came.T.astype(np.float64)])),
        "ece": _ece(top, (named & came).sum(axis=1) / named.sum(axis=1)),
        "macro_auc": mean(auc[~np.isnan(auc)]),
        "auc": auc,
        "clipped": int((of_truth < CLIP).sum()),
    }


def _auc(p: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., samples) to (...): the share of pairs of one that happened and one that did not in the right order."""
    if p.shape[-1] == 0:
        return np.full(p.shape[:-1], math.nan)
    known = ~np.isnan(p) & ~np.isnan(y)
    happened = known & (y == 1)
    n, n_happened = known.sum(axis=-1), happened.sum(axis=-1)
    ranks = average_ranks(np.where(known, p, np.nan))
    above = np.where(happened, ranks, 0.0).sum(axis=-1) - n_happened * (n_happened + 1) / 2
    pairs = n_happened * (n - n_happened)
    auc: NDArray[np.float64] = np.divide(above, pairs, out=np.full(np.shape(pairs), math.nan), where=pairs > 0)
    return auc


def _reliability(p: NDArray[np.float64], y: NDArray[np.float64], bins: int) -> ReliabilityTable:
    edges = np.arange(bins + 1) / bins
    at = np.searchsorted(edges[1:-1], p, side="right")
    samples = np.bincount(at, minlength=bins)
    said, came = (np.bincount(at, weights=x, minlength=bins) for x in (p, y))
    some = np.where(samples > 0, samples, math.nan)
    return ReliabilityTable(edges, samples, said / some, came / some)


def _ece(p: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    table = _reliability(p, y, BINS)
    off = table.samples * np.abs(table.probability - table.happened)
    return float(np.nansum(off) / len(p)) if len(p) else math.nan


def _log_loss(of_truth: NDArray[np.float64]) -> float:
    """Mean of -log of the probabilities of what came, (samples,)."""
    return mean(-np.log(np.maximum(of_truth, CLIP)))


def _entropy(shares: NDArray[np.float64]) -> float:
    """The log loss of always saying the shares; NaN where they are."""
    return float((-shares * np.log(np.where(shares == 0, 1.0, shares))).sum())


def _checked(probability: NDArray[Any], happened: NDArray[Any]) -> list[NDArray[np.float64]]:
    p, y = aligned(probability=probability, happened=happened)
    if (wrong := (p < 0) | (p > 1)).any():
        raise DataError(
            f"probability: expected 0 .. 1, got {wrong.sum()} others, such as {p[wrong][0]:.4g}; "
            "take the sigmoid of a logit"
        )
    if (wrong := (y != 0) & (y != 1) & ~np.isnan(y)).any():
        raise DataError(
            f"happened: expected 0 (did not) or 1 (did), got {wrong.sum()} others, such as {y[wrong][0]:.4g}; "
            "NaN is for what is not known"
        )
    return [p, y]


def _checked_levels(
    probabilities: NDArray[Any], levels: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.signedinteger[Any] | np.unsignedinteger[Any]]]:
    p, true = np.asarray(probabilities, dtype=np.float64), np.asarray(levels)
    if p.ndim != 2 or p.shape[1] == 0 or true.shape != p.shape[:1] or true.dtype.kind not in "iu":
        raise DataError(
            "expected probabilities (samples, levels) and integer levels (samples,), got shapes "
            f"{p.shape} and {true.shape} of {true.dtype}; drop the samples without a level and cast the rest"
        )
    # NaN fails both comparisons
    if wrong := int((~((p >= 0) & (p <= 1)).all(axis=1) | ~(np.abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE)).sum()):
        raise DataError(
            f"probabilities: expected rows of 0 .. 1 that add up to 1, got {wrong} others; take the softmax of logits, "
            "and drop the samples without a prediction"
        )
    if true.size and not (true.min() >= 0 and true.max() < p.shape[1]):
        raise DataError(
            f"levels: expected 0 .. {p.shape[1] - 1}, got {true.min()} .. {true.max()}; give a column for each level"
        )
    return p, true
