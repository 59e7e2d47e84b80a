import math

import numpy as np
import pytest
from scipy import stats

from mimstocr.errors import DataError
from mimstocr.evaluation.regression import regression_metrics

NAN = np.nan
FIGURES = ("mse", "mae", "r2_zero", "r2_mean", "slope", "intercept")


def slow(f, y):
    """By loops over the samples."""
    n, y_mean, f_mean = len(y), math.fsum(y) / len(y), math.fsum(f) / len(f)
    pairs = list(zip(f, y, strict=True))
    sse = math.fsum((b - a) ** 2 for a, b in pairs)
    slope = math.fsum((a - f_mean) * (b - y_mean) for a, b in pairs) / math.fsum((a - f_mean) ** 2 for a in f)
    return {
        "mse": sse / n,
        "mae": math.fsum(abs(b - a) for a, b in pairs) / n,
        "r2_zero": 1 - sse / math.fsum(b * b for b in y),
        "r2_mean": 1 - sse / math.fsum((b - y_mean) ** 2 for b in y),
        "slope": slope,
        "intercept": y_mean - slope * f_mean,
    }


def test_by_hand():
    """Predicted 1, 2, 3 and came 1, 2, 6: one error of 3; the line of the means 2 and 3 has slope 5 / 2."""
    found = regression_metrics(np.array([1.0, 2, 3]), np.array([1.0, 2, 6]))
    assert found == {
        "mse": pytest.approx(9 / 3),
        "mae": pytest.approx(3 / 3),
        "r2_zero": pytest.approx(1 - 9 / (1 + 4 + 36)),
        "r2_mean": pytest.approx(1 - 9 / (4 + 1 + 9)),
        "slope": pytest.approx(5 / 2),
        "intercept": pytest.approx(3 - 2 * 5 / 2),
        "samples": 3,
        "left_out": 0,
    }


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loops_and_scipy(seed):
    random = np.random.default_rng(seed)
    y = random.normal(0.01, 0.02, (7, 11))
    f = 0.3 * y + random.normal(0, 0.02, y.shape)
    f[random.random(f.shape) < 0.2], y[random.random(f.shape) < 0.1] = NAN, NAN
    known = ~np.isnan(f) & ~np.isnan(y)
    found = regression_metrics(f, y)
    assert {name: found[name] for name in FIGURES} == pytest.approx(slow(f[known].tolist(), y[known].tolist()))
    expected = stats.linregress(f[known], y[known])
    assert (found["slope"], found["intercept"]) == pytest.approx((expected.slope, expected.intercept))
    assert found["samples"] == known.sum()
    assert found["left_out"] == (np.isnan(f) != np.isnan(y)).sum() > 0
    assert regression_metrics(f[known], y[known]) == pytest.approx({**found, "left_out": 0})


def test_what_the_forecasts_are_measured_against():
    y = np.random.default_rng(0).normal(1, 1, 50)
    assert regression_metrics(np.zeros(50), y)["r2_zero"] == 0
    assert regression_metrics(np.full(50, y.mean()), y)["r2_mean"] == pytest.approx(0, abs=1e-15)
    perfect = regression_metrics(y, y)
    assert (perfect["mse"], perfect["mae"], perfect["r2_zero"], perfect["r2_mean"]) == (0, 0, 1, 1)
    assert (perfect["slope"], perfect["intercept"]) == pytest.approx((1, 0), abs=1e-14)
    assert regression_metrics(-y, y)["r2_zero"] == pytest.approx(1 - 4)


def test_the_line_mends_the_forecast():
    """intercept + slope f is the best straight use of the forecast, so its own line is 0 and 1."""
    random = np.random.default_rng(1)
    f = random.normal(size=60)
    y = 2 + 0.2 * f + random.normal(size=60)
    found = regression_metrics(f, y)
    mended = regression_metrics(found["intercept"] + found["slope"] * f, y)
    assert (mended["intercept"], mended["slope"]) == pytest.approx((0, 1), abs=1e-12)
    assert mended["mse"] < found["mse"]


def test_units():
    """In percent instead of fractions: mse 100^2 times, mae and intercept 100 times, the others as they were."""
    random = np.random.default_rng(2)
    f, y = random.normal(size=(2, 40)) / 50
    found, percent = regression_metrics(f, y), regression_metrics(100 * f, 100 * y)
    factors = {"mse": 100**2, "mae": 100, "intercept": 100}
    for name in FIGURES:
        assert percent[name] == pytest.approx(factors.get(name, 1) * found[name], rel=1e-12), name


def test_where_it_is_not_defined():
    for n in ((0,), (0, 3), (3, 0)):
        found = regression_metrics(np.empty(n), np.empty(n))
        assert all(math.isnan(found[name]) for name in FIGURES)
        assert found["samples"] == 0
    some, constant = np.array([1.0, 2, 4]), np.full(3, 0.1)
    found = regression_metrics(constant, some)
    assert math.isnan(found["slope"])
    assert math.isnan(found["intercept"])
    assert found["mae"] == pytest.approx((0.9 + 1.9 + 3.9) / 3)
    found = regression_metrics(some, constant)
    assert math.isnan(found["r2_mean"])
    assert (found["slope"], found["intercept"]) == (0, 0.1)
    assert found["r2_zero"] == pytest.approx(1 - (0.9**2 + 1.9**2 + 3.9**2) / (3 * 0.1**2))
    for nothing in (0.0, 1e-200):  # the square of the second is 0
        assert math.isnan(regression_metrics(some, np.full(3, nothing))["r2_zero"])


def test_a_huge_prediction_costs_infinitely_without_a_warning():
    found = regression_metrics(np.array([1e200, 1.0]), np.array([1.0, 2.0]))
    assert (found["mse"], found["r2_zero"], found["mae"]) == (math.inf, -math.inf, 5e199)


def test_float32_is_computed_in_float64():
    f, y = np.random.default_rng(3).normal(size=(2, 30)).astype(np.float32)
    assert regression_metrics(f, y) == regression_metrics(f.astype(float), y.astype(float))


def test_errors_say_what_to_do():
    with pytest.raises(DataError, match=r"predicted and actual of one shape.*\(2,\) and \(3,\); align"):
        regression_metrics(np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match="predicted: expected finite values"):
        regression_metrics(np.array([np.inf, 0]), np.zeros(2))
