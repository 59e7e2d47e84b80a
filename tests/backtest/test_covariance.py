import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.covariance import FLOOR, shrunk_covariance
from mimstocr.errors import DataError

NAN = np.nan


def returns_of(n_days, n, seed=0, missing=0.0):
    random = np.random.default_rng(seed)
    common = random.normal(0, 0.012, (n_days, 1)) * random.uniform(0.3, 1.7, n)
    values = common + random.standard_t(4, (n_days, n)) * random.uniform(0.005, 0.03, n)
    values[random.random(values.shape) < missing] = NAN
    return values


def ledoit_wolf(returns):
    """The formulas of appendix B, one entry after the other."""
    T, n = returns.shape
    y = returns - returns.mean(axis=0)
    s = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            s[i, j] = sum(y[t, i] * y[t, j] for t in range(T)) / T
    r = np.mean([s[i, j] / np.sqrt(s[i, i] * s[j, j]) for i in range(n) for j in range(n) if i != j])
    f = np.array([[s[i, i] if i == j else r * np.sqrt(s[i, i] * s[j, j]) for j in range(n)] for i in range(n)])

    def pi(i, j):
        return sum((y[t, i] * y[t, j] - s[i, j]) ** 2 for t in range(T)) / T

    def theta(k, i, j):
        return sum((y[t, k] ** 2 - s[k, k]) * (y[t, i] * y[t, j] - s[i, j]) for t in range(T)) / T

    rho = sum(pi(i, i) for i in range(n))
    for i in range(n):
        for j in range(n):
            if i != j:
                parts = np.sqrt(s[j, j] / s[i, i]) * theta(i, i, j) + np.sqrt(s[i, i] / s[j, j]) * theta(j, i, j)
                rho += r / 2 * parts
    gamma = sum((f[i, j] - s[i, j]) ** 2 for i in range(n) for j in range(n))
    kappa = (sum(pi(i, j) for i in range(n) for j in range(n)) - rho) / gamma
    d = max(0.0, min(kappa / T, 1.0))
    return d * f + (1 - d) * s, d


@pytest.mark.parametrize(("n_days", "n", "seed"), [(60, 5, 1), (30, 6, 5), (25, 9, 4)])
def test_against_the_formulas_of_the_paper(n_days, n, seed):
    returns = returns_of(n_days, n, seed)
    expected, intensity = ledoit_wolf(returns)
    found = shrunk_covariance(returns, least=2)
    assert 0 < intensity < 1
    assert found.intensity == pytest.approx(intensity, rel=1e-10)
    assert_allclose(np.diag(found.values), np.diag(expected), rtol=1e-10)
    off = ~np.eye(n, dtype=bool)
    assert_allclose(found.values[off], expected[off] * (1 - FLOOR), rtol=1e-9)
    assert not found.unknown.any()


def test_two_stocks_by_hand():
    """One pair is its own mean: the target is the sample, of which nothing is left but the mean of products."""
    a, b = np.array([0.01, -0.03, 0.02, 0.04]), np.array([0.00, -0.01, 0.03, -0.02])
    found = shrunk_covariance(np.stack([a, b], axis=1), least=2).values
    da, db = a - 0.01, b - 0.0
    both = (da @ db) / 4 * (1 - FLOOR)
    assert_allclose(found, [[da @ da / 4, both], [both, db @ db / 4]], rtol=1e-12)


def test_the_target_when_days_are_few_and_the_sample_when_they_are_many():
    many = shrunk_covariance(returns_of(20_000, 4), least=2)
    sample = np.cov(returns_of(20_000, 4).T, bias=True)
    assert many.intensity < 0.02
    assert_allclose(many.values, sample, rtol=0.02)
    few = shrunk_covariance(np.random.default_rng(0).normal(0, 0.02, (5, 60)), least=2)
    assert few.intensity > 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 30), st.floats(0, 0.8))
def test_positive_definite(seed, n_days, n, missing):
    returns = returns_of(n_days, n, seed, missing)
    returns[:, n // 2] = returns[:, 0]  # two that move alike
    try:
        values = shrunk_covariance(returns, least=5).values
    except DataError:
        assert (np.isfinite(returns).sum(axis=0) < 5).all()
        return
    assert_array_equal(values, values.T)
    volatility = np.sqrt(np.diag(values))
    assert np.linalg.eigvalsh(values / np.outer(volatility, volatility)).min() > 0.5 * FLOOR


def test_stocks_that_move_against_each_other():
    """A mean correlation below zero leaves nothing for the stocks without returns to follow."""
    random = np.random.default_rng(0)
    move, against = random.normal(0, 0.02, 50), random.normal(0, 0.006, 50)
    found = shrunk_covariance(np.stack([move, against - move, np.full(50, NAN)], axis=1), least=5).values
    assert np.linalg.eigvalsh(found).min() > 0
    assert_allclose(found[2, :2], 0, atol=1e-15)
    assert_allclose(found[2, 2], (move.var() + (against - move).var()) / 2, rtol=1e-12)


def test_variance_is_that_of_the_known_returns():
    returns = returns_of(80, 5, missing=0.3)
    assert_allclose(np.diag(shrunk_covariance(returns, least=2).values), np.nanvar(returns, axis=0), rtol=1e-12)


@pytest.mark.parametrize("why", ["few", "none", "still", "constant"])
def test_too_few_returns_give_the_median_variance_and_the_mean_correlation(why):
    returns = returns_of(120, 7)
    for column in (2, 5):
        returns[:, column] = {"none": NAN, "still": 0.0, "constant": 0.1 / 3}.get(why, returns[:, column])
        if why == "few":
            returns[19:, column] = NAN
    found = shrunk_covariance(returns, least=20)
    assert np.flatnonzero(found.unknown).tolist() == [2, 5]
    known = [0, 1, 3, 4, 6]
    alone = shrunk_covariance(returns[:, known], least=20)
    assert_allclose(found.values[np.ix_(known, known)], alone.values, rtol=1e-12)
    assert_allclose(np.diag(found.values)[[2, 5]], np.median(np.diag(alone.values)), rtol=1e-12)

    def correlations(values):
        return values / np.sqrt(np.outer(np.diag(values), np.diag(values))) / (1 - FLOOR)

    mean = correlations(alone.values)[~np.eye(5, dtype=bool)].mean()
    made = correlations(found.values)
    for column in (2, 5):
        assert made[column, known].mean() == pytest.approx(mean, rel=1e-9)
    n = len(known)
    assert made[2, 5] == pytest.approx(mean**2 / ((1 + (n - 1) * mean) / n), rel=1e-9)


def test_the_least_is_enough():
    returns = returns_of(40, 3)
    returns[20:, 1] = NAN
    assert not shrunk_covariance(returns, least=20).unknown.any()
    assert shrunk_covariance(returns, least=21).unknown.tolist() == [False, True, False]


def test_scale_and_mean_of_returns_do_not_matter():
    returns = returns_of(60, 6, missing=0.1)
    found = shrunk_covariance(returns, least=2)
    other = shrunk_covariance(100 * returns + 3, least=2)
    assert other.intensity == pytest.approx(found.intensity, rel=1e-9)
    assert_allclose(other.values, 1e4 * found.values, rtol=1e-9)


def test_one_known_stock():
    found = shrunk_covariance(np.array([[0.01, NAN], [-0.01, NAN], [0.03, NAN]]), least=2)
    variance = np.var([0.01, -0.01, 0.03])
    assert_allclose(found.values, [[variance, 0], [0, variance]], rtol=1e-12)


@pytest.mark.parametrize("returns", [np.full((30, 3), NAN), np.zeros((30, 3)), np.zeros((0, 3))])
def test_no_stock_with_returns(returns):
    with pytest.raises(DataError, match=r"expected a stock with at least 20 daily returns .* got at most \d+ in"):
        shrunk_covariance(returns, least=20)
