import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.strategies.score_weighted import ScoreWeighted
from mimstocr.backtest.strategy import View
from mimstocr.errors import DataError

NAN = np.nan


def weights(scores, **settings):
    return ScoreWeighted(**settings).weights(np.array(scores), View(None, np.ones(np.shape(scores))))


def test_by_how_far_above_the_mean():
    """The mean of 1, 2, 6, 7 is 4: 2 and 3 above, 3 and 2 below."""
    day = [1.0, 6.0, NAN, 7.0, 2.0]
    assert_allclose(weights([day]), [[0, 2 / 5, 0, 3 / 5, 0]], rtol=1e-15)
    both = [[-3 / 10, 2 / 10, 0, 3 / 10, -2 / 10]]
    assert_allclose(weights([day], side="long_short"), both, rtol=1e-14)
    assert_allclose(weights([day], side="long_short", gross=2), 2 * np.array(both), rtol=1e-14)
    assert_allclose(weights([day], gross=0.5), [[0, 1 / 5, 0, 1.5 / 5, 0]], rtol=1e-15)


def test_a_day_without_scores_is_no_decision():
    assert np.isnan(weights([[NAN, NAN]])).all()
    assert np.isnan(weights([[NAN, NAN]], side="long_short", by="rank")).all()


def test_by_rank():
    """Ranks 1, 2.5, 2.5, 4, 5 around 3: 1 and 2 above; 2, 1/2 and 1/2 below."""
    day = [-100.0, 3.0, NAN, 3.0, 4.0, 1e6]
    assert_allclose(weights([day], by="rank"), [[0, 0, 0, 0, 1 / 3, 2 / 3]], rtol=1e-14)
    short = [-1 / 3, -1 / 12, 0, -1 / 12, 1 / 6, 1 / 3]
    assert_allclose(weights([day], by="rank", side="long_short"), [short], rtol=1e-14)


def test_the_k_highest_and_lowest():
    """The mean of 0, 1, 2, 8, 9 is 4: 5 and 4 above, 4, 3, 2 below."""
    day = [2.0, 9.0, 0.0, 8.0, 1.0]
    assert_array_equal(weights([day], k=1), [[0, 1, 0, 0, 0]])
    assert_allclose(weights([day], k=4), [[0, 5 / 9, 0, 4 / 9, 0]], rtol=1e-15)  # only two are above the mean
    assert_allclose(weights([day], k=2, side="long_short"), [[0, 5 / 18, -4 / 14, 4 / 18, -3 / 14]], rtol=1e-14)
    assert_array_equal(weights([[1.0, 1.0, 0.0, 0.0]], k=1, side="long_short"), [[1 / 2, 0, -1 / 2, 0]])


@pytest.mark.parametrize("by", ["score", "rank"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e300])
def test_equal_scores_prefer_none(by, value):
    day = [value, NAN, value, value]  # the mean of three times 0.1 is not 0.1
    assert_array_equal(weights([day], by=by), [[1 / 3, 0, 1 / 3, 1 / 3]])
    assert_array_equal(weights([day], by=by, k=2), [[1 / 2, 0, 1 / 2, 0]])
    assert_array_equal(weights([day], by=by, side="long_short"), [[0, 0, 0, 0]])
    assert_array_equal(weights([day], by=by, side="long_short", k=1), [[0, 0, 0, 0]])


def test_one_scored_stock():
    assert_array_equal(weights([[NAN, -2.0]]), [[0, 1]])
    assert_array_equal(weights([[NAN, -2.0]], side="long_short"), [[0, 0]])


@pytest.mark.parametrize("low", [0.0, 1.0])
def test_scores_that_hardly_differ(low):
    """The mean rounds to the highest of them; in proportion they differ as others do."""
    high = np.nextafter(low, 2)
    assert_array_equal(weights([[low, high, high, high]]), [[0, 1 / 3, 1 / 3, 1 / 3]])
    assert_allclose(weights([[low, high, high, high]], side="long_short"), [[-1 / 2, 1 / 6, 1 / 6, 1 / 6]], rtol=1e-15)


def slow(day, k, by, side, gross):
    """The weights of one day, stock by stock."""
    scored = [i for i, s in enumerate(day) if s == s]
    value = {i: day[i] for i in scored}
    if by == "rank":
        value = {
            i: sum(day[j] < day[i] for j in scored) + (1 + sum(day[j] == day[i] for j in scored)) / 2 for i in scored
        }
    mean = sum(value.values()) / len(value)
    result = [0.0] * len(day)
    for sign, part in ((1, gross if side == "long" else gross / 2), (-1, gross / 2)):
        if sign == 1 or side == "long_short":
            best = sorted(scored, key=lambda i, sign=sign: (-sign * value[i], i))[:k]
            above = {i: max(sign * (value[i] - mean), 0.0) for i in best}
            for i in best:
                result[i] += sign * part * above[i] / sum(above.values())
    return result


@pytest.mark.parametrize("side", ["long", "long_short"])
@pytest.mark.parametrize("by", ["score", "rank"])
@pytest.mark.parametrize("k", [None, 1, 4])
def test_against_one_stock_after_the_other(k, by, side):
    random = np.random.default_rng(5)
    scores = (random.normal(size=(40, 12)) * 3).round()
    scores[random.random(scores.shape) < 0.3] = NAN
    expected = [slow(day, k, by, side, 0.8) for day in scores.tolist()]
    found = weights(scores, k=k, by=by, side=side, gross=0.8)
    assert_allclose(found, expected, atol=1e-14)
    assert_allclose(np.abs(found).sum(axis=1), 0.8)


@pytest.mark.parametrize("side", ["long", "long_short"])
def test_shift_and_scale_do_not_matter(side):
    scores = np.random.default_rng(2).normal(size=(5, 9))
    expected = weights(scores, side=side)
    assert_allclose(weights(1e-6 * scores + 3, side=side), expected, rtol=1e-7, atol=1e-9)
    mirrored = weights(-scores, side="long_short")
    assert_allclose(mirrored, -weights(scores, side="long_short"), atol=1e-15)


def test_fewer_stocks_than_k_names_the_day():
    with pytest.raises(DataError, match=r"expected at least 2 .* got 1 on day 1 "):
        weights([[1.0, 2.0], [NAN, 2.0]], k=2)
    weights([[1.0, 2.0], [NAN, 2.0]])


@pytest.mark.parametrize("bad", [{"k": 0}, {"by": "place"}, {"side": "short"}, {"gross": 0}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        ScoreWeighted(**bad)
