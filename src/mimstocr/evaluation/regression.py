"""How near predicted quantities came to the real ones, in their own unit."""

from __future__ import annotations

import math
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mimstocr.evaluation._samples import aligned, common, line, mean, mean_square


class RegressionMetrics(TypedDict):
    """mse is in the square of the quantity's unit, mae and intercept in the unit, the others without one.

    samples: how many counted. left_out: cells with only one of the two numbers.
    """

    mse: float
    mae: float
    r2_zero: float
    r2_mean: float
    slope: float
    intercept: float
    samples: int
    left_out: int


def regression_metrics(predicted: NDArray[Any], actual: NDArray[Any]) -> RegressionMetrics:
    """Errors, R2 and calibration of predictions of a real quantity, over all samples alike.

    predicted, actual: (samples,) or (days, stocks), in one unit, NaN for a stock without one.

    - `mse`, `mae`: mean squared and mean absolute error.
    - `r2_zero`: 1 - sum (y - f)^2 / sum y^2, out-of-sample R2 against the forecast 0: that of Campbell and Thompson
      (RFS 2008) with 0 in place of the historical mean, as Gu, Kelly and Xiu (RFS 2020) have it for returns of
      stocks, whose historical means are a benchmark too easy to beat. Below 0 is worse than to say nothing.
    - `r2_mean`: the same against the mean of these very samples, which nobody knew beforehand.
    - `slope`, `intercept`: of the regression of actual on predicted, 1 and 0 for a calibrated forecast (Mincer and
      Zarnowitz 1969); a slope below 1 says that the predictions spread too far.

    NaN: all without a sample; r2_zero where all actuals are 0; r2_mean where they are constant; slope and intercept
    where the predictions are. Raises DataError on shapes that differ and on infinite values.
    """
    (f, y), left_out = common(*aligned(predicted=predicted, actual=actual))
    error, fit = y - f, line(f, y)
    # rounding of the mean would leave constant actuals a variance of their own
    around_mean = y - y.mean() if y.size and y.min() < y.max() else np.zeros(len(y))
    return {
        "mse": mean_square(error),
        "mae": mean(np.abs(error)),
        "r2_zero": _r2(error, y),
        "r2_mean": _r2(error, around_mean),
        "slope": fit.slope,
        "intercept": fit.intercept,
        "samples": len(y),
        "left_out": left_out,
    }


def _r2(error: NDArray[np.float64], benchmark: NDArray[np.float64]) -> float:
    """1 - the mean squared error over that of the benchmark; NaN where the benchmark is never wrong."""
    wrong = mean_square(benchmark)
    return 1.0 - mean_square(error) / wrong if wrong > 0 else math.nan
