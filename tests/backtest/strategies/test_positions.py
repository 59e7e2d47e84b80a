import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.strategies.positions import Positions
from mimstocr.backtest.strategy import View

NAN = np.nan


def weights(scores, **settings):
    return Positions(**settings).weights(np.array(scores), View(None, np.ones(np.shape(scores))))


def test_the_scores_are_the_weights():
    scores = [[0.5, -0.25, NAN, 0.0], [NAN] * 4]
    assert_array_equal(weights(scores), [[0.5, -0.25, 0, 0], [NAN] * 4])
    assert_array_equal(weights(scores[:1], gross=2), [[1.0, -0.5, 0, 0]])
    assert_array_equal(weights(scores[:1], long_only=True), [[0.5, 0, 0, 0]])


def test_sizes_that_sum_to_more_than_the_gross_are_scaled():
    """Sizes 3, 1 and 4 sum to 8."""
    scores = [[3.0, -1.0, NAN, 4.0]]
    assert_array_equal(weights(scores), [[3 / 8, -1 / 8, 0, 4 / 8]])
    assert_array_equal(weights(scores, gross=2), [[6 / 8, -2 / 8, 0, 1]])
    assert_allclose(weights(scores, long_only=True), [[3 / 7, 0, 0, 4 / 7]], rtol=1e-15)


def test_always_scaled_goes_up_too():
    scores = [[0.1, -0.1, 0.2], [30.0, 10.0, 0.0], [0.0, 0.0, NAN], [-1.0, -2.0, NAN]]
    assert_allclose(
        weights(scores, scale="always"), [[1 / 4, -1 / 4, 1 / 2], [3 / 4, 1 / 4, 0], [0, 0, 0], [-1 / 3, -2 / 3, 0]]
    )
    assert_allclose(
        weights(scores, scale="always", gross=0.6, long_only=True),
        [[0.2, 0, 0.4], [0.45, 0.15, 0], [0, 0, 0], [0, 0, 0]],
        rtol=1e-14,
    )


@pytest.mark.parametrize("bad", [{"gross": 0}, {"scale": "never"}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        Positions(**bad)
