import math

import numpy as np
import pytest
from scipy import stats

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation.volatility import volatility_metrics

NAN = np.nan
FIT = ("qlike", "log_mse", "log_correlation", "mz_intercept", "mz_slope", "mz_r2", "variance_ratio")


def world(seed, shape=(6, 9)):
    random = np.random.default_rng(seed)
    true = 0.02 * np.exp(0.4 * random.normal(size=shape))
    realised = true * np.exp(0.3 * random.normal(size=shape))
    predicted = true * np.exp(0.2 * random.normal(size=shape))
    reference = true * np.exp(0.5 * random.normal(size=shape))
    return predicted, realised, reference


def slow(predicted, realised, floor=1e-3):
    """By loops over the samples."""
    n, costs, logs = len(realised), [], []
    for s, r in zip(predicted, realised, strict=True):
        s, r = max(s, floor), max(r, floor)
        costs.append(r**2 / s**2 - math.log(r**2 / s**2) - 1)
        logs.append((math.log(s) - math.log(r)) ** 2)
    h, v = [s**2 for s in predicted], [r**2 for r in realised]
    h_mean, v_mean = sum(h) / n, sum(v) / n
    hv = sum((a - h_mean) * (b - v_mean) for a, b in zip(h, v, strict=True))
    hh, vv = sum((a - h_mean) ** 2 for a in h), sum((b - v_mean) ** 2 for b in v)
    residuals = [b - v_mean - hv / hh * (a - h_mean) for a, b in zip(h, v, strict=True)]
    return {
        "qlike": sum(costs) / n,
        "log_mse": sum(logs) / n,
        "mz_intercept": v_mean - hv / hh * h_mean,
        "mz_slope": hv / hh,
        "mz_r2": 1 - sum(e**2 for e in residuals) / vv,
        "variance_ratio": h_mean / v_mean,
    }


def test_by_hand():
    """Volatilities of 1 %, 2 %, 2 % predicted as 1 %, 1 %, 2 %: variances 1, 4, 4 and 1, 1, 4 basis points."""
    found = volatility_metrics(np.array([0.01, 0.01, 0.02]), np.array([0.01, 0.02, 0.02]))
    assert found["qlike"] == pytest.approx((4 - math.log(4) - 1) / 3, rel=1e-13)
    assert found["log_mse"] == pytest.approx(math.log(2) ** 2 / 3, rel=1e-13)
    # deviations -1 -1 2 and -2 1 1: 3 / 6; the line goes through (2, 3); R2 = 3^2 / (6 * 6)
    assert found["mz_slope"] == pytest.approx(1 / 2, rel=1e-13)
    assert found["mz_intercept"] == pytest.approx((3 - 2 / 2) * 1e-4, rel=1e-13)
    assert found["mz_r2"] == pytest.approx(1 / 4, rel=1e-13)
    assert found["log_correlation"] == pytest.approx(1 / 2, rel=1e-13)
    assert found["variance_ratio"] == pytest.approx(6 / 9, rel=1e-13)
    assert (found["samples"], found["left_out"], found["floored"], found["realised_floored"]) == (3, 0, 0, 0)
    assert found["reference"] is None
    assert math.isnan(found["skill"])


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loops_and_scipy(seed):
    predicted, realised, reference = world(seed)
    found = volatility_metrics(predicted, realised, reference)
    expected = slow(predicted.ravel().tolist(), realised.ravel().tolist())
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-10)
    beside = slow(reference.ravel().tolist(), realised.ravel().tolist())
    assert {name: found["reference"][name] for name in beside} == pytest.approx(beside, rel=1e-10)
    assert found["skill"] == pytest.approx(1 - expected["qlike"] / beside["qlike"])
    fit = stats.linregress(predicted.ravel() ** 2, realised.ravel() ** 2)
    assert (found["mz_intercept"], found["mz_slope"], found["mz_r2"]) == pytest.approx(
        (fit.intercept, fit.slope, fit.rvalue**2)
    )
    logs = stats.pearsonr(np.log(predicted.ravel()), np.log(realised.ravel())).statistic
    assert found["log_correlation"] == pytest.approx(logs)


def test_a_perfect_forecast():
    _, realised, reference = world(0)
    found = volatility_metrics(realised, realised, reference)
    assert (found["qlike"], found["log_mse"], found["skill"]) == (0, 0, 1)
    assert (found["log_correlation"], found["mz_slope"], found["mz_r2"], found["variance_ratio"]) == pytest.approx(
        (1, 1, 1, 1)
    )
    assert found["mz_intercept"] == pytest.approx(0, abs=1e-18)


def test_the_reference_itself_has_no_skill():
    predicted, realised, _ = world(1)
    found = volatility_metrics(predicted, realised, predicted)
    assert found["skill"] == 0
    assert {name: found[name] for name in FIT} == {name: found["reference"][name] for name in FIT}
    assert math.isnan(volatility_metrics(predicted, realised, realised)["skill"])  # nothing is better than perfect


def test_both_forecasts_are_measured_on_the_same_samples():
    predicted, realised, reference = world(2)
    predicted[0, 0], realised[1, 1], reference[2, :3] = NAN, NAN, NAN
    predicted[3, 3] = realised[3, 3] = reference[3, 3] = NAN
    found = volatility_metrics(predicted, realised, reference)
    known = ~np.isnan(predicted + realised + reference)
    assert found == volatility_metrics(predicted[known], realised[known], reference[known]) | {"left_out": 5}
    assert found["samples"] == known.sum() == 54 - 6
    alone = volatility_metrics(predicted, realised)
    assert (alone["samples"], alone["left_out"]) == (54 - 3, 2)


def test_the_unit_matters_to_the_intercept_alone():
    """Volatilities of a year: variances 252 times as large."""
    predicted, realised, _ = world(3)
    day = volatility_metrics(predicted, realised)
    year = volatility_metrics(predicted * math.sqrt(252), realised * math.sqrt(252))
    for name in FIT:
        assert year[name] == pytest.approx((252 if name == "mz_intercept" else 1) * day[name], rel=1e-10), name


def test_qlike_punishes_too_low_more_than_too_high():
    _, realised, _ = world(4)
    low, high = volatility_metrics(realised / 2, realised), volatility_metrics(realised * 2, realised)
    assert low["qlike"] == pytest.approx(4 - math.log(4) - 1)
    assert high["qlike"] == pytest.approx(1 / 4 + math.log(4) - 1)
    assert low["log_mse"] == pytest.approx(high["log_mse"])
    assert (low["variance_ratio"], high["variance_ratio"]) == pytest.approx((1 / 4, 4))


def test_the_floor_is_used_where_a_logarithm_is_and_counted():
    predicted, realised = np.array([0.02, 0.0, 0.03]), np.array([0.0, 0.02, 0.004])
    reference = np.array([0.0, 0.001, 0.02])
    found = volatility_metrics(predicted, realised, reference, floor=0.005)
    raised = slow([0.02, 0.005, 0.03], [0.005, 0.02, 0.005])
    unraised = slow(predicted.tolist(), realised.tolist(), floor=0.005)
    assert raised["mz_slope"] != pytest.approx(unraised["mz_slope"])
    for name in ("qlike", "log_mse"):
        assert found[name] == pytest.approx(raised[name])
    for name in ("mz_intercept", "mz_slope", "mz_r2", "variance_ratio"):
        assert found[name] == pytest.approx(unraised[name])
    logs = stats.pearsonr(np.log([0.02, 0.005, 0.03]), np.log([0.005, 0.02, 0.005])).statistic
    assert found["log_correlation"] == pytest.approx(logs)
    assert (found["realised_floored"], found["floored"], found["reference"]["floored"]) == (2, 1, 2)
    default = volatility_metrics(predicted, realised, reference)
    assert (default["realised_floored"], default["floored"], default["reference"]["floored"]) == (1, 1, 1)


def test_where_it_is_not_defined():
    for shape in ((0,), (0, 3), (3, 0)):
        empty = volatility_metrics(np.empty(shape), np.empty(shape), np.empty(shape))
        assert all(math.isnan(empty[name]) and math.isnan(empty["reference"][name]) for name in FIT)
        assert math.isnan(empty["skill"])
    _, realised, _ = world(5, (20,))
    constant = volatility_metrics(np.full(20, 0.03), realised)
    assert all(math.isnan(constant[name]) for name in ("log_correlation", "mz_intercept", "mz_slope", "mz_r2"))
    assert constant["qlike"] > 0
    still = volatility_metrics(realised, np.zeros(20))
    assert (still["mz_slope"], still["mz_intercept"]) == (0, 0)
    assert all(math.isnan(still[name]) for name in ("log_correlation", "mz_r2", "variance_ratio"))


def test_an_absurd_forecast_gives_figures_without_a_warning():
    found = volatility_metrics(np.array([1e38, 0.02]), np.array([0.02, 0.03]))
    assert found["qlike"] == pytest.approx((2 * math.log(1e38 / 0.02) - 1 + 2.25 - math.log(2.25) - 1) / 2)
    assert found["variance_ratio"] == pytest.approx(1e76 / 0.0013)


def test_errors_say_what_to_do():
    some = np.array([0.01, 0.02])
    with pytest.raises(DataError, match=r"predicted: .*got 1 others, such as -4.1; take the exponential"):
        volatility_metrics(np.array([0.01, -4.1]), some)
    with pytest.raises(DataError, match="realised: expected daily volatilities"):
        volatility_metrics(some, np.array([-0.1, NAN]))
    with pytest.raises(DataError, match="reference: expected finite values"):
        volatility_metrics(some, some, np.array([np.inf, 1]))
    with pytest.raises(DataError, match="such as 1e\\+200"):
        volatility_metrics(np.array([1e200, 1]), some)
    with pytest.raises(DataError, match=r"\(2,\) and \(2,\) and \(1,\); align"):
        volatility_metrics(some, some, some[:1])
    for floor in (0.0, -1.0, NAN, np.inf):
        with pytest.raises(ConfigError, match="floor: expected a daily volatility above 0"):
            volatility_metrics(some, some, floor=floor)
