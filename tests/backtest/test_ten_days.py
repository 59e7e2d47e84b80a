"""Ten days worked by hand, from prices and weights through the engine to every portfolio metric.

An account of 1010 and two stocks; every trade costs 1 % of its value. The score of Monday the 4th holds stock A from
the close of the 5th, that of the 11th holds stock B from the close of the 12th (delay 1); days between decide nothing.

    day       04    05   06   07   08   11    12   13    14   15    18    19
    A         80   100  110   99   99  108   101   60    60   90    90    45
    B        120   110  110   88   99   99    99  108    90   99 118.8 118.8
    index    100   100  105  100  100  110   110   99   110  110   121   110

On the 5th 1010 buy 10 A: 1000 and 10 of costs. On the 12th they are worth 1010: sold, 10.10 of costs, 999.90 in cash,
which buy 10 B: 990 and 9.90 of costs. So the account stands at

    close          05   06   07   08   11   12   13   14   15   18   19
    value        1000 1100  990  990 1080  990 1080  900  990 1188 1188

The first day compared is the 6th, whose return counts from the capital of 1010, as the entry was paid from it.
"""

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest

from mimstocr.backtest import BacktestSettings, backtest
from mimstocr.data.panel import make_panel

F = Fraction
DAYS = np.busday_offset("2020-05-04", np.arange(12)).astype("datetime64[D]")
A = [80, 100, 110, 99, 99, 108, 101, 60, 60, 90, 90, 45]
B = [120, 110, 110, 88, 99, 99, 99, 108, 90, 99, 118.8, 118.8]
INDEX = [100, 100, 105, 100, 100, 110, 110, 99, 110, 110, 121, 110]
VALUE = [1010, 1000, 1100, 990, 990, 1080, 990, 1080, 900, 990, 1188, 1188]

# 1100 / 1010 - 1, 990 / 1100 - 1, ...
R = [F(90, 1010), F(-1, 10), F(0), F(1, 11), F(-1, 12), F(1, 11), F(-1, 6), F(1, 10), F(1, 5), F(0)]
BENCH = [F(1, 20), F(-1, 21), F(0), F(1, 10), F(0), F(-1, 10), F(1, 9), F(0), F(1, 10), F(-1, 11)]
YEAR = 252


def mean(x):
    return sum(x, F(0)) / len(x)


def variance(x):
    """ddof 1."""
    return sum(((value - mean(x)) ** 2 for value in x), F(0)) / (len(x) - 1)


def covariance(x, y):
    """ddof 1."""
    return sum(((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y, strict=True)), F(0)) / (len(x) - 1)


BETA = covariance(R, BENCH) / variance(BENCH)
OVER = [r - i for r, i in zip(R, BENCH, strict=True)]
ANNUAL = float(F(1188, 1010)) ** (YEAR / 10) - 1
ANNUAL_INDEX = 1.1 ** (YEAR / 10) - 1  # 110 / 100

EXPECTED = {
    "cumulative_return": F(1188, 1010) - 1,
    "annual_return": ANNUAL,
    "annual_volatility": sqrt(variance(R) * YEAR),
    "sharpe": mean(R) / sqrt(variance(R)) * sqrt(YEAR),
    # losses of 1/10, 1/12 and 1/6, over all ten days
    "sortino": mean(R) / sqrt((F(1, 100) + F(1, 144) + F(1, 36)) / 10) * sqrt(YEAR),
    "max_drawdown": F(900, 1100) - 1,
    "calmar": ANNUAL / F(2, 11),
    "drawdown_days": 7,  # below 1100 from the 7th to the 15th
    "win_rate": F(5, 10),
    "profit_factor": (F(90, 1010) + 2 * F(1, 11) + F(1, 10) + F(1, 5)) / (F(1, 10) + F(1, 12) + F(1, 6)),
    "days": 10,
    "excess_return": (1 + ANNUAL) / (1 + ANNUAL_INDEX) - 1,
    "tracking_error": sqrt(variance(OVER) * YEAR),
    "information_ratio": mean(OVER) / sqrt(variance(OVER)) * sqrt(YEAR),
    "beta": BETA,
    "alpha": (mean(R) - BETA * mean(BENCH)) * YEAR,
    # one-way: half of 1000 on the 5th, counted on the 6th, and half of 1010 + 990 on the 12th, of an account of 1010
    "turnover": (F(500, 1010) + F(1000, 1010)) / 10,
    "costs": (F(10) + F(1010, 100) + F(990, 100)) / 1010,
}


@pytest.fixture(scope="module")
def result():
    panel = make_panel(
        {"close": np.array([A, B]).T}, DAYS, ["A", "B"], source="test", days_per_year=YEAR, benchmark=np.array(INDEX)
    )
    weights = np.full((12, 2), np.nan)
    weights[0], weights[5] = [1, 0], [0, 1]
    settings = BacktestSettings(
        strategy="positions", market={"kind": "flat", "commission": 0.01}, delay=1, capital=1010
    )
    return backtest(panel, weights, settings, first=DAYS[0], last=DAYS[-1])


def test_the_account(result):
    np.testing.assert_allclose(result.net.value, VALUE, rtol=1e-6)  # prices are float32
    np.testing.assert_allclose(result.net.shares[1:6], [[10, 0]] * 5, rtol=1e-6)
    np.testing.assert_allclose(result.net.shares[6:], [[0, 10]] * 6, rtol=1e-6)
    np.testing.assert_allclose(result.net.costs[[1, 6]], [10, 20], rtol=1e-6)
    assert result.days[0] == DAYS[2]
    np.testing.assert_allclose(result.net_returns, [float(r) for r in R], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.index_returns, [float(i) for i in BENCH], rtol=1e-5)


def test_every_metric(result):
    found = result.metrics["net"]
    assert result.measured_against == "index"
    assert set(found) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert found[name] == pytest.approx(float(expected), rel=1e-5), name


def test_the_figures_as_numbers():
    """The formulas above, reckoned with a pocket calculator."""
    figures = {
        "cumulative_return": 0.17624,
        "annual_volatility": 1.78905,
        "sharpe": 3.11191,
        "sortino": 5.24430,
        "max_drawdown": -0.18182,
        "profit_factor": 1.63122,
        "tracking_error": 2.06439,
        "information_ratio": 1.20048,
        "beta": 0.14832,
        "alpha": 5.10919,
        "turnover": 0.14851,
        "costs": 0.02970,
    }
    for name, figure in figures.items():
        assert float(EXPECTED[name]) == pytest.approx(figure, abs=5e-6), name


def test_without_costs_the_account_buys_more(result):
    """10.1 A for 1010, sold for 1020.10, which buy 1020.10 / 99 B."""
    assert result.metrics["gross"]["cumulative_return"] == pytest.approx(1.01 * 1.2 - 1, rel=1e-6)
    assert result.metrics["gross"]["turnover"] == pytest.approx((0.5 + 1) / 10, rel=1e-6)
