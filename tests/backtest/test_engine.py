import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest import engine
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategy import following
from mimstocr.data.panel import last_known
from mimstocr.errors import ConfigError, DataError

NAN = np.nan
COSTS = (0.0, 0.001, 0.05, 0.4, 0.9)


def simulate(close, tradable, weights, *, delay, cost, capital=1.0, days=None):
    """Follow fixed weights in a market with one rate."""
    terms = terms_of(Flat(commission=cost), close=close, tradable=tradable, days=days)
    return engine.simulate(terms, following(weights), delay=delay, capital=capital)


def world(seed, days=40, stocks=8, suspended=0.25, decided=0.8):
    """Prices with gaps and repeats, tradable flags, and weights with rows of no decision."""
    random = np.random.default_rng(seed)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.05, size=(days, stocks)), axis=0))
    tradable = random.random(close.shape) >= suspended
    for day in range(1, days):  # a suspended day repeats its price, or comes without one
        close[day] = np.where(tradable[day], close[day], close[day - 1])
    close[~tradable & (random.random(close.shape) < 0.5)] = NAN
    tradable &= ~np.isnan(close)
    weights = random.dirichlet(np.ones(stocks), size=days) * (random.random(close.shape) < 0.6)
    weights *= random.choice([1.0, 0.7], size=(days, 1))
    weights[random.random(days) < 0.5] *= 0.999
    full = random.random(days) < 0.5
    weights[full] /= np.maximum(weights[full].sum(axis=1, keepdims=True), 1e-9)
    weights[random.random(days) >= decided] = NAN
    weights[2] = 1 / stocks
    return close, tradable, weights


def slow_fill(shares, cash, last, targets, can, cost):
    """One day of trading in plain words, the equity after costs by bisection.

    Changes `shares`; gives money bought, money sold, and how many stocks it wanted more and less of in vain.
    """
    worth = {i: shares.get(i, 0.0) * last.get(i, 0.0) for i in targets}
    equity = cash + sum(worth.values())

    def orders(after):
        buys = {i: targets[i] * after - worth[i] for i in targets if can[i] and targets[i] * after > worth[i]}
        sells = {i: worth[i] - targets[i] * after for i in targets if can[i] and targets[i] * after < worth[i]}
        needed, means = sum(buys.values()) * (1 + cost), cash + sum(sells.values()) * (1 - cost)
        if needed > means:
            part = means / needed if means > 1e-12 * equity else 0.0  # less is what rounding left
            buys = {i: money * part for i, money in buys.items() if part > 0}
        return buys, sells

    low, high = 0.0, equity
    for _ in range(200):
        after = (low + high) / 2
        buys, sells = orders(after)
        if after + cost * (sum(buys.values()) + sum(sells.values())) < equity:
            low = after
        else:
            high = after
    buys, sells = orders(high)
    for i, money in buys.items():
        shares[i] = shares.get(i, 0.0) + money / last[i]
    for i, money in sells.items():
        shares[i] -= money / last[i]
        if targets[i] == 0:
            del shares[i]
    missed = [targets[i] * high - worth[i] for i in targets if not can[i]]
    up, down = sum(m > 1e-12 * equity for m in missed), sum(m < -1e-12 * equity for m in missed)
    return sum(buys.values()), sum(sells.values()), up, down


def slow_simulation(close, tradable, weights, *, delay, cost, capital):
    """The account as a dictionary of shares, day by day and stock by stock."""
    shares, last, cash, rows = {}, {}, capital, []
    stocks = range(close.shape[1])
    for day in range(len(close)):
        for i in stocks:
            if not math.isnan(close[day, i]):
                last[i] = close[day, i]
        equity = cash + sum(n * last[i] for i, n in shares.items())
        bought = sold = up = down = 0
        if day >= delay and not math.isnan(weights[day - delay, 0]):
            targets = {i: weights[day - delay, i] for i in stocks}
            bought, sold, up, down = slow_fill(shares, cash, last, targets, tradable[day], cost)
        paid = cost * (bought + sold)
        cash += sold - bought - paid
        stale = sum(not tradable[day, i] for i in shares)
        value = cash + sum(n * last[i] for i, n in shares.items())
        rows.append((value, paid, (bought + sold) / equity / 2, cash, len(shares), up, down, stale))
    return dict(
        zip(
            ("value", "costs", "turnover", "cash", "n_held", "unfilled_buys", "stuck_sells", "stale_marks"),
            np.array(rows).T,
            strict=True,
        )
    )


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_slow_simulation(seed, delay, cost):
    market = world(seed)
    settings = {"delay": delay, "cost": cost, "capital": 1000.0}
    found, expected = simulate(*market, **settings), slow_simulation(*market, **settings)
    for name, values in expected.items():
        assert_allclose(getattr(found, name), values, rtol=1e-9, atol=1e-9, err_msg=name)
    assert (found.unfilled_buys.sum() > 0) & (found.stuck_sells.sum() > 0) & (found.stale_marks.sum() > 0)


def test_the_worlds_reach_every_case():
    """Scaled buys, holdings in a stock without a price, and rows of no decision all come about."""
    scaled = 0
    for seed in range(3):
        close, tradable, weights = world(seed)
        found = simulate(close, tradable, weights, delay=1, cost=0.001)
        scaled += int((np.abs(found.cash) < 1e-12)[1:].sum())
        assert (np.isnan(close) & (found.shares > 0)).any()
        assert np.isnan(weights).any()
    assert scaled > 10


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("seed", range(5))
def test_identities(seed, cost):
    close, tradable, weights = world(seed)
    run = simulate(close, tradable, weights, delay=1, cost=cost, capital=100.0)
    price = np.nan_to_num(last_known(close))
    gains = (run.shares[:-1] * np.diff(price, axis=0)).sum(axis=1)
    assert_allclose(np.diff(run.value), gains - run.costs[1:], rtol=0, atol=1e-9)
    assert_allclose(run.value, run.cash + (run.shares * price).sum(axis=1), rtol=0, atol=1e-9)
    assert_allclose(np.cumprod(1 + run.returns) * 100.0, run.value, rtol=1e-12)
    assert run.cash.min() >= -1e-9
    assert run.shares.min() >= 0
    # every unit traded was paid for: shares that changed, at the price of the day
    traded = (np.abs(np.diff(run.shares, axis=0, prepend=0)) * price).sum(axis=1)
    assert_allclose(run.costs, cost * traded, rtol=1e-9, atol=1e-9)
    assert_allclose(run.turnover, traded / (run.value + run.costs) / 2, rtol=1e-9, atol=1e-9)
    assert (np.diff(run.shares, axis=0, prepend=0)[~tradable] == 0).all()
    assert_array_equal(run.n_held, (run.shares > 0).sum(axis=1))


@pytest.mark.parametrize("cost", COSTS)
def test_weights_are_of_the_equity_after_costs(cost):
    close, _, weights = world(0, suspended=0)
    run = simulate(close, np.ones(close.shape, dtype=bool), weights, delay=0, cost=cost)
    decided = ~np.isnan(weights[:, 0])
    assert_allclose((run.shares * close)[decided], (weights * run.value[:, None])[decided], rtol=0, atol=1e-13)
    assert (run.unfilled_buys + run.stuck_sells + run.stale_marks == 0).all()


def test_buy_and_hold_equals_the_price_ratio():
    close, tradable, weights = world(1, suspended=0)
    weights[:] = NAN
    weights[3] = [0, 1, 0, 0, 0, 0, 0, 0]
    cost = 0.002
    run = simulate(close, tradable, weights, delay=2, cost=cost, capital=50.0)
    assert run.first_fill == 5
    assert_array_equal(run.value[:5], np.full(5, 50.0))
    assert_array_equal(run.returns[:5], np.zeros(5))
    # all money is spent: what is bought and the cost on it make 50
    assert_allclose(run.value[5:], 50 / (1 + cost) * close[5:, 1] / close[5, 1], rtol=1e-13)
    assert run.costs.sum() == pytest.approx(50 - 50 / (1 + cost), rel=1e-12)
    assert (run.costs[6:] == 0).all()
    assert (run.turnover[6:] == 0).all()


def test_no_trade_costs_nothing():
    close, tradable, weights = world(1, suspended=0)
    weights[:] = 0.0
    run = simulate(close, tradable, weights, delay=1, cost=0.01, capital=7.0)
    assert_array_equal(run.value, np.full(len(close), 7.0))
    assert run.costs.sum() == run.turnover.sum() == run.n_held.sum() == 0


def test_two_stocks_and_their_costs_by_hand():
    close = np.array([[10.0, 10.0], [20.0, 10.0]])
    weights = np.array([[0.5, 0.5], [0.5, 0.5]])
    run = simulate(close, np.ones((2, 2), bool), weights, delay=0, cost=0.01, capital=101.0)
    # day 0: E = 101 - .01 E = 100, so 5 and 5 shares; day 1: 100 and 50, sell 100 - E/2, buy E/2 - 50:
    # E = 150 - .01 (100 - E/2 + E/2 - 50) = 149.5
    assert_allclose(run.value, [100.0, 149.5], rtol=1e-14)
    assert_allclose(run.costs, [1.0, 0.01 * ((100 - 149.5 / 2) + (149.5 / 2 - 50))], rtol=1e-13)
    assert_allclose(run.turnover, [100 / 101 / 2, 50 / 150 / 2], rtol=1e-13)
    assert_allclose(run.shares, [[5, 5], [149.5 / 2 / 20, 149.5 / 2 / 10]], rtol=1e-13)
    assert_allclose(run.returns, [100 / 101 - 1, 149.5 / 100 - 1], rtol=1e-13)


def test_five_days_with_a_suspension_by_hand():
    """Stock B is suspended from day 2: first it comes as a repeated price, then as no price at all."""
    close = np.array([[10, 20, 5], [10, 20, 5], [20, 20, 5], [20, NAN, 6], [10, NAN, 6]], dtype=float)
    tradable = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]], dtype=bool)
    weights = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [NAN] * 3, [1, 0, 0], [0.3, 0.3, 0.3]])
    run = simulate(close, tradable, weights, delay=1, cost=0.25, capital=100.0)
    after_2 = 800 / 9  # E = 40 of B + 60 from A + ... : E = 120 - .25 (80 + E/2)
    stock_c = after_2 / 2
    cash_2 = 60 - 1.25 * stock_c
    cash_4 = cash_2 + 0.75 * stock_c / 5 * 6  # C is sold; this buys A, though the target is all of the equity
    expected = {
        # day 1: E = 100 - .25 E = 80: 4 of A, 2 of B. day 3: C rises from 5 to 6, nothing is decided
        "value": [100, 80, after_2, 40 + stock_c / 5 * 6 + cash_2, 40 + cash_4 / 1.25],
        "costs": [0, 20, 0.25 * (80 + stock_c), 0, 0.25 * (stock_c / 5 * 6 + cash_4 / 1.25)],
        "cash": [100, 0, cash_2, cash_2, 0],
        "n_held": [0, 2, 2, 2, 2],
        "unfilled_buys": [0, 0, 1, 0, 0],  # half of E is more than the 40 in B
        "stuck_sells": [0, 0, 0, 0, 1],
        "stale_marks": [0, 0, 1, 1, 1],
        "turnover": [0, 80 / 100 / 2, (80 + stock_c) / 120 / 2, 0, (stock_c / 5 * 6 + cash_4 / 1.25) / (880 / 9) / 2],
    }
    for name, values in expected.items():
        assert_allclose(getattr(run, name), values, rtol=1e-13, atol=1e-12, err_msg=name)
    assert_allclose(run.shares[-1], [cash_4 / 1.25 / 10, 2, 0], rtol=1e-13)


def test_a_stock_that_trades_again_is_marked_and_sold_at_its_new_price():
    close = np.array([[10.0, 1.0], [NAN, 1.0], [4.0, 1.0]])
    tradable = ~np.isnan(close)
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    run = simulate(close, tradable, weights, delay=0, cost=0.0, capital=10.0)
    assert_array_equal(run.value, [10, 10, 4])
    assert_array_equal(run.shares, [[1, 0], [1, 0], [0, 4]])
    assert_array_equal(run.stuck_sells, [0, 1, 0])


@pytest.mark.parametrize("day", [3, 17, 30])
def test_later_prices_do_not_matter(day):
    close, tradable, weights = world(2)
    run = simulate(close, tradable, weights, delay=1, cost=0.01)
    random = np.random.default_rng(0)
    close[day + 1 :] = random.uniform(1, 100, close[day + 1 :].shape)
    tradable[day + 1 :] = random.random(tradable[day + 1 :].shape) < 0.5
    later = simulate(close, tradable, weights, delay=1, cost=0.01)
    for name in ("value", "returns", "cash", "shares", "costs", "stuck_sells"):
        assert_array_equal(getattr(run, name)[: day + 1], getattr(later, name)[: day + 1], err_msg=name)
    assert (run.value[day + 1 :] != later.value[day + 1 :]).any()


@pytest.mark.parametrize("delay", [0, 1, 4])
@pytest.mark.parametrize("day", [5, 20])
def test_a_decision_acts_after_its_delay_and_not_before(day, delay):
    close, tradable, weights = world(3, decided=1.0, suspended=0)
    run = simulate(close, tradable, weights, delay=delay, cost=0.01)
    weights[day] = np.roll(weights[day], 1)
    other = simulate(close, tradable, weights, delay=delay, cost=0.01)
    assert_array_equal(run.shares[: day + delay], other.shares[: day + delay])
    assert_array_equal(run.value[: day + delay], other.value[: day + delay])
    assert (run.shares[day + delay] != other.shares[day + delay]).any()


def test_returns_do_not_depend_on_the_capital():
    market = world(4)
    small, large = (simulate(*market, delay=1, cost=0.001, capital=c) for c in (1e-3, 1e9))
    assert_allclose(small.returns, large.returns, rtol=0, atol=1e-12)


def test_inputs_are_left_alone():
    market = world(5)
    before = [array.copy() for array in market]
    for array in market:
        array.flags.writeable = False
    simulate(*market, delay=1, cost=0.001)
    for array, old in zip(market, before, strict=True):
        assert_array_equal(array, old)


DAYS = np.array(["2020-01-02", "2020-01-03", "2020-01-06"], dtype="datetime64[D]")


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


CLOSE, TRADABLE, WEIGHTS = np.ones((3, 2)), np.ones((3, 2), bool), np.full((3, 2), 0.5)


@pytest.mark.parametrize(
    ("market", "text"),
    [
        ((CLOSE[:2], TRADABLE, WEIGHTS), r"one shape \(days, stocks\), got \(2, 2\)"),
        ((CLOSE[:, :0], TRADABLE[:, :0], WEIGHTS[:, :0]), r"one shape \(days, stocks\), got \(3, 0\)"),
        ((changed(CLOSE, (1, 0), 0.0), TRADABLE, WEIGHTS), "above zero on 2020-01-03 in column 0"),
        ((changed(CLOSE, (1, 0), np.inf), TRADABLE, WEIGHTS), "infinite"),
        ((changed(CLOSE, (2, 1), NAN), TRADABLE, WEIGHTS), "without a close on 2020-01-06 in column 1"),
        ((CLOSE, TRADABLE, changed(WEIGHTS, (0, 0), -0.1)), "below zero on 2020-01-02"),
        ((CLOSE, TRADABLE, changed(WEIGHTS, (2, 0), 0.5 + 1e-8)), "sizes sum to 1.00000001 on 2020-01-06"),
        ((CLOSE, TRADABLE, changed(WEIGHTS, (2, 0), np.inf)), "an infinite weight on 2020-01-06"),
        ((CLOSE, TRADABLE, WEIGHTS * NAN), "got none 0 or more days before the end"),
    ],
)
def test_bad_markets_and_weights(market, text):
    with pytest.raises(DataError, match=text):
        simulate(*market, delay=0, cost=0.0, days=DAYS)


def test_days_without_dates_are_named_by_number():
    with pytest.raises(DataError, match="below zero on day 2"):
        simulate(CLOSE, TRADABLE, changed(WEIGHTS, (2, 0), -0.1), delay=0, cost=0.0)


def test_decisions_too_late_to_be_filled():
    with pytest.raises(DataError, match="got none 3 or more days before the end"):
        simulate(CLOSE, TRADABLE, WEIGHTS, delay=3, cost=0.0)
    assert simulate(CLOSE, TRADABLE, WEIGHTS, delay=2, cost=0.0).first_fill == 2


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"delay": -1, "cost": 0.0}, "delay"),
        ({"delay": 0, "cost": 0.0, "capital": 0.0}, "capital"),
        ({"delay": 0, "cost": 0.0, "capital": np.inf}, "capital"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ConfigError, match=text):
        simulate(CLOSE, TRADABLE, WEIGHTS, **settings)
