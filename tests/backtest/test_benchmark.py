import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.benchmark import index_returns, universe_mean
from mimstocr.errors import DataError

NAN = np.nan


def test_universe_by_hand():
    close = np.array([[10.0, 20.0, 5.0], [11.0, NAN, 5.0], [11.0, 30.0, 6.0], [22.0, 30.0, 3.0]])
    tradable = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=bool)
    member = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]], dtype=bool)
    # day 1: A alone, B has no close then, C was no member. day 2: A and C. day 3: B, as A was not tradable on day 2
    expected = [NAN, 11 / 10 - 1, ((11 / 11 - 1) + (6 / 5 - 1)) / 2, 30 / 30 - 1]
    assert_allclose(universe_mean(close, tradable, member), expected, rtol=1e-14, atol=1e-16)
    assert np.isnan(universe_mean(close, tradable, np.zeros_like(member))).all()


def test_universe_equals_the_loop():
    random = np.random.default_rng(0)
    close = random.uniform(1, 9, (20, 6))
    close[random.random(close.shape) < 0.3] = NAN
    tradable = ~np.isnan(close) & (random.random(close.shape) < 0.8)
    member = random.random(close.shape) < 0.6
    expected = [NAN]
    for day in range(1, 20):
        moves = [
            close[day, i] / close[day - 1, i] - 1
            for i in range(6)
            if tradable[day - 1, i] and member[day - 1, i] and not math.isnan(close[day, i])
        ]
        expected.append(sum(moves) / len(moves) if moves else NAN)
    assert np.isnan(expected[1:]).any()
    assert_allclose(universe_mean(close, tradable, member), expected, rtol=1e-12)


def test_index():
    assert_allclose(index_returns(np.array([10.0, 11.0, 22.0])), [NAN, 0.1, 1.0], rtol=1e-14)
    gap = index_returns(np.array([10, 11, NAN, 22, 11], dtype=np.float32))
    assert_array_equal(np.isnan(gap), [True, False, True, True, False])


def test_errors():
    good = np.ones((3, 2), dtype=bool)
    with pytest.raises(DataError, match="shape"):
        universe_mean(np.ones((3, 2)), good, good[:2])
    with pytest.raises(DataError, match="one index"):
        index_returns(np.ones((3, 2)))
