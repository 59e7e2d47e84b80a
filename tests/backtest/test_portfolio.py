import math
import statistics

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mimstocr.backtest.portfolio import drawdown, portfolio_metrics
from mimstocr.errors import ConfigError, DataError

BY_HAND = [-0.1, 0.2, -0.5, 0.0, 0.25, 1.2]
"""Wealth .9, 1.08, .54, .54, .675, 1.485; highest points 1, 1.08, 1.08, 1.08, 1.08, 1.485."""


def slow(returns, days_per_year, benchmark):
    """Every metric by the standard library and loops."""

    def annual(series):
        return math.prod(1 + r for r in series) ** (days_per_year / len(series)) - 1

    n, year = len(returns), math.sqrt(days_per_year)
    mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
    wealth = peak = 1.0
    below = []
    for r in returns:
        wealth *= 1 + r
        peak = max(peak, wealth)
        below.append(wealth / peak - 1)
    longest = run = 0
    for b in below:
        run = run + 1 if b < 0 else 0
        longest = max(longest, run)
    active = [r - b for r, b in zip(returns, benchmark, strict=True)]
    beta = statistics.covariance(returns, benchmark) / statistics.variance(benchmark)
    return {
        "cumulative_return": wealth - 1,
        "annual_return": annual(returns),
        "annual_volatility": deviation * year,
        "sharpe": mean / deviation * year,
        "sortino": mean / math.sqrt(sum(r * r for r in returns if r < 0) / n) * year,
        "calmar": annual(returns) / abs(min(below)),
        "max_drawdown": min(below),
        "drawdown_days": longest,
        "win_rate": sum(r > 0 for r in returns) / n,
        "profit_factor": sum(r for r in returns if r > 0) / -sum(r for r in returns if r < 0),
        "days": n,
        "excess_return": (1 + annual(returns)) / (1 + annual(benchmark)) - 1,
        "tracking_error": statistics.stdev(active) * year,
        "information_ratio": statistics.fmean(active) / statistics.stdev(active) * year,
        "beta": beta,
        "alpha": (mean - beta * statistics.fmean(benchmark)) * days_per_year,
    }


@pytest.mark.parametrize("days_per_year", [252, 365])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loops(seed, days_per_year):
    random = np.random.default_rng(seed)
    benchmark = random.normal(0.0003, 0.01, 300)
    returns = 0.8 * benchmark + random.normal(0.0002, 0.01, 300)
    returns[random.random(300) < 0.1] = 0.0
    found = portfolio_metrics(returns, days_per_year, benchmark)
    expected = slow(returns.tolist(), days_per_year, benchmark.tolist())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_by_hand():
    found = portfolio_metrics(np.array(BY_HAND), 3)
    mean = (-0.1 + 0.2 - 0.5 + 0.0 + 0.25 + 1.2) / 6
    assert found["cumulative_return"] == pytest.approx(0.485)
    assert found["annual_return"] == pytest.approx(math.sqrt(1.485) - 1)  # six days are two years of three
    assert found["sortino"] == pytest.approx(mean / math.sqrt((0.01 + 0.25) / 6) * math.sqrt(3))
    assert found["max_drawdown"] == pytest.approx(0.54 / 1.08 - 1)
    assert found["calmar"] == pytest.approx((math.sqrt(1.485) - 1) / 0.5)
    assert found["drawdown_days"] == 3
    assert found["win_rate"] == 3 / 6
    assert found["profit_factor"] == pytest.approx(1.65 / 0.6)
    assert "beta" not in found


def test_drawdown_by_hand():
    assert_allclose(drawdown(np.array(BY_HAND)), [-0.1, 0, -0.5, -0.5, 0.675 / 1.08 - 1, 0], atol=1e-15)


def test_a_loss_on_the_first_day_is_a_drawdown():
    found = portfolio_metrics(np.array([-0.2, 0.01]), 252)
    assert found["max_drawdown"] == pytest.approx(-0.2)
    assert found["drawdown_days"] == 2


def test_undefined_is_missing():
    assert np.full(3, 0.1).std() > 0  # three times 0.1 does not average to 0.1
    steady = portfolio_metrics(np.full(3, 0.1), 252, np.full(3, 0.1))
    for name in ("sharpe", "sortino", "calmar", "profit_factor", "information_ratio", "beta", "alpha"):
        assert math.isnan(steady[name]), name
    assert steady["max_drawdown"] == steady["drawdown_days"] == 0
    assert steady["annual_volatility"] == steady["tracking_error"] == 0
    assert steady["excess_return"] == pytest.approx(0)
    one = portfolio_metrics(np.array([0.1]), 252, np.array([0.2]))
    for name in ("annual_volatility", "sharpe", "tracking_error", "information_ratio", "beta", "alpha"):
        assert math.isnan(one[name]), name
    ruin = portfolio_metrics(np.array([0.1, -1.0, 0.5]), 252)
    assert ruin["cumulative_return"] == ruin["annual_return"] == ruin["max_drawdown"] == -1


def test_a_series_against_itself():
    r = np.random.default_rng(0).normal(size=50) / 100
    found = portfolio_metrics(r, 252, r)
    assert found["beta"] == pytest.approx(1)
    assert found["alpha"] == pytest.approx(0, abs=1e-12)
    assert found["excess_return"] == pytest.approx(0)
    assert math.isnan(found["information_ratio"])


@pytest.mark.parametrize(
    ("returns", "benchmark", "text"),
    [
        (np.array([0.1, np.nan]), None, "returns: expected a number on every day, got 1"),
        (np.array([]), None, "one day at least"),
        (np.ones((2, 2)), None, r"shape \(2, 2\)"),
        (np.array([1.0, -3.0]), None, "divide percentages by 100"),
        (np.array([0.1, 0.1]), np.array([0.1]), "benchmark of 2 days, got 1"),
        (np.array([0.1, 0.1]), np.array([0.1, np.inf]), "benchmark: expected a number"),
    ],
)
def test_errors_say_what_to_do(returns, benchmark, text):
    with pytest.raises(DataError, match=text):
        portfolio_metrics(returns, 252, benchmark)


def test_days_per_year_is_above_zero():
    with pytest.raises(ConfigError, match="days_per_year"):
        portfolio_metrics(np.array([0.1]), 0)
