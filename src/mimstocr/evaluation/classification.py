"""How well levels were named."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import DataError


class ClassificationMetrics(TypedDict):
    """accuracy, macro_f1 and majority are fractions; confusion counts, (n_levels, n_levels), a row a true level."""

    accuracy: float
    macro_f1: float
    majority: float
    confusion: NDArray[np.int64]


def classification_metrics(levels: NDArray[Any], predicted: NDArray[Any], n_levels: int) -> ClassificationMetrics:
    """Accuracy, macro-F1 and the confusion matrix of predicted levels.

    levels, predicted: (samples,), integers 0 .. n_levels - 1. F1 of a level is 2 TP / (2 TP + FP + FN), and
    macro-F1 the mean over the levels that occur among the true or the predicted ones; a level absent from both
    is left out, for it has no F1. `majority` is the accuracy of always naming the most frequent true level, the
    baseline that accuracy must beat. All three are NaN without samples.
    Raises DataError on unequal lengths, on values that are not integers, or on a level outside the range.
    """
    true, named = _levels(levels, "levels", n_levels), _levels(predicted, "predicted", n_levels)
    if len(true) != len(named):
        raise DataError(f"expected as many predicted as true levels, got {len(named)} and {len(true)}; align them")
    confusion = np.bincount(true * n_levels + named, minlength=n_levels**2).reshape(n_levels, n_levels)
    hits, of_true, of_named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = of_true + of_named > 0
    nan, total = float("nan"), len(true)
    return {
        "accuracy": float(hits.sum() / total) if total else nan,
        "macro_f1": float((2 * hits[occurs] / (of_true + of_named)[occurs]).mean()) if total else nan,
        "majority": float(of_true.max() / total) if total else nan,
        "confusion": confusion,
    }


def _levels(values: NDArray[Any], name: str, n_levels: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{name}: expected integers of shape (samples,), got {array.dtype} of shape {array.shape}; "
            "drop the samples without a level and cast the rest"
        )
    if array.size and not (array.min() >= 0 and array.max() < n_levels):
        raise DataError(
            f"{name}: expected levels 0 .. {n_levels - 1}, got {array.min()} .. {array.max()}; set n_levels to fit"
        )
    return array.astype(np.int64)
