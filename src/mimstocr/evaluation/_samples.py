"""What the metrics of probabilities and of quantities share: which cells count, and the straight line through them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import DataError


class Line(NamedTuple):
    """The least-squares line y = intercept + slope x, and the correlation of x and y; NaN where it is not defined."""

    intercept: float
    slope: float
    correlation: float


def aligned(**arrays: NDArray[Any]) -> list[NDArray[np.float64]]:
    """The arrays in float64, (samples,) or (days, stocks), NaN where there is nothing.

    Raises DataError, by the names given, on shapes that differ or have other dimensions, and on infinite values.
    """
    converted = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    shapes = [array.shape for array in converted.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) not in (1, 2):
        raise DataError(
            f"expected {' and '.join(converted)} of one shape, (samples,) or (days, stocks), got "
            f"{' and '.join(map(str, shapes))}; align them to the same days and symbols"
        )
    for name, array in converted.items():
        if np.isinf(array).any():
            raise DataError(
                f"{name}: expected finite values, or NaN for a stock without one, got {np.isinf(array).sum()} infinite "
                "values; find the days they come from"
            )
    return list(converted.values())


def common(*arrays: NDArray[np.float64]) -> tuple[list[NDArray[np.float64]], int]:
    """The cells known in all arrays, (samples,) each, and how many are known in some of them only."""
    missing = np.stack([np.isnan(array) for array in arrays])
    samples = ~missing.any(axis=0)
    return [array[samples] for array in arrays], int((~samples & ~missing.all(axis=0)).sum())


def mean(x: NDArray[np.float64]) -> float:
    """The mean of (samples,); NaN of none."""
    return float(x.mean()) if x.size else math.nan


def mean_square(x: NDArray[np.float64]) -> float:
    """The mean of the squares of (samples,); NaN of none, infinite where they are too large for float64."""
    with np.errstate(over="ignore"):
        return mean(x * x)


def line(x: NDArray[np.float64], y: NDArray[np.float64]) -> Line:
    """The line through (samples,) of x and y, finite. All NaN where x is constant; without correlation where y is."""
    if not x.size or x.min() == x.max():
        return Line(math.nan, math.nan, math.nan)
    (x_mean, u, x_unit), (y_mean, v, y_unit) = _centred(x), _centred(y)
    slope = float(u @ v / (u @ u))
    correlation = float(np.clip(u @ v / np.sqrt((u @ u) * (v @ v)), -1.0, 1.0)) if v.any() else math.nan
    return Line((y_mean - slope * x_mean) * y_unit, slope * (y_unit / x_unit), correlation)


def _centred(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], float]:
    """Mean and deviations in units of the largest size, whose squares neither vanish nor overflow, and the unit."""
    unit = float(np.abs(x).max()) or 1.0
    scaled = x / unit  # a constant becomes 1 or -1, whose mean is exact, so that nothing is left of it
    centre = float(scaled.mean())
    return centre, scaled - centre, unit
