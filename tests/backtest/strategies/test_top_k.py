import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.backtest.strategy import View
from mimstocr.errors import DataError

NAN = np.nan


def weights(k, scores, days=None):
    return TopK(k=k).weights(np.array(scores), View(days, np.ones(np.shape(scores))))


def test_the_highest_in_equal_parts():
    scores = [[0.1, 0.4, NAN, -0.2, 0.3], [5.0, NAN, np.inf, 4.0, -np.inf], [NAN] * 5]
    assert_array_equal(weights(2, scores), [[0, 1 / 2, 0, 0, 1 / 2], [1 / 2, 0, 0, 1 / 2, 0], [NAN] * 5])


def test_ties_go_by_the_order_of_the_symbols():
    assert_array_equal(weights(2, [[1.0, 2.0, 1.0, 1.0]]), [[1 / 2, 1 / 2, 0, 0]])
    wide = np.random.default_rng(0).integers(0, 3, 1000).astype(float)  # an unstable sort would mix these
    expected = sorted(range(1000), key=lambda i: (-wide[i], i))[:500]
    assert_array_equal(np.flatnonzero(weights(500, [wide])[0]), sorted(expected))


def test_all_of_them():
    assert_array_equal(weights(3, [[1.0, 2.0, 3.0]]), [[1 / 3, 1 / 3, 1 / 3]])


def test_fewer_stocks_than_k_names_the_day():
    scores = [[1.0, 2.0, 3.0], [1.0, NAN, NAN], [NAN, NAN, NAN], [NAN, 2.0, 3.0]]
    days = np.array(["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07"], dtype="datetime64[D]")
    text = r"fewer stocks than K: expected at least 3 .* got 1 on 2020-01-03 \(2 such days\); lower strategy.k to .* 1,"
    with pytest.raises(DataError, match=text):
        TopK(k=3).plan(np.array(scores), View(days, np.ones((4, 3))))
    with pytest.raises(DataError, match="on day 1"):
        weights(3, scores)
    with pytest.raises(DataError, match="at least 4"):
        weights(4, scores[:1])


def test_k_is_at_least_one():
    with pytest.raises(ValidationError):
        TopK(k=0)
