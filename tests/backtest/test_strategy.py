"""What every strategy must keep; a new one is tested here as soon as it is registered."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mimstocr.backtest.strategy import STRATEGIES
from mimstocr.components import Settings
from mimstocr.errors import ConfigError

SMALL = {"top_k": {"k": 3}}
"""Settings that fit the scores below, where the defaults need more stocks."""


def scores(seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=(30, 12)).round(1)
    values[random.random(values.shape) < 0.3] = np.nan
    values[[4, 11]] = np.nan
    return values


@pytest.fixture(params=STRATEGIES.names())
def strategy(request):
    return STRATEGIES.get(request.param)(**SMALL.get(request.param, {}))


def test_weights_can_be_held(strategy):
    weights = strategy.weights(scores())
    assert weights.shape == scores().shape
    assert weights.dtype == np.float64
    unknown = np.isnan(weights)
    assert_array_equal(unknown.any(axis=1), unknown.all(axis=1))
    assert unknown[[4, 11]].all()
    held = weights[~unknown.any(axis=1)]
    assert (held >= 0).all()
    assert (held.sum(axis=1) <= 1 + 1e-9).all()
    assert (held.sum(axis=1) > 0).all()


def test_stocks_without_a_score_are_not_bought(strategy):
    weights = strategy.weights(scores())
    decided = ~np.isnan(weights)
    assert (weights[decided & np.isnan(scores())] == 0).all()


@pytest.mark.parametrize("day", [0, 4, 20])
def test_later_scores_do_not_matter(strategy, day):
    later = scores()
    later[day + 1 :] = np.random.default_rng(1).normal(size=later[day + 1 :].shape)
    assert_array_equal(strategy.weights(scores())[: day + 1], strategy.weights(later)[: day + 1])


def test_float32_scores(strategy):
    assert_array_equal(strategy.weights(scores().astype(np.float32)), strategy.weights(scores()))


def test_settings_round_trip(strategy):
    assert isinstance(strategy, Settings)
    assert STRATEGIES.parse(strategy.model_dump()) == strategy
    assert STRATEGIES.summary(strategy.kind)


def test_a_miss_names_the_close_matches():
    with pytest.raises(ConfigError, match="did you mean 'top_k'"):
        STRATEGIES.get("topk")
