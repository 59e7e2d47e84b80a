import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.signal import Signal
from mimstocr.backtest.strategies.vol_scaled import VolScaled, trailing_volatility
from mimstocr.backtest.strategy import STRATEGIES, Moment, View
from mimstocr.errors import ConfigError, DataError

NAN = np.nan
EVEN = {"kind": "positions"}
"""The scores are the weights."""


def decide(strategy, scores, view, day=0):
    return strategy.plan(np.array(scores), view)(Moment(day, np.zeros(len(scores[0])), np.zeros(len(scores[0]))))


def forecast(*sigmas, days_per_year=256):
    """A view that has one day and the column vol; 256 days have a whole root."""
    vol = np.array([sigmas])
    return View(None, np.ones(vol.shape), days_per_year=days_per_year, outputs={"vol": vol})


def walk(days, stocks, seed=0, missing=0.0):
    random = np.random.default_rng(seed)
    closes = 10 * np.exp(np.cumsum(random.normal(0, 0.02, (days, stocks)), axis=0))
    closes[random.random(closes.shape) < missing] = NAN
    return closes


def test_weights_by_hand():
    # 0.2 a year is 0.0125 a day: twice, once, half; all within the leverage
    strategy = VolScaled(of=EVEN, forecast="vol", target=0.2, max_leverage=2)
    found = decide(strategy, [[0.25, 0.25, -0.25]], forecast(0.00625, 0.0125, 0.025))
    assert_allclose(found.weights, [0.5, 0.25, -0.125], rtol=1e-14)
    assert found.gave_way == ()


def test_no_weight_is_scaled_by_more_than_the_most():
    strategy = VolScaled(of=EVEN, forecast="vol", max_scale=1.5, max_leverage=2)
    found = decide(strategy, [[0.25, 0.25, 0.0]], forecast(0.00625, 0.0125, 1e-300))
    assert_allclose(found.weights, [0.375, 0.25, 0.0], rtol=1e-14)
    assert found.gave_way == ("target_for_max_scale",)


def test_all_are_scaled_down_to_the_leverage():
    strategy = VolScaled(of=EVEN, forecast="vol", max_scale=2)
    found = decide(strategy, [[0.5, -0.25, 0.25]], forecast(0.00625, 0.00625, 0.0125))
    assert_allclose(found.weights, np.array([1.0, -0.5, 0.25]) / 1.75, rtol=1e-14)
    assert found.gave_way == ("target_for_max_leverage",)


@pytest.mark.parametrize("sigma", [NAN, np.inf, 0.0])
def test_a_stock_without_a_forecast_has_no_weight_and_its_day_is_counted(sigma):
    strategy = VolScaled(of=EVEN, forecast="vol")
    found = decide(strategy, [[0.5, 0.25]], forecast(sigma, 0.0125))
    assert_allclose(found.weights, [0, 0.25], rtol=1e-14)
    assert found.gave_way == ("forecast",)
    assert decide(strategy, [[0.0, 0.25]], forecast(sigma, 0.0125)).gave_way == ()


def test_what_the_other_strategy_tells_is_told_too():
    view = forecast(0.0125, 0.0125)
    view.outputs["gain"] = np.array([[1.0, NAN]])
    strategy = VolScaled(of=Signal(value="gain"), forecast="vol")
    assert strategy.reads == ("gain", "vol")
    found = decide(strategy, [[1.0, 1.0]], view)
    assert_allclose(found.weights, [0.5, 0], rtol=1e-14)
    assert found.gave_way == ("signal",)


def slow_volatility(closes, tradable, day, stock, window):
    days = [t for t in range(max(day - window + 1, 1), day + 1) if tradable[t, stock] and tradable[t - 1, stock]]
    known = [closes[t, stock] / closes[t - 1, stock] - 1 for t in days]
    if len(known) < max(2, math.ceil(window / 2)):
        return NAN
    mean = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in known) / (len(known) - 1))


@pytest.mark.parametrize("before", [0, 12])
@pytest.mark.parametrize("window", [2, 5, 10])
def test_past_volatility_equals_the_loop(before, window):
    closes = walk(before + 25, 5, missing=0.2)
    halted = np.random.default_rng(3).random(closes.shape) < 0.1  # a price is repeated, nothing is traded
    tradable = ~np.isnan(closes) & ~halted
    found = trailing_volatility(View(None, closes, before=before, tradable=tradable), 25, window)
    expected = [
        [slow_volatility(closes, tradable, before + day, stock, window) for stock in range(5)] for day in range(25)
    ]
    assert 0 < np.isnan(expected).sum() < 100
    assert_allclose(found, expected, rtol=1e-10)
    by_close = trailing_volatility(View(None, np.where(tradable, closes, NAN), before=before), 25, window)
    assert_array_equal(by_close, found)


def test_a_price_that_never_moves_has_no_forecast():
    closes = np.full((9, 2), 3.3)
    closes[:, 1] = walk(9, 1)[:, 0]
    found = decide(VolScaled(of=EVEN, window=4), [[0.5, 0.01]], View(None, closes, before=8))
    assert found.weights[0] == 0
    assert found.weights[1] > 0
    assert found.gave_way == ("forecast",)


def test_weights_by_past_volatility():
    closes = walk(30, 4)
    found = decide(
        VolScaled(of=EVEN, window=20, max_scale=9, max_leverage=9),
        [[0.1, 0.2, -0.3, NAN]],
        View(None, closes, before=29, days_per_year=365),
    )
    moves = closes[-20:] / closes[-21:-1] - 1
    expected = np.array([0.1, 0.2, -0.3, 0]) * 0.2 / (moves.std(axis=0, ddof=1) * math.sqrt(365))
    assert_allclose(found.weights, expected, rtol=1e-12)


@pytest.mark.parametrize("column", [None, "vol"])
@pytest.mark.parametrize("day", [0, 4, 9])
def test_the_future_does_not_matter(column, day):
    before, days, stocks = 15, 12, 6
    random = np.random.default_rng(5)
    closes, other = walk(before + days, stocks), walk(before + days, stocks, seed=8)
    vol, scores = random.uniform(0.01, 0.03, (2, days, stocks)), random.normal(size=(days, stocks))
    rows = before + day + 1
    scrambled = np.concatenate([closes[:rows], other[rows:]])
    strategy = VolScaled(of={"kind": "top_k", "k": 2}, window=10, forecast=column)

    def account(prices, outputs):
        view = View(None, prices, before=before, outputs={"vol": outputs})
        market = terms_of(Flat(), close=prices, tradable=np.ones(prices.shape, dtype=bool), window=slice(before, None))
        return simulate(market, strategy.plan(scores, view), delay=0)

    found = account(closes, vol[0])
    changed = account(scrambled, np.concatenate([vol[0][: day + 1], vol[1][day + 1 :]]))
    assert_array_equal(found.shares[: day + 1], changed.shares[: day + 1])
    assert (found.shares[day + 1 :] != changed.shares[day + 1 :]).any()


def test_no_decision_stays_none_and_what_is_kept_stays_kept():
    scores = np.array([[1.0, 2.0], [NAN, NAN], [1.0, 2.0]])
    view = View(None, np.ones((3, 2)), outputs={"vol": np.full((3, 2), 0.01)})
    nothing = Moment(1, np.zeros(2), np.zeros(2))
    assert VolScaled(of=EVEN, forecast="vol").plan(scores, view)(nothing) is None
    plan = VolScaled(of="buy_and_hold", forecast="vol").plan(scores, view)
    assert_allclose(plan(nothing._replace(day=0)).weights, [0.5, 0.5])  # more than 1 in all, scaled down
    assert plan(nothing._replace(day=2)) is None


def test_strategies_that_look_at_what_is_held_are_refused():
    for kind in ("topk_dropout", "vol_scaled"):
        with pytest.raises(ValidationError, match=rf"got '{kind}'; choose one of buy_and_hold, .*signal.*top_k"):
            VolScaled(of=kind)
    for bad in ({"target": 0}, {"window": 1}, {"max_scale": 0}, {"max_leverage": 0}):
        with pytest.raises(ValidationError):
            VolScaled(**bad)


def test_a_column_that_is_no_volatility():
    with pytest.raises(ConfigError, match=r"reads the column 'vols' .* did you mean 'vol'"):
        decide(VolScaled(of=EVEN, forecast="vols"), [[0.5]], forecast(0.01))
    with pytest.raises(DataError, match=r"daily volatilities in the column 'vol', got -0.01 on day 0"):
        decide(VolScaled(of=EVEN, forecast="vol"), [[0.5]], forecast(-0.01))


def test_settings_inside_settings():
    raw = {"kind": "vol_scaled", "of": {"kind": "signal", "value": "gain"}, "forecast": "vol"}
    strategy = STRATEGIES.parse(raw)
    assert strategy.of == Signal(value="gain")
    assert STRATEGIES.parse(strategy.model_dump(mode="json")) == strategy
