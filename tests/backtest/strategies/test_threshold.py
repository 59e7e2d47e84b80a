import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.strategies.threshold import Threshold
from mimstocr.backtest.strategy import View

NAN = np.nan


def weights(scores, **settings):
    return Threshold(**settings).weights(np.array(scores), View(None, np.ones(np.shape(scores))))


def test_equal_parts_of_those_above():
    scores = [[0.3, 0.1, NAN, 0.2, -5.0], [0.3, 0.3, 0.3, 0.3, 0.3]]
    assert_array_equal(weights(scores, above=0.1, most=1), [[1 / 2, 0, 0, 1 / 2, 0], [1 / 5] * 5])


def test_a_stock_gets_no_more_than_the_most():
    scores = [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    assert_array_equal(weights(scores, most=0.3), [[0.3, 0.3, 0.3, 0], [1 / 4] * 4])
    assert_array_equal(weights(scores), [[0.1, 0.1, 0.1, 0], [0.1] * 4])


def test_those_below_are_sold_short():
    scores = [[2.0, -2.0, 1.0, -1.0, 3.0, NAN]]
    assert_array_equal(weights(scores, above=1, below=-1, most=1), [[1 / 3, -1 / 3, 0, 0, 1 / 3, 0]])
    assert_array_equal(weights([[1.0, 2.0, 3.0]], above=2, below=2, most=1), [[-1 / 2, 0, 1 / 2]])


def test_no_signal_is_cash_and_no_score_is_no_decision():
    assert_array_equal(weights([[0.0, NAN], [NAN, NAN]]), [[0, 0], [NAN, NAN]])


def test_bounds_that_overlap():
    with pytest.raises(ValidationError, match=r"expected below to be at most above, got 0.5 and 0.0"):
        Threshold(below=0.5)


@pytest.mark.parametrize("most", [0, 1.1])
def test_the_most_is_a_fraction(most):
    with pytest.raises(ValidationError):
        Threshold(most=most)
