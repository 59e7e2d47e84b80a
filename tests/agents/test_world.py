"""The account against values worked out by hand, and against the backtest engine."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.agents.world import RUIN, Account, World, follow, make_world
from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import Market, terms_of
from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.run import backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.positions import Positions
from mimstocr.backtest.strategy import following
from mimstocr.data.panel import days_of, make_panel, usable
from mimstocr.errors import ConfigError, TrainingError
from mimstocr.features.alpha360 import Alpha360

NAN = np.nan


def world(close, market=None, delay=1, tradable=None, fill=None, capital=1.0, hold=True, **settings) -> World:
    """Of prices alone, without features."""
    close = np.array(close, dtype=float)
    tradable = np.isfinite(close) if tradable is None else tradable
    market = market or Flat(short=True, commission=0.01)
    days = np.datetime64("2020-01-01") + np.arange(len(close))
    names = [f"SH60000{i}" for i in range(close.shape[1])]
    return World(
        days=days,
        symbols=names,
        features=np.zeros((len(close), 0), dtype=np.float32),
        rows=tradable,
        terms=terms_of(market, close=close, tradable=tradable, fill=fill, days=days, symbols=names),
        delay=delay,
        capital=capital,
        days_per_year=252,
        settings=EnvironmentSettings(**settings),
        cut=0,
        hold=hold,
    )


def walk(days=40, stocks=6, seed=0):
    return 10 * np.exp(np.random.default_rng(seed).normal(0, 0.03, (days, stocks)).cumsum(axis=0))


def prices(days=60, stocks=5, seed=0, volume=None):
    close, random = walk(days, stocks, seed), np.random.default_rng(seed)
    start = close * (1 + random.normal(0, 0.01, close.shape))
    fields = {"open": start, "high": np.maximum(start, close), "low": np.minimum(start, close), "close": close}
    volume = random.uniform(1e5, 1e6, close.shape) if volume is None else volume
    dates = np.datetime64("2020-01-01") + np.arange(days)
    return make_panel({**fields, "volume": volume}, dates, [f"S{i}" for i in range(stocks)], source="walk")


def living(panel, days=slice(10, 60), delay=1, fitted=None, **settings) -> World:
    fitted = fitted or Alpha360(window=6).fit(panel, np.ones(panel["close"].shape, dtype=bool))
    trading = BacktestSettings(market=Flat(short=True), delay=delay, capital=1.0)
    return make_world(panel, fitted, days, trading, EnvironmentSettings(**settings))


def chance(seed, n):
    random = np.random.default_rng(seed)
    return lambda _: random.uniform(-1, 1, n)


def test_four_days_by_hand():
    """c = 1 %, decided on day 0 and 1, filled on day 1 and 2.

    Day 1: half long A at 20, half short B at 10; c is paid of both legs, so E + c E = 1. Day 2: A stands at 30, B at 5:
    both legs gain E / 4. Half of what is left in A then, nothing in B: F = 1.5 E - c (0.75 E - F / 2 + 0.25 E).
    Day 3: A at 33.
    """
    account = Account(world([[10, 10], [20, 10], [30, 5], [33, 5]]))
    assert_array_equal(account.observe(), [0, 0, 1])
    first = account.follow(np.array([0.5, -0.5]))
    e = 1 / 1.01
    assert first == pytest.approx(1.5 * e - 1, rel=1e-12)
    assert account.turnover == pytest.approx(e / 2, rel=1e-12)
    assert_allclose(account.observe(), [0.5, -0.5, 1.0], rtol=1e-6)  # what was sold short lies in cash
    second = account.follow(np.array([0.5, 0.0]))
    f = 1.49 * e / 0.995
    assert second == pytest.approx(1.05 * f / (1.5 * e) - 1, rel=1e-12)
    assert account.turnover == pytest.approx((0.75 * e - 0.5 * f + 0.25 * e) / (1.5 * e) / 2, rel=1e-12)
    assert_allclose(account.observe(), [0.5, 0, 0.5], rtol=1e-6)
    assert account.equity == pytest.approx((1 + first) * (1 + second), rel=1e-12)
    assert math.isnan(account.follow(np.zeros(2)))  # filled on the last day, and earns after it


def test_delay_0_earns_the_next_day():
    """And it sees what it holds after that day's move, before the next fill."""
    account = Account(world([[10, 10], [20, 10], [30, 5]], delay=0))
    assert account.follow(np.array([0.5, -0.5])) == pytest.approx(1.5 / 1.01 - 1, rel=1e-12)
    assert_allclose(account.observe(), [1.0 / 1.5, -0.5 / 1.5, 1.0 / 1.5], rtol=1e-6)


def test_fills_at_the_open_earn_from_open_to_open():
    close = [[10.0], [12.0], [15.0]]
    market = Flat(short=True, commission=0, price="open")
    account = Account(world(close, market, fill=np.array([[10.0], [11.0], [14.0]])))
    assert account.follow(np.ones(1)) == pytest.approx(14 / 11 - 1, rel=1e-12)


@pytest.mark.parametrize(
    ("action", "hold", "expected"),
    [
        ([0.5, -0.25, 0.25], True, [0.5, -0.25]),
        ([0.5, -0.25, -0.25], True, [0.5, -0.25]),  # Hold has no sign
        ([0.6, -0.2], False, [0.75, -0.25]),
        ([0.0, 0.0, 0.5], True, [0, 0]),
        ([0.0, 0.0, 0.0], True, [0, 0]),
        ([-1.0, 0.0], False, [-1, 0]),
    ],
)
def test_the_rule_of_the_paper(action, hold, expected):
    account = Account(world([[1, 1], [1, 1], [1, 1]], hold=hold))
    assert_allclose(account.positions(np.array(action, dtype=np.float32)), expected, rtol=1e-7)


def test_without_short_sales_their_part_is_cash():
    account = Account(world([[1, 1], [1, 1], [1, 1]], Flat(short=False)))
    assert_allclose(account.positions(np.array([0.5, -0.25, 0.25])), [0.5, 0.0])


def test_a_stock_outside_the_cross_section_takes_no_part():
    seen = world([[1, NAN], [1, 1], [1, 1]])
    assert_allclose(Account(seen).positions(np.array([0.5, 1.0, 0.5])), [0.5, 0.0])
    nobody = world([[NAN, NAN], [1, 1], [1, 1]])
    assert np.isnan(Account(nobody).positions(np.array([0.5, 1.0, 0.5]))).all()  # no decision


def test_an_action_that_is_no_number():
    account = Account(world([[1, 1], [1, 1], [1, 1]]))
    for bad in (NAN, np.inf):
        with pytest.raises(TrainingError, match="not finite"):
            account.positions(np.array([bad, 0.1, 0.1]))
        with pytest.raises(TrainingError, match="not finite"):
            account.positions(np.array([0.1, 0.1, bad]))


def test_a_suspended_stock_stays_and_earns_nothing():
    """B is suspended on day 2, where all of it was to be sold, and trades on day 3 at a new price."""
    close = np.array([[10, 10], [10, 10], [11, NAN], [11, 20], [11, 20]])
    account = Account(world(close, Flat(short=True, commission=0)))
    assert account.follow(np.array([0.5, 0.5])) == pytest.approx(0.05, rel=1e-12)  # B earns 0 into its suspension
    held = account.held[1]
    assert account.follow(np.array([0.0, 0.0])) == pytest.approx(1.55 / 1.05 - 1, rel=1e-12)
    assert account.held[1] == held  # not sold on day 2: it gained with the price of day 3
    assert account.held[0] == 0
    account.follow(np.array([0.0, 0.0]))
    assert account.held[1] == 0


MARKETS = {
    "flat": Flat(short=True),
    "borrowing": Flat(short=True, borrow=0.3, financing=0.2, leverage=1.5),
    "delisting": Flat(short=True, delisting_loss=0.5),
    "long": Flat(short=False),
    "lots": CnAShare(participation=None, impact=0.0),
}


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("gaps", [False, True], ids=["traded", "suspended"])
@pytest.mark.parametrize("name", MARKETS)
def test_the_account_is_that_of_the_engine(name, gaps, delay):
    market: Market = MARKETS[name]
    close = walk(days=60)
    if gaps:
        close[np.random.default_rng(1).random(close.shape) < 0.15] = NAN
        close[20:, 0] = NAN  # delisted
        close[5] = NAN  # a day without any cross-section
    seen = world(close, market, delay, capital=1e5)
    account, policy = Account(seen), chance(2, 7)
    weights, values, earned = [], [], []
    for _ in range(len(close)):
        weights.append(account.positions(policy(None)))
        earned.append(account.follow(weights[-1]))
        values.append(account.value)
    engine = simulate(seen.terms, following(np.array(weights)), delay=delay, capital=1e5)
    assert_allclose(values[: len(close) - delay], engine.value[delay:], rtol=1e-9)
    assert np.isnan(earned[seen.decisions :]).all()
    assert np.isfinite(earned[: seen.decisions]).all()
    # equity before the last fill: what the engine's account is worth after it, and what that fill cost
    last = engine.value[-1] + engine.cost_kinds[-1, :-2].sum()  # without financing and delisting
    assert 1e5 * np.prod(1 + np.array(earned[: seen.decisions])) == pytest.approx(last, rel=1e-9)


@pytest.mark.parametrize("delay", [0, 1])
def test_positions_in_a_backtest_earn_the_same(delay):
    """Through `backtest` and the strategy `positions`, as a network's predictions go."""
    panel = prices()
    seen = living(panel, delay=delay)
    done = follow(chance(3, 6), seen)
    grid = np.full(panel["close"].shape, NAN)
    grid[10:60] = done.weights
    trading = BacktestSettings(strategy=Positions(), market=Flat(short=True), delay=delay, capital=1.0)
    days = days_of(panel)
    result = backtest(panel, grid, trading, first=days[10], last=days[59])
    total = np.prod(1 + done.returns)
    assert result.net.value[-1] + result.net.costs[-1] == pytest.approx(total, rel=1e-9)
    assert_allclose(done.turnover, result.net.turnover[delay : delay + seen.decisions], rtol=1e-9)
    # without costs each decision earns the engine's return of one day
    free = living(panel, delay=delay)
    free = replace(free, terms=free.terms.free())
    same = follow(chance(3, 6), free)
    assert_allclose(same.returns, result.gross.returns[delay + 1 :], rtol=1e-9, atol=1e-12)


def test_everything_lost_ends_it():
    """All short of a stock that triples."""
    seen = world([[10], [10], [30], [30], [30]])
    account = Account(seen)
    assert account.follow(np.array([-1.0])) == RUIN
    assert account.ruined
    done = follow(lambda _: np.array([-1.0, 0.0]), seen)
    assert_allclose(done.returns, [RUIN, 0, 0])
    assert_allclose(done.weights[:, 0], [-1, 0, 0, 0, 0])


def test_what_is_seen():
    """The last days of the windows of all stocks in the cross-section, zeros for the others."""
    volume = np.full((60, 5), 1e6)
    volume[12, 3] = 0
    panel = prices(volume=volume)
    fitted = Alpha360(window=6).fit(panel, np.ones((60, 5), dtype=bool))
    seen = living(panel, fitted=fitted, window=2)
    windows = fitted.bind(panel, torch.device("cpu"))
    for row, day in enumerate(range(10, 60)):
        x = windows(torch.tensor([day]), torch.arange(5)[None])[0, :, 4:].numpy()
        if day == 12:
            x[3] = 0
        assert_array_equal(seen.features[row], x.ravel())
    assert_array_equal(seen.rows, usable(panel)[10:60])
    assert not seen.notes


def test_what_is_cut_is_counted():
    panel = prices()
    whole, cut = living(panel), living(panel, clip=0.5)
    assert cut.cut == int((np.abs(whole.features) > 0.5).sum()) > 0
    assert np.abs(cut.features).max() == 0.5
    assert cut.notes == [f"{cut.cut} features beyond 0.5 were cut to it for the agent"]


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("day", [0, 1, 7, 30])
def test_the_future_does_not_matter(day, delay):
    panel, other = prices(), prices(seed=9)
    fitted = Alpha360(window=6).fit(panel, np.arange(60)[:, None] < np.full(5, 10))
    at = 10 + day + 1
    names = ("open", "high", "low", "close")
    fields = {name: np.concatenate([panel[name][:at], 1.1 * other[name][at:]]) for name in names}
    volume = np.concatenate([panel["volume"][:at], 7 * other["volume"][at:]])
    scrambled = make_panel({**fields, "volume": volume}, days_of(panel), list(panel["symbol"].values), source="x")
    observed = []
    for each in (panel, scrambled):
        account, policy = Account(living(each, delay=delay, fitted=fitted)), chance(4, 6)
        observed.append([])
        for _ in range(day + 1):
            observed[-1].append(account.observe())
            account.follow(account.positions(policy(None)))
        after = account.observe()
    assert_array_equal(*observed)
    assert not np.array_equal(after, observed[0][-1])


def test_what_an_agent_cannot_live_in():
    panel = prices()
    with pytest.raises(ConfigError, match="a delay of 0 or 1 days, got 2"):
        living(panel, delay=2)
    with pytest.raises(ConfigError, match="at most the 6 days of the features, got 7"):
        living(panel, window=7)
    with pytest.raises(ConfigError, match="at least 3 days to live, got 2"):
        living(panel, slice(10, 12))
