import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.ranks import average_ranks, places, tie_means

NAN = np.nan


def slow_ranks(values: list[float]) -> list[float]:
    """1 + how many are below + half of how many others are equal; NaN stays."""
    ranks = []
    for value in values:
        if np.isnan(value):
            ranks.append(NAN)
        else:
            below = sum(other < value for other in values)
            equal = sum(other == value for other in values)
            ranks.append(1 + below + (equal - 1) / 2)
    return ranks


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([3.0, 1.0, 3.0, NAN, 2.0], [(3 + 4) / 2, 1.0, (3 + 4) / 2, NAN, 2.0]),
        ([5.0, 5.0, 5.0], [2.0, 2.0, 2.0]),
        ([7.0], [1.0]),
        ([NAN, NAN], [NAN, NAN]),
        ([np.inf, -np.inf, 0.0, -0.0], [4.0, 1.0, 2.5, 2.5]),
    ],
)
def test_by_hand(values: list[float], ranks: list[float]) -> None:
    assert_array_equal(average_ranks(np.array([values])), np.array([ranks]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_equals_the_slow_ranks_with_ties_and_nan(distinct: int, dtype: type) -> None:
    random = np.random.default_rng(distinct)
    values = random.integers(0, distinct, (40, 17)).astype(dtype)
    values[random.random(values.shape) < 0.3] = NAN
    values[7] = NAN
    ranks = average_ranks(values)
    assert ranks.dtype == np.float64
    assert_array_equal(ranks, [slow_ranks(day.tolist()) for day in values])


def test_a_day_does_not_touch_another_nor_its_input() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    before = values.copy()
    together = average_ranks(values)
    assert_array_equal(together, np.concatenate([average_ranks(day[None]) for day in values]))
    assert_array_equal(values, before)


def test_no_days() -> None:
    assert average_ranks(np.empty((0, 3))).shape == (0, 3)


def test_any_axis_and_type() -> None:
    values = np.random.default_rng(0).integers(0, 4, (6, 5, 4))
    for axis in (-1, 0, 1, 2):
        expected = np.apply_along_axis(lambda v: slow_ranks(list(v.astype(float))), axis, values)
        assert_array_equal(average_ranks(values, axis=axis), expected)
    assert average_ranks(values.astype(np.float32)).dtype == np.float64
    assert average_ranks(np.empty((0, 3))).shape == (0, 3)


def test_tie_means_are_the_mean_over_all_orders_of_the_ties() -> None:
    values, held = np.array([2.0, 7.0, 2.0, 2.0, np.nan, 9.0]), np.array([1.0, 2.0, 4.0, 8.0, 0.0, 32.0])
    orders = [o for o in itertools.permutations([5, 1, 0, 2, 3]) if o[:2] == (5, 1)]
    expected = [np.mean([held[order[place]] for order in orders]) for place in range(5)]
    ties = places(values[None])
    found = tie_means(np.take_along_axis(held[None], ties.order, axis=-1), ties)
    assert_allclose(found[0], [*expected, 0.0], rtol=1e-15)
