import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest import BacktestSettings, backtest
from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.signal import Signal
from mimstocr.backtest.strategy import Moment, View
from mimstocr.data.panel import make_panel
from mimstocr.errors import ConfigError, DataError

NAN = np.nan
BOTH = {"value": "gain", "confidence": "up"}


def view(**outputs):
    shape = np.shape(next(iter(outputs.values()), np.ones((1, 1))))
    return View(None, np.ones(shape), outputs={name: np.array(values) for name, values in outputs.items()})


def weights(scores, outputs=None, **settings):
    return Signal(**settings).weights(np.array(scores), view(**outputs or {}))


def slow_signal(value, p, form):
    if form == "published":
        return value * p
    agree = (value > 0 and p > 0.5) or (value < 0 and p < 0.5)
    return value * abs(2 * p - 1) if agree else 0.0


@pytest.mark.parametrize("form", ["agreeing", "published"])
def test_the_signal_equals_the_loop(form):
    random = np.random.default_rng(0)
    value, p = random.normal(0, 0.01, (20, 7)), random.random((20, 7)).round(1)
    settings = {**BOTH, "form": form, "above": 0.002, "below": -0.001, "side": "long_short"}
    found = weights(np.zeros((20, 7)), {"gain": value, "up": p}, **settings)
    assert len(np.unique(found)) == 3
    for day in range(20):
        for stock in range(7):
            signal = slow_signal(value[day, stock], p[day, stock], form)
            assert found[day, stock] == (int(signal > 0.002) - int(signal < -0.001)) / 7


def test_published_shrinks_shorts_more_than_longs():
    """A rise and a fall of one size, both almost sure."""
    outputs = {"gain": [[0.01, -0.01]], "up": [[0.95, 0.05]]}
    both = {**BOTH, "side": "long_short", "above": 0.005}
    published, agreeing = Signal(**both, form="published"), Signal(**both)
    scores = np.zeros((1, 2))
    assert_allclose(published.signals(scores, view(**outputs)), [[0.01 * 0.95, -0.01 * 0.05]], rtol=1e-14)
    assert_allclose(agreeing.signals(scores, view(**outputs)), [[0.01 * 0.9, -0.01 * 0.9]], rtol=1e-14)
    assert_array_equal(published.weights(scores, view(**outputs)), [[1 / 2, 0]])
    assert_array_equal(agreeing.weights(scores, view(**outputs)), [[1 / 2, -1 / 2]])


def test_without_columns_it_is_the_score_at_full_confidence():
    scores = [[0.002, 0.0005, -0.002, NAN], [NAN] * 4]
    assert_array_equal(weights(scores), [[1 / 3, 0, 0, 0], [NAN] * 4])
    assert_array_equal(weights(scores, side="long_short"), [[1 / 3, 0, -1 / 3, 0], [NAN] * 4])
    assert_array_equal(weights(scores, side="long_short", below=-0.005), [[1 / 3, 0, 0, 0], [NAN] * 4])


def test_a_bound_is_not_passed_by_its_own_value():
    assert_array_equal(weights([[0.25, -0.25]], above=0.25, side="long_short"), [[0, 0]])
    assert_array_equal(weights([[0.25, -0.25]], above=0, side="long_short"), [[1 / 2, -1 / 2]])


def test_slots_fix_the_slices():
    scores = [[1.0, 1.0, -1.0, 0.0, NAN], [1.0, 0.0, 0.0, 0.0, 0.0]]
    short = {"side": "long_short"}
    assert_array_equal(weights(scores, slots=4, **short), [[1 / 4, 1 / 4, -1 / 4, 0, 0], [1 / 4, 0, 0, 0, 0]])
    assert_array_equal(weights(scores, slots=2, **short), [[1 / 3, 1 / 3, -1 / 3, 0, 0], [1 / 2, 0, 0, 0, 0]])


def test_a_stock_without_an_output_is_flat_and_its_day_is_counted():
    outputs = {
        "gain": [[0.1, NAN, 0.1], [0.1, 0.1, NAN], [0.1, 0.1, 0.1]],
        "up": [[1, 1, np.inf], [1, 1, 1], [1, 1, 1]],
    }
    scores = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, NAN], [1.0, 1.0, 1.0]])
    plan = Signal(**BOTH).plan(scores, view(**outputs))
    decisions = [plan(Moment(day, np.zeros(3), np.zeros(3))) for day in range(3)]
    assert [decision.gave_way for decision in decisions] == [("signal",), (), ()]
    assert_array_equal(
        [decision.weights for decision in decisions], [[1 / 3, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]
    )


@pytest.mark.parametrize("day", [0, 3, 8])
def test_the_future_of_the_outputs_does_not_matter(day):
    random = np.random.default_rng(1)
    scores, made = random.normal(size=(10, 6)), {"gain": random.normal(size=(10, 6)), "up": random.random((10, 6))}
    later = {"gain": random.normal(size=(10, 6)), "up": random.random((10, 6))}
    scrambled = {name: np.concatenate([made[name][: day + 1], later[name][day + 1 :]]) for name in made}
    strategy = Signal(**BOTH, side="long_short", above=0.1)
    found, other = strategy.weights(scores, view(**made)), strategy.weights(scores, view(**scrambled))
    assert_array_equal(found[: day + 1], other[: day + 1])
    assert (found[day + 1 :] != other[day + 1 :]).any()


def test_what_cannot_be():
    with pytest.raises(ConfigError, match=r"reads the column 'gian' .* did you mean 'gain'\? known: gain, up"):
        weights([[1.0]], {"gain": [[0.1]], "up": [[0.5]]}, value="gian")
    with pytest.raises(DataError, match=r"probabilities of 0 .. 1 in the column 'gain', got -0.1 on day 0"):
        weights([[1.0]], {"gain": [[-0.1]]}, confidence="gain")
    with pytest.raises(ValidationError, match="below is for what is sold short"):
        Signal(below=-0.1)
    with pytest.raises(ValidationError, match="published needs confidence"):
        Signal(form="published")
    for bad in ({"above": -0.1}, {"below": 0.1, "side": "long_short"}, {"slots": 0}, {"form": "other"}):
        with pytest.raises(ValidationError):
            Signal(**bad)


def test_it_reads_what_it_is_told_to():
    assert Signal().reads == ()
    assert Signal(value="gain").reads == ("gain",)
    assert Signal(**BOTH).reads == ("gain", "up")


# ---- the chapter's own backtester ------------------------------------------------------------------------------------


def chapter(prices, signals, threshold, cost, *, printed=True):
    """The capital after each step of the chapter's loop, and what it held in each.

    printed: the position that a step decides earns from the next step on, as the listing has it (it multiplies the
    return by the position before); else it earns the return of its own step, as the text reads.
    """
    capital, position = 1.0, 0
    path, held = [], []
    for i in range(len(prices) - 1):
        new = 1 if signals[i] > threshold else -1 if signals[i] < -threshold else 0
        if new != position:
            capital *= 1 - cost
        holding = position if printed else new
        capital *= 1 + holding * (prices[i + 1] / prices[i] - 1)
        path.append(capital)
        held.append(holding)
        position = new
    return np.array(path), np.array(held)


def by_trades(prices, wanted, cost):
    """The capital after each day of an account of one stock that pays for what it trades, and nothing else.

    wanted: (days,) the position from the close of each day on, as a fraction of the equity after costs. Of a trade
    from x to k E', E' = E - cost |k E' - x|: with k E' > x, E' = (E + cost x) / (1 + cost k), else
    (E - cost x) / (1 - cost k).
    """
    equity, holding, path = 1.0, 0.0, []
    for day, k in enumerate(wanted):
        if day:
            gain = holding * (prices[day] / prices[day - 1] - 1)
            equity, holding = equity + gain, holding + gain
        after = (equity + cost * holding) / (1 + cost * k)
        if k * after < holding:
            after = (equity - cost * holding) / (1 - cost * k)
        equity, holding = after, k * after
        path.append(equity)
    return np.array(path)


def ours(prices, signals, threshold, cost, delay, side="long_short"):
    strategy = Signal(above=threshold, side=side)
    terms = terms_of(
        Flat(commission=cost, short=True), close=prices[:, None], tradable=np.ones((len(prices), 1), dtype=bool)
    )
    return simulate(terms, strategy.plan(signals[:, None], View(None, prices[:, None])), delay=delay)


@pytest.fixture(params=[0, 1, 2])
def one_asset(request):
    random = np.random.default_rng(request.param)
    prices = 50 * np.exp(np.cumsum(random.normal(0, 0.02, 60)))
    return prices, random.normal(0, 0.002, 60)


@pytest.mark.parametrize("printed", [True, False])
def test_without_costs_it_is_the_chapter(one_asset, printed):
    """The listing waits a day with its own decision: our delay 1. Without that it fills at the close that it has seen:
    our delay 0."""
    prices, signals = one_asset
    path, held = chapter(prices, signals, 0.001, 0.0, printed=printed)
    assert set(held) == {-1, 0, 1}
    found = ours(prices, signals, 0.001, 0.0, delay=1 if printed else 0)
    assert_allclose(found.value[1:], path, rtol=1e-12)
    assert_array_equal(np.sign(found.shares[:-1, 0]), held)


def test_costs_of_a_long_account_differ_by_what_a_buy_is(one_asset):
    """Ours buys for what is left after the cost, V / (1 + c); the chapter pays c of all that it has, V (1 - c), and a
    day before it trades. Sells agree."""
    prices, signals = one_asset
    signals = np.maximum(signals, 0.0)
    signals[-3:] = 0.0  # the last position is closed by both, and no cost is paid for what is never filled
    path, held = chapter(prices, signals, 0.001, 0.01)
    found = ours(prices, signals, 0.001, 0.01, delay=1, side="long")
    moved = np.diff(held, prepend=0)
    buys, sells = (moved > 0).sum(), (moved < 0).sum()
    assert buys == sells > 5
    assert path[-1] / 0.99 ** (buys + sells) == pytest.approx(chapter(prices, signals, 0.001, 0.0)[0][-1], rel=1e-12)
    assert found.value[-1] == pytest.approx(path[-1] / (1 - 0.01**2) ** buys, rel=1e-12)  # (1 - c)(1 + c) a buy


@pytest.mark.parametrize("delay", [0, 1])
def test_costs_of_shorts_and_flips_are_those_of_the_trades(one_asset, delay):
    """The chapter pays one cost for turning from long to short, and none for holding a short at one size while prices
    move; ours pays for both."""
    prices, signals = one_asset
    wanted = np.concatenate([np.zeros(delay), np.where(np.abs(signals) > 0.001, np.sign(signals), 0.0)])[: len(prices)]
    assert (wanted[1:] * wanted[:-1] == -1).any()
    found = ours(prices, signals, 0.001, 0.01, delay)
    assert_allclose(found.value, by_trades(prices, wanted, 0.01), rtol=1e-12)
    assert found.value[-1] < chapter(prices, signals, 0.001, 0.01, printed=delay == 1)[0][-1]


def test_turning_over_pays_for_both_legs():
    """V to V (1 - c) / (1 + c); the chapter's V (1 - c)."""
    found = ours(np.full(3, 8.0), np.array([1.0, -1.0, -1.0]), 0.0, 0.01, delay=0)
    entered = 1 / 1.01
    assert_allclose(found.value, [entered, entered * 0.99 / 1.01, entered * 0.99 / 1.01], rtol=1e-12)


def test_no_position_earns_before_it_is_taken():
    """The stock doubles on the day after the signal. With delay 1 it is bought at that close, for no gain."""
    closes = np.array([[10.0], [20.0], [20.0], [30.0]])
    panel = make_panel({"close": closes}, np.datetime64("2020-01-01") + np.arange(4), ["A"], source="test")
    gain = np.array([[0.5], [NAN], [0.1], [0.1]])
    scores = np.array([[0.0], [NAN], [0.0], [0.0]])
    settings = BacktestSettings(strategy=Signal(value="gain"), market=Flat(commission=0), delay=1, capital=100)
    days = panel["date"].values
    result = backtest(panel, scores, settings, first=days[0], last=days[-1], outputs={"gain": gain, "other": gain})
    assert_allclose(result.net.value, [100, 100, 100, 150], rtol=1e-12)
    assert set(result.outputs) == {"gain"}
    with pytest.raises(ConfigError, match=r"reads the column 'gain' of the predictions, .* known: none"):
        backtest(panel, scores, settings, first=days[0], last=days[-1])
