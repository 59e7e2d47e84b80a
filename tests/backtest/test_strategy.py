"""The parts of the contract that are no strategy's own; what every strategy keeps is in strategies/test_contract.py."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mimstocr.backtest.strategy import STRATEGIES, Moment, View, following
from mimstocr.errors import ConfigError

NAN = np.nan


def test_a_view_ends_on_the_day_that_decides():
    closes = np.arange(10.0).reshape(5, 2)
    assert_array_equal(View(None, closes).past(0), closes[:1])
    assert_array_equal(View(None, closes).past(4), closes)
    assert_array_equal(View(None, closes[:4], before=2).past(1), closes[:4])


def test_following_fixed_weights():
    plan = following(np.array([[0.5, 0.5], [NAN, NAN], [NAN, 0.0]]))
    moments = [Moment(day, np.zeros(2), np.zeros(2)) for day in range(3)]
    assert plan(moments[1]) is None
    for day, expected in ((0, [0.5, 0.5]), (2, [NAN, 0.0])):
        decision = plan(moments[day])
        assert_array_equal(decision.weights, expected)
        assert not decision.of_cash


def test_following_tells_what_gave_way():
    plan = following(np.ones((2, 1)), {"a": np.array([True, False]), "b": np.array([True, True])})
    told = [plan(Moment(day, np.zeros(1), np.zeros(1))).gave_way for day in range(2)]
    assert told == [("a", "b"), ("b",)]


def test_outputs_are_finite_or_missing():
    given = {"return": np.array([[1, np.inf, -np.inf, NAN]], dtype=np.float32), "up": np.ones((1, 4))}
    view = View(None, np.ones((1, 4)), outputs=given)
    assert_array_equal(view.output("return"), [[1, NAN, NAN, NAN]])
    with pytest.raises(ConfigError, match=r"reads the column 'returns' .* did you mean 'return'\? known: return, up"):
        view.output("returns")
    with pytest.raises(ConfigError, match=r"reads the column 'up' .* known: none"):
        View(None, np.ones((1, 4))).output("up")


def test_strategies_read_the_score_alone_by_default():
    assert {name for name in STRATEGIES.names() if STRATEGIES.get(name)().reads} == set()


def test_a_miss_names_the_close_matches():
    with pytest.raises(ConfigError, match="did you mean 'top_k'"):
        STRATEGIES.get("topk")
