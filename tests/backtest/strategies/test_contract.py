"""What every strategy keeps, whatever its rule; a new one is tested here as soon as it is registered."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategy import STRATEGIES, View
from mimstocr.components import Settings

DAYS, STOCKS, BEFORE = 40, 80, 30
SILENT = [0, 4, 11]
"""Days without a score."""
NAN = np.nan


class World(NamedTuple):
    scores: np.ndarray
    """(DAYS, STOCKS); many are tied, many missing, and at least 50 of a day are there."""
    closes: np.ndarray
    """(BEFORE + DAYS, STOCKS)."""
    tradable: np.ndarray

    @property
    def view(self):
        return View(None, self.closes, before=BEFORE)


def world(seed=0, decimals=1, missing=0.15):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(DAYS, STOCKS)).round(decimals)
    scores[random.random(scores.shape) < missing] = NAN
    scores[SILENT] = NAN
    closes = 10 * np.exp(np.cumsum(random.normal(0, 0.02, (BEFORE + DAYS, STOCKS)), axis=0))
    tradable = random.random(closes.shape) < 0.9
    made = World(scores, np.where(tradable, closes, NAN), tradable)
    for array in made:
        array.flags.writeable = False  # a strategy that writes into its inputs fails
    return made


def follow(strategy, seen, delay=1, every=1, plan=None):
    """By day, what the account was when the strategy decided and what it decided; and the simulation."""
    plan = strategy.plan(seen.scores, seen.view) if plan is None else plan
    kept = {}

    def keeping(moment):
        moment.shares.flags.writeable = moment.weights.flags.writeable = False
        kept[moment.day] = moment, plan(moment)
        return kept[moment.day][1]

    market = Flat(short=True, leverage=2)
    terms = terms_of(market, close=seen.closes, tradable=seen.tradable, window=slice(BEFORE, None))
    return kept, simulate(terms, keeping, delay=delay, every=every)


def assert_same(a, b, days=range(DAYS)):
    """The same account and decisions on `days`."""
    assert [day for day in a if day in days] == [day for day in b if day in days]
    for day in (day for day in a if day in days):
        (before, decision), (other_before, other) = a[day], b[day]
        assert_array_equal(before.shares, other_before.shares)
        assert_array_equal(before.weights, other_before.weights)
        assert (decision is None) == (other is None)
        if decision is not None:
            assert decision.of_cash == other.of_cash
            assert_array_equal(decision.weights, other.weights)


@pytest.fixture(params=STRATEGIES.names())
def strategy(request):
    return STRATEGIES.get(request.param)()


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_that_can_be_held(strategy, seed):
    seen = world(seed)
    kept, simulation = follow(strategy, seen)
    assert len(kept) == DAYS - 1  # the decision of the last day is filled after the end
    assert (simulation.shares != 0).any()
    for moment, decision in kept.values():
        if decision is None:
            continue
        weights = decision.weights
        assert weights.shape == (STOCKS,)
        assert weights.dtype == np.float64
        assert not np.isinf(weights).any()
        assert np.nansum(np.abs(weights)) <= 1 + 1e-9
        assert not decision.of_cash or np.nanmin(weights, initial=0.0) >= 0
        without = np.isnan(seen.scores[moment.day]) & ~np.isnan(weights)
        most = np.zeros(STOCKS) if decision.of_cash else np.abs(moment.weights)
        assert (np.abs(weights) <= most + 1e-12)[without].all(), "a stock without a score was bought"


def test_a_day_without_scores_is_no_decision(strategy):
    kept, _ = follow(strategy, world())
    assert all(kept[day][1] is None for day in SILENT)
    assert kept[1][1] is not None


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("day", [1, 5, 25])
def test_the_future_does_not_matter(strategy, day, delay):
    seen, other = world(), world(seed=9)
    rows = BEFORE + day + 1
    scrambled = World(
        np.concatenate([seen.scores[: day + 1], other.scores[day + 1 :]]),
        np.concatenate([seen.closes[:rows], 3 * other.closes[rows:]]),
        np.concatenate([seen.tradable[:rows], other.tradable[rows:]]),
    )
    kept, simulation = follow(strategy, seen, delay)
    after, scrambled_simulation = follow(strategy, scrambled, delay)
    assert_same(kept, after, range(day + 1))
    assert_array_equal(simulation.shares[: day + 1], scrambled_simulation.shares[: day + 1])


@pytest.mark.parametrize("every", [1, 3])
def test_a_plan_can_be_used_for_another_account(strategy, every):
    """And the same inputs give the same decisions, ties included."""
    seen = world(decimals=0)
    plan = strategy.plan(seen.scores, seen.view)
    first, _ = follow(strategy, seen, every=every, plan=plan)
    second, _ = follow(strategy, seen, every=every, plan=plan)
    assert_same(first, second)
    assert_same(first, follow(strategy, seen, every=every)[0])


def test_neither_memory_order_nor_precision_matter(strategy):
    seen = world(decimals=0)
    expected, _ = follow(strategy, seen)
    for scores in (np.asfortranarray(seen.scores), seen.scores.astype(np.float32)):
        assert_same(expected, follow(strategy, seen._replace(scores=scores))[0])


def test_an_infinite_score_is_none(strategy):
    seen = world()
    infinite = np.where(np.arange(DAYS)[:, None] % 2, np.inf, -np.inf)
    expected, _ = follow(strategy, seen)
    assert_same(
        expected, follow(strategy, seen._replace(scores=np.where(np.isnan(seen.scores), infinite, seen.scores)))[0]
    )


def test_stocks_keep_their_columns(strategy):
    """Without ties the order of the stocks means nothing; those without a score are tied."""
    seen = world(decimals=12, missing=0)
    columns = np.random.default_rng(1).permutation(STOCKS)
    _, expected = follow(strategy, seen)
    _, moved = follow(strategy, World(*(array[:, columns] for array in seen)))
    assert_allclose(moved.shares, expected.shares[:, columns], rtol=1e-9, atol=1e-12)


def test_equal_scores_suffice(strategy):
    """A run asks so, before it trains, whether the days have enough stocks."""
    seen = world()
    follow(strategy, seen._replace(scores=np.where(np.isnan(seen.scores), NAN, 0.0)))


def test_settings_round_trip(strategy):
    assert isinstance(strategy, Settings)
    assert STRATEGIES.parse(strategy.model_dump()) == strategy
    assert STRATEGIES.summary(strategy.kind)
