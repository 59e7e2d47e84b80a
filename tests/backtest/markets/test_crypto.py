"""Coins: the taker's fee, any fraction of a coin, selling short, every day of the year."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import make_terms
from mimstocr.backtest.markets.crypto import Crypto
from mimstocr.backtest.strategy import following
from mimstocr.data.panel import make_panel

NAN = np.nan


def follow(close, weights, market=None):
    panel = make_panel(
        {"close": np.array(close)},
        np.datetime64("2022-01-01") + np.arange(len(close)),
        ["BTC"],
        source="test",
        days_per_year=365,
    )
    made = make_terms(market or Crypto(), panel, slice(0, len(close)))
    return simulate(made, following(np.array(weights)), delay=0, capital=1000.0)


def test_fee_and_slippage_on_both_sides():
    run = follow([[40_000.0], [50_000.0]], [[1.0], [0.0]])
    coins = 1000 / 1.0012 / 40_000
    assert_allclose(run.shares[:, 0], [coins, 0], rtol=1e-12)
    assert_allclose(run.cost_kinds[:, 0], [coins * 40, coins * 50], rtol=1e-12)
    assert_allclose(run.cost_kinds[:, 1], [coins * 8, coins * 10], rtol=1e-12)
    assert run.cash[1] == pytest.approx(coins * 50_000 * 0.9988, rel=1e-12)


def test_a_loan_of_coins_or_of_money_pays_for_every_day_of_the_year():
    short = follow([[100.0], [100.0]], [[-1.0], [NAN]])
    assert short.cost_kinds[1, -2] == pytest.approx(-short.shares[0, 0] * 100 * 0.1 / 365)
    long = follow([[100.0], [100.0]], [[3.0], [NAN]], Crypto(leverage=3))
    assert long.cost_kinds[1, -2] == pytest.approx(-long.cash[0] * 0.1 / 365)
    assert long.cash[0] < -1900


def test_no_price_limits():
    run = follow([[100.0], [250.0], [50.0]], [[0.5], [0.9], [0.0]])
    assert run.reasons() == {"filled": 3}
