import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.ranks import average_ranks, places, tie_means

NAN = np.nan


def slow_ranks(values):
    """1 + how many are below + half of how many others are equal."""
    ranks = []
    for value in values:
        if np.isnan(value):
            ranks.append(NAN)
            continue
        below = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        ranks.append(1 + below + (equal - 1) / 2)
    return ranks


def test_by_hand():
    assert_array_equal(average_ranks(np.array([[3.0, 1.0, 3.0, NAN, 2.0]])), [[3.5, 1.0, 3.5, NAN, 2.0]])
    assert_array_equal(average_ranks(np.array([[5.0, 5.0, 5.0]])), [[2.0, 2.0, 2.0]])
    assert_array_equal(average_ranks(np.array([[NAN, NAN]])), [[NAN, NAN]])
    assert_array_equal(average_ranks(np.array([[np.inf, -np.inf, 0.0, -0.0]])), [[4.0, 1.0, 2.5, 2.5]])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_equals_the_slow_ranks(seed, distinct):
    random = np.random.default_rng(seed)
    values = random.integers(0, distinct, (20, 17)).astype(float)
    values[random.random(values.shape) < 0.3] = NAN
    assert_array_equal(average_ranks(values), [slow_ranks(day) for day in values])


def test_any_axis_and_type():
    values = np.random.default_rng(0).integers(0, 4, (6, 5, 4))
    for axis in (-1, 0, 1, 2):
        expected = np.apply_along_axis(lambda v: slow_ranks(v.astype(float)), axis, values)
        assert_array_equal(average_ranks(values, axis=axis), expected)
    assert average_ranks(values.astype(np.float32)).dtype == np.float64
    assert average_ranks(np.empty((0, 3))).shape == (0, 3)


def test_tie_means_are_the_mean_over_all_orders_of_the_ties():
    values, held = np.array([2.0, 7.0, 2.0, 2.0, NAN, 9.0]), np.array([1.0, 2.0, 4.0, 8.0, 0.0, 32.0])
    orders = [o for o in itertools.permutations([5, 1, 0, 2, 3]) if o[:2] == (5, 1)]
    expected = [np.mean([held[order[place]] for order in orders]) for place in range(5)]
    ties = places(values[None])
    found = tie_means(np.take_along_axis(held[None], ties.order, axis=-1), ties)
    assert_allclose(found[0], [*expected, 0.0], rtol=1e-15)
