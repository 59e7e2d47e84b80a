"""US stocks: the SEC's fee by day, single shares, selling short."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.us_equity import UsEquity
from mimstocr.backtest.strategy import following

NAN = np.nan


def follow(close, weights, *, capital=10_000.0, first="2022-01-03", market=None, factor=None):
    close = np.array(close, dtype=float)
    made = terms_of(
        market or UsEquity(),
        close=close,
        tradable=close > 0,
        factor=factor,
        days=np.datetime64(first) + np.arange(len(close)),
    )
    return made, simulate(made, following(np.array(weights, dtype=float)), delay=0, capital=capital)


@pytest.mark.parametrize(
    ("day", "dollars"),
    [
        ("2014-03-17", 0.0),
        ("2014-03-18", 22.10),
        ("2015-02-13", 22.10),
        ("2015-02-14", 18.40),
        ("2016-02-16", 21.80),
        ("2017-07-04", 23.10),
        ("2018-05-22", 13.00),
        ("2019-04-15", 13.00),
        ("2019-04-16", 20.70),
        ("2020-02-18", 22.10),
        ("2021-02-25", 5.10),
        ("2022-05-14", 22.90),
        ("2023-02-27", 8.00),
        ("2024-05-21", 8.00),
        ("2024-05-22", 27.80),
        ("2025-05-14", 0.0),
    ],
)
def test_the_fee_of_the_sec_in_dollars_a_million_sold(day, dollars):
    rates = UsEquity().rates(np.array([day], dtype="datetime64[D]"))[0]
    assert rates[0].tolist() == [0, 0]
    assert_allclose(rates[1], [0, dollars / 1e6], rtol=1e-12)


def test_a_round_trip_in_dollars():
    made, run = follow([[100.0], [110.0]], [[0.505], [0.0]])
    assert made.kinds == ("commission", "sec_fee", "slippage", "impact", "financing", "delisting")
    assert run.shares[:, 0].tolist() == [50, 0]  # 50.49 shares are 50
    assert_allclose(run.cost_kinds[:, 1], [0, 5500 * 5.10e-6], rtol=1e-12)
    assert_allclose(run.cost_kinds[:, 2], [5000 * 2e-4, 5500 * 2e-4], rtol=1e-12)
    assert run.cash[1] == pytest.approx(10_000 + 500 - 1 - 1.1 - 5500 * 5.10e-6, rel=1e-12)


def test_shares_are_real_ones_and_can_be_fractions():
    factor = np.array([[0.25]])
    assert follow([[100.0]], [[0.505]], factor=factor)[1].shares[0, 0] == 48  # 12.6 real shares of 400 dollars are 12
    market = UsEquity(lot=None, slippage=0)
    assert follow([[100.0]], [[0.505]], market=market)[1].shares[0, 0] == pytest.approx(50.5, rel=1e-12)


def test_selling_short_pays_the_loan_and_the_fee():
    _, run = follow([[100.0], [90.0], [90.0]], [[-0.5], [NAN], [0.0]])
    # of 10 000 less the costs one half is a little less than 50 shares
    assert run.shares[:, 0].tolist() == [-49, -49, 0]
    assert run.cash[0] == pytest.approx(10_000 + 4900 * (1 - 2e-4 - 5.10e-6), rel=1e-12)
    assert_allclose(run.cost_kinds[:, -2], [0, 4900 * 0.005 / 252, 4410 * 0.005 / 252], rtol=1e-12)
    assert_allclose(run.cost_kinds[:, 1], [4900 * 5.10e-6, 0, 0], rtol=1e-12)


def test_money_borrowed_pays_interest():
    _, run = follow([[100.0], [100.0]], [[1.5], [NAN]], market=UsEquity(leverage=1.5, slippage=0))
    assert run.cash[0] == -5000
    assert run.cost_kinds[1, -2] == pytest.approx(5000 * 0.05 / 252)
