import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.buy_and_hold import BuyAndHold
from mimstocr.backtest.strategy import View
from mimstocr.errors import DataError

NAN = np.nan


def weights(scores, **settings):
    return BuyAndHold(**settings).weights(np.array(scores), View(None, np.ones(np.shape(scores))))


def test_bought_on_the_first_day_with_scores():
    scores = [[NAN] * 4, [1.0, 3.0, NAN, 2.0], [4.0, 1.0, 9.0, 0.0]]
    assert_array_equal(weights(scores), [[NAN] * 4, [1 / 3, 1 / 3, 0, 1 / 3], [NAN] * 4])
    assert_array_equal(weights(scores, k=2), [[NAN] * 4, [0, 1 / 2, 0, 1 / 2], [NAN] * 4])
    assert_array_equal(weights([[1.0, 1.0, 1.0]], k=2), [[1 / 2, 1 / 2, 0]])
    assert np.isnan(weights([[NAN, NAN]])).all()


def test_shares_never_change():
    """Bought at the prices of day 1 for half of the money each, of which the cost takes 1 / 1.01."""
    close = np.array([[10.0, 10.0], [20.0, 5.0], [30.0, 1.0], [40.0, 2.0]])
    scores = np.random.default_rng(0).normal(size=close.shape)
    plan = BuyAndHold().plan(scores, View(None, close))
    terms = terms_of(Flat(commission=0.01), close=close, tradable=np.ones(close.shape, dtype=bool))
    simulation = simulate(terms, plan, delay=1)
    assert_allclose(simulation.shares[1:], [[0.5 / 1.01 / 20, 0.5 / 1.01 / 5]] * 3, rtol=1e-12)
    assert len(simulation.orders.day) == 2


def test_only_the_first_day_needs_k_stocks():
    with pytest.raises(DataError, match=r"expected at least 3 .* got 2 on day 1 "):
        weights([[NAN] * 3, [1.0, 2.0, NAN], [1.0, 2.0, 3.0]], k=3)
    weights([[1.0, 2.0, 3.0], [1.0, NAN, NAN]], k=3)
