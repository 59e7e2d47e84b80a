import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from mimstocr.errors import DataError
from mimstocr.evaluation._samples import aligned, common, line, mean, mean_square

NAN = np.nan


def test_common_by_hand():
    x, y = aligned(x=[[1, NAN, 3], [4, NAN, 6]], y=[[1, 2, NAN], [4, NAN, 6]])
    (kept_x, kept_y), left_out = common(x, y)
    assert_array_equal(kept_x, [1, 4, 6])
    assert_array_equal(kept_y, [1, 4, 6])
    assert left_out == 2  # the cell that is NaN in both is no loss
    (_, _, z), left_out = common(x, y, np.full(x.shape, 7.0))
    assert len(z) == 3
    assert left_out == 3


def test_aligned_refuses():
    with pytest.raises(DataError, match=r"expected x and y of one shape.*got \(2,\) and \(3,\); align"):
        aligned(x=np.zeros(2), y=np.zeros(3))
    with pytest.raises(DataError, match=r"got \(1, 2, 3\)"):
        aligned(x=np.zeros((1, 2, 3)))
    with pytest.raises(DataError, match=r"y: expected finite values.*got 2 infinite"):
        aligned(x=np.zeros(3), y=[np.inf, 0, -np.inf])


def test_means():
    assert mean(np.array([1.0, 2.0])) == 1.5
    assert mean_square(np.array([1.0, 2.0])) == 2.5
    assert mean_square(np.array([1e200])) == math.inf
    assert math.isnan(mean(np.zeros(0)))
    assert math.isnan(mean_square(np.zeros(0)))


def test_line_by_hand():
    """Points (0, 1), (1, 2), (2, 6): slope 5 / 2, through (1, 3); deviations -1 0 1 and -2 -1 3."""
    found = line(np.array([0.0, 1, 2]), np.array([1.0, 2, 6]))
    assert found == pytest.approx((3 - 5 / 2, 5 / 2, 5 / math.sqrt(2 * 14)), rel=1e-14)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("x_unit", "y_unit"), [(1.0, 1.0), (1e-160, 1e-4), (1e200, 1e-200), (1e-4, 1e160)])
def test_line_equals_scipy_in_any_unit(seed, x_unit, y_unit):
    random = np.random.default_rng(seed)
    x = random.normal(size=40) + 3
    y = random.normal(size=40) - 0.5 * x
    expected = stats.linregress(x, y)
    found = line(x * x_unit, y * y_unit)
    assert found.slope == pytest.approx(expected.slope * (y_unit / x_unit), rel=1e-11)
    assert found.intercept == pytest.approx(expected.intercept * y_unit, rel=1e-11)
    assert found.correlation == pytest.approx(expected.rvalue, rel=1e-11)


def test_line_where_it_is_not_defined():
    some, constant = np.array([1.0, 2, 4]), np.full(3, 0.1)  # 0.1 + 0.1 + 0.1 is not 0.3
    assert all(math.isnan(x) for x in line(constant, some))
    intercept, slope, correlation = line(some, constant)
    assert (intercept, slope) == (0.1, 0)
    assert math.isnan(correlation)
    assert line(some, np.zeros(3))[:2] == (0, 0)
    for n in (0, 1):
        assert all(math.isnan(x) for x in line(some[:n], some[:n]))


def test_a_perfect_line_has_correlation_1():
    x = np.random.default_rng(0).normal(size=100)
    assert line(x, 3 * x - 1).correlation == pytest.approx(1, abs=1e-15)
    assert abs(line(x, -x).correlation) <= 1
    assert line(x, -x).correlation == pytest.approx(-1, abs=1e-15)
