import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.equal_weight import EqualWeight
from mimstocr.backtest.strategy import View

NAN = np.nan


def test_all_that_are_scored_in_equal_parts():
    scores = [[5.0, -1.0, NAN, 0.0], [NAN, NAN, NAN, 2.0], [NAN] * 4]
    weights = EqualWeight().weights(np.array(scores), View(None, np.ones((3, 4))))
    assert_array_equal(weights, [[1 / 3, 1 / 3, 0, 1 / 3], [0, 0, 0, 1], [NAN] * 4])


def test_rebalanced_every_day_through_the_engine():
    """A doubles, then falls by a half; B stands. Half of the money in each, set right every day, without costs."""
    close = np.array([[10.0, 10.0], [10.0, 10.0], [20.0, 10.0], [10.0, 10.0]])
    plan = EqualWeight().plan(np.zeros(close.shape), View(None, close))
    terms = terms_of(Flat(commission=0), close=close, tradable=np.ones(close.shape, dtype=bool))
    simulation = simulate(terms, plan, delay=1)
    assert_allclose(simulation.value, [1, 1, 1.5, 1.5 * 0.75], rtol=1e-12)
    assert_allclose(simulation.shares[2], [0.75 / 20, 0.75 / 10], rtol=1e-12)
