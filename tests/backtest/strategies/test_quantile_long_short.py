import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.strategies.quantile_long_short import QuantileLongShort
from mimstocr.backtest.strategy import View
from mimstocr.errors import DataError

NAN = np.nan


def weights(scores, **settings):
    return QuantileLongShort(**settings).weights(np.array(scores), View(None, np.ones(np.shape(scores))))


def test_the_highest_against_the_lowest():
    """A quarter of nine is two: 8 and 7 against 0 and 1."""
    scores = [[3.0, 8.0, 1.0, NAN, 4.0, 0.0, 5.0, 6.0, 7.0, 2.0], [NAN] * 10]
    expected = [0, 1 / 4, -1 / 4, 0, 0, -1 / 4, 0, 0, 1 / 4, 0]
    assert_array_equal(weights(scores, fraction=0.25), [expected, [NAN] * 10])
    assert_array_equal(weights(scores[:1], fraction=0.25, gross=2), [2 * np.array(expected)])


def test_ties_go_by_the_order_of_the_symbols():
    assert_array_equal(weights([[1.0, 1.0, 1.0, 1.0, NAN]], fraction=0.25), [[1 / 2, 0, 0, -1 / 2, 0]])
    assert_array_equal(weights([[1.0, 1.0, NAN, 1.0]], fraction=0.5), [[1 / 2, 0, 0, -1 / 2]])


@pytest.mark.parametrize(
    ("fraction", "n", "each"), [(0.29, 100, 29), (0.1, 30, 3), (0.1, 39, 3), (0.5, 7, 3), (1 / 49, 49, 1)]
)
def test_stocks_in_a_quantile(fraction, n, each):
    """0.29 x 100 is below 29 in floats, and 1 / (1 / 49) above 49."""
    scores = np.random.default_rng(0).normal(size=(1, n))
    found = weights(scores, fraction=fraction)[0]
    ranked = np.argsort(scores[0])
    assert_array_equal(np.sort(np.flatnonzero(found > 0)), np.sort(ranked[-each:]))
    assert_array_equal(np.sort(np.flatnonzero(found < 0)), np.sort(ranked[:each]))
    assert_array_equal(np.unique(np.abs(found[found != 0])), [0.5 / each])


def test_each_day_by_its_own_scores():
    scores = [[1.0, 2.0, 3.0, 4.0], [NAN, 5.0, 4.0, NAN]]
    assert_array_equal(weights(scores, fraction=0.5), [[-1 / 4, -1 / 4, 1 / 4, 1 / 4], [0, 1 / 2, -1 / 2, 0]])


def test_a_quantile_without_a_stock_names_the_day():
    text = r"a quantile needs: expected at least 3 .* got 2 on day 2 \(1 such days\); raise strategy.fraction"
    with pytest.raises(DataError, match=text):
        weights([[1.0, 2.0, 3.0], [NAN] * 3, [1.0, NAN, 0.0]], fraction=1 / 3)
    with pytest.raises(DataError, match=r"at least 10 .* got 9"):
        weights(np.zeros((1, 9)))
    weights(np.zeros((1, 10)))


@pytest.mark.parametrize("bad", [{"fraction": 0}, {"fraction": 0.51}, {"gross": 0}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        QuantileLongShort(**bad)
