"""How well volatilities were forecast, beside a forecast that costs nothing."""

from __future__ import annotations

import math
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation._samples import aligned, common, line, mean, mean_square

LARGEST = 1e150
"""What is above it has no square in float64."""


class VolatilityFit(TypedDict):
    """One forecast of volatility; all without unit, but mz_intercept, a variance a day.

    floored: forecasts below the floor.
    """

    qlike: float
    log_mse: float
    log_correlation: float
    mz_intercept: float
    mz_slope: float
    mz_r2: float
    variance_ratio: float
    floored: int


class VolatilityMetrics(VolatilityFit):
    """The forecast's fit, that of the reference on the same samples (None: none was given), and the skill over it.

    realised_floored: realised volatilities below the floor. samples: how many counted. left_out: cells with some of
    the numbers, but not all.
    """

    reference: VolatilityFit | None
    skill: float
    realised_floored: int
    samples: int
    left_out: int


def volatility_metrics(
    predicted: NDArray[Any], realised: NDArray[Any], reference: NDArray[Any] | None = None, *, floor: float = 1e-3
) -> VolatilityMetrics:
    """Forecasts of volatility against what was realised, over all samples alike.

    predicted, realised, reference: (samples,) or (days, stocks) daily volatilities, fractions (0.02 = 2 % a day), 0 or
    more, NaN for a stock without one. reference: another forecast, such as the trailing volatility; then only samples
    that it has too are counted, for both. floor: where a logarithm or a ratio is taken, in `qlike`, `log_mse` and
    `log_correlation`, volatilities below it count as it, in all three arrays; a stock that did not move has none.

    - `qlike`: mean of v / h - log(v / h) - 1, v the realised and h the predicted variance (Patton, Journal of
      Econometrics 2011, at b = -2); 0 is perfect. Noise in v without bias does not change which forecast is best.
    - `skill`: 1 - qlike / the qlike of the reference; NaN without one or where that is 0.
    - `log_mse`, `log_correlation`: mean squared difference and Pearson correlation of log volatilities.
    - `mz_intercept`, `mz_slope`, `mz_r2`: the regression v = a + b h (Mincer and Zarnowitz 1969), a = 0 and b = 1 for a
      forecast without bias. The few largest variances rule it.
    - `variance_ratio`: mean h / mean v, above 1 where too much was forecast.

    NaN: all without a sample; log_correlation and the regression of a constant forecast; log_correlation and mz_r2 of
    constant realised ones; variance_ratio where nothing moved. Raises DataError on shapes that differ and on values
    below 0 or above 1e150, ConfigError on a floor that is not above 0.
    """
    if not 0 < floor < math.inf:
        raise ConfigError(f"floor: expected a daily volatility above 0, got {floor}; 0.001 is 0.1 % a day")
    named = {"predicted": predicted, "realised": realised}
    cells, left_out = common(*_volatilities(**named, **({} if reference is None else {"reference": reference})))
    h, v = cells[:2]
    fit = _fit(h, v, floor)
    beside = _fit(cells[2], v, floor) if reference is not None else None
    return {
        **fit,
        "reference": beside,
        "skill": 1.0 - fit["qlike"] / beside["qlike"] if beside and beside["qlike"] else math.nan,
        "realised_floored": int((v < floor).sum()),
        "samples": len(v),
        "left_out": left_out,
    }


def _volatilities(**arrays: NDArray[Any]) -> list[NDArray[np.float64]]:
    checked = aligned(**arrays)
    for name, array in zip(arrays, checked, strict=True):
        if (wrong := (array < 0) | (array > LARGEST)).any():
            raise DataError(
                f"{name}: expected daily volatilities of 0 .. {LARGEST:g}, got {wrong.sum()} others, such as "
                f"{array[wrong][0]:.4g}; take the exponential of a log volatility"
            )
    return checked


def _fit(predicted: NDArray[np.float64], realised: NDArray[np.float64], floor: float) -> VolatilityFit:
    """The fit of (samples,) daily volatilities."""
    log_h, log_v = np.log(np.maximum(predicted, floor)), np.log(np.maximum(realised, floor))
    x = 2.0 * (log_v - log_h)
    h, v = predicted**2, realised**2
    regression = line(h, v)
    return {
        "qlike": mean(np.expm1(x) - x),
        "log_mse": mean_square(log_v - log_h),
        "log_correlation": line(log_h, log_v).correlation,
        "mz_intercept": regression.intercept,
        "mz_slope": regression.slope,
        "mz_r2": regression.correlation**2,
        "variance_ratio": mean(h) / mean(v) if v.any() else math.nan,
        "floored": int((predicted < floor).sum()),
    }
