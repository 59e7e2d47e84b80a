"""The audit of a day: the cash from order to order, in real shares and prices."""

import datetime
import math

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from mimstocr.backtest.explain import explain
from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.orders import REASONS
from mimstocr.backtest.run import backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.positions import Positions
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.panel import days_of, make_panel
from mimstocr.errors import DataError

NAN = math.nan


def run(panel, scores, **changes):
    days = days_of(panel)
    settings = BacktestSettings(
        **{"strategy": TopK(k=1), "delay": 1, "market": CnAShare(slippage=0), "capital": 1e5, **changes}
    )
    return backtest(panel, np.array(scores, dtype=float), settings, first=days[0], last=days[-1])


def three_days():
    """SH600000 is split two for one on 2021-03-03, when SZ000001 is at its upper limit."""
    real = np.array([[10.0, 20.0], [10.0, 20.0], [5.1, 22.0], [5.2, 21.5]])
    factor = np.array([[1.0, 1.5], [1.0, 1.5], [2.0, 1.5], [2.0, 1.5]])
    panel = make_panel(
        {"close": real * factor, "factor": factor, "volume": np.full(real.shape, 1e6)},
        np.array(["2021-03-01", "2021-03-02", "2021-03-03", "2021-03-04"], dtype="datetime64[D]"),
        ["SH600000", "SZ000001"],
        source="test",
    )
    return panel, run(panel, [[2.0, 1.0], [3.0, 4.0], [1.0, 7.0], [1.0, 7.0]])


def test_three_days_in_yuan_by_hand():
    panel, result = three_days()
    close = {"rel": 1e-6}

    entry = explain(result, panel, datetime.date(2021, 3, 2))
    assert (entry.day, entry.decided) == (np.datetime64("2021-03-02"), np.datetime64("2021-03-01"))
    assert entry.orders.drop("symbol", "side", "outcome").row(0, named=True) == pytest.approx(
        {
            "rank": 1,
            "score": 2.0,
            "held": 0,
            "wanted": 100_000 / 1.00027 / 10,
            "filled": 9900,
            "price": 10,
            "value": 99_000,
            "commission": 24.75,
            "stamp_duty": 0,
            "transfer_fee": 1.98,
            "slippage": 0,
            "impact": 0,
            "delisting": 0,
            "cash_before": 100_000,
            "cash_after": 973.27,
        },
        **close,
    )
    assert entry.orders.select("symbol", "side", "outcome").rows() == [
        ("SH600000", "buy", "rounded down to whole lots")
    ]
    assert [entry.value_before, entry.cash_before, entry.financing] == [1e5, 1e5, 0]
    assert [entry.value_after, entry.cash_after] == pytest.approx([99_973.27, 973.27], **close)

    # 19 800 shares after the split go at 5.10; the other stock cannot be bought
    split = explain(result, panel, np.datetime64("2021-03-03"))
    cash = 973.27 + 100_980 - 25.245 - 100.98 - 2.0196
    rows = split.orders.rows(named=True)
    assert [(row["symbol"], row["side"], row["rank"], row["score"], row["outcome"]) for row in rows] == [
        ("SH600000", "sell", 2, 3.0, "filled"),
        ("SZ000001", "buy", 1, 4.0, "at the upper limit"),
    ]
    sold, refused = rows
    assert [sold[name] for name in ("held", "wanted", "filled", "price", "value")] == pytest.approx(
        [19_800, -19_800, -19_800, 5.1, -100_980], **close
    )
    assert [sold[name] for name in ("commission", "stamp_duty", "transfer_fee")] == pytest.approx(
        [25.245, 100.98, 2.0196], **close
    )
    assert [refused[name] for name in ("held", "filled", "price", "value")] == pytest.approx([0, 0, 22, 0], **close)
    # the wish is for all of the equity after the costs of the sell, the only ones of the day
    assert refused["wanted"] == pytest.approx(cash / 22, **close)
    assert [sold["cash_before"], sold["cash_after"]] == pytest.approx([973.27, cash], **close)
    assert [refused["cash_before"], refused["cash_after"], split.cash_after] == pytest.approx([cash] * 3, **close)
    assert split.value_before == pytest.approx(99_973.27, **close)
    assert split.value_after == split.cash_after

    last = explain(result, panel, datetime.date(2021, 3, 4)).orders.row(0, named=True)
    assert [last["wanted"], last["filled"], last["price"], last["commission"]] == pytest.approx(
        [cash / 1.00027 / 21.5, 4700, 21.5, 101_050 * 0.00025], **close
    )
    assert last["cash_after"] == pytest.approx(cash - 101_050 * 1.00027, abs=0.01)  # prices are float32


def test_a_day_before_the_first_fill():
    panel, result = three_days()
    first = explain(result, panel, datetime.date(2021, 3, 1))
    assert first.decided is None
    assert first.orders.is_empty()
    assert [first.value_before, first.cash_before, first.value_after, first.cash_after] == [1e5] * 4
    later = explain(result, panel, datetime.date(2021, 3, 2)).orders
    assert first.orders.columns == later.columns


@pytest.mark.parametrize("day", ["2021-02-26", "2021-03-05", "2021-03-06", "2020-01-01", "2030-01-01"])
def test_a_day_outside(day):
    panel, result = three_days()
    with pytest.raises(DataError, match=f"got {day}; it has the trading days from 2021-03-01 to 2021-03-04"):
        explain(result, panel, np.datetime64(day))


def test_a_day_without_trading_names_the_one_before():
    panel, _ = three_days()
    result = run(panel.isel(date=[0, 1, 3]), [[2.0, 1.0], [3.0, 4.0], [1.0, 7.0]])
    with pytest.raises(DataError, match="the nearest before is 2021-03-02"):
        explain(result, panel, np.datetime64("2021-03-03"))


def test_a_day_whose_decision_wants_nothing_is_told_as_decided():
    close = np.full((4, 2), 10.0)
    panel = make_panel({"close": close}, np.datetime64("2021-03-01") + np.arange(4), ["A", "B"], source="test")
    result = run(panel, [[2.0, 1.0]] * 3 + [[NAN] * 2], market=Flat(commission=0))
    same = explain(result, panel, np.datetime64("2021-03-03"))
    assert same.orders.is_empty()
    assert same.decided == np.datetime64("2021-03-02")


def test_without_a_factor_prices_are_as_they_come():
    close = np.array([[10.0, 20.0], [11.0, 20.0], [12.0, 20.0]])
    panel = make_panel({"close": close}, np.datetime64("2021-03-01") + np.arange(3), ["A", "B"], source="test")
    result = run(panel, [[2.0, 2.0], [NAN, 1.0], [2.0, 1.0]], market=Flat(commission=0.01), capital=1000.0)
    first = explain(result, panel, np.datetime64("2021-03-02")).orders
    # of equal scores the first stock is the first
    assert first.select("symbol", "rank", "price").rows() == [("A", 1, 11.0)]
    second = explain(result, panel, np.datetime64("2021-03-03")).orders
    assert second.select("symbol", "side", "rank", "score").rows() == [("A", "sell", None, None), ("B", "buy", 1, 1.0)]
    assert second["held"].to_list() == pytest.approx([1000 / 1.01 / 11, 0])


def test_the_night_is_paid_before_the_orders():
    close = np.array([[10.0], [10.0], [10.0], [12.0]])
    panel = make_panel({"close": close}, np.datetime64("2021-03-01") + np.arange(4), ["A"], source="test")
    market = Flat(commission=0, leverage=1.5, financing=0.252)
    result = run(panel, [[1.5], [NAN], [0.0], [1.0]], strategy=Positions(gross=1.5), market=market, capital=1000.0)
    # 150 shares for 1500: 500 are borrowed at 0.1 % a night, for two nights before all is sold at 12
    quiet, sold = (explain(result, panel, np.datetime64(day)) for day in ("2021-03-03", "2021-03-04"))
    assert [quiet.financing, quiet.cash_before, quiet.cash_after] == pytest.approx([0.5, -500.5, -500.5])
    assert [sold.financing, sold.cash_before] == pytest.approx([0.5005, -501.0005])
    assert sold.orders.select("cash_before", "cash_after").row(0) == pytest.approx((-501.0005, 1800 - 501.0005))
    assert sold.cash_after == pytest.approx(1800 - 501.0005)


def random_panel(seed, days=45, stocks=8):
    """Real prices in ticks that jump, with splits, suspensions, small volumes, and a stock whose prices end."""
    random = np.random.default_rng(seed)
    move = random.choice([0.9, 1.1, 1.0], size=(days, stocks), p=[0.1, 0.1, 0.8])
    real = np.round(20 * np.cumprod(move * random.uniform(0.98, 1.02, size=(days, stocks)), axis=0), 2)
    factor = np.cumprod(random.choice([1.0, 1.3], size=(days, stocks), p=[0.97, 0.03]), axis=0)
    close = real * factor
    close[random.random(close.shape) < 0.05] = NAN
    close[days - 30 :, 0] = NAN
    close[:8, 1] = NAN
    volume = np.floor(random.uniform(1e3, 2e5, size=close.shape))
    volume[random.random(close.shape) < 0.05] = 0.0
    absent = np.isnan(close)
    fields = {"close": close, "factor": np.where(absent, NAN, factor), "volume": np.where(absent, NAN, volume)}
    fields["open"] = np.where(random.random(close.shape) < 0.95, close, NAN)
    panel = make_panel(fields, days_of_year(days), [f"SH60000{i}" for i in range(stocks)], source="test")
    return panel, random.normal(size=close.shape), random


def days_of_year(n):
    return np.busday_offset("2021-03-01", np.arange(n)).astype("datetime64[D]")


MARKETS = [
    CnAShare(impact=1.0, delisting_loss=0.3, participation=0.05),
    CnAShare(price="open", short=True, leverage=2.0, borrow=0.5, financing=0.5, slippage=0.001),
    CnAShare(lot=None, min_commission=50.0, price_limits=False),
]


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("market", MARKETS)
def test_the_cash_of_every_day_follows_from_order_to_order(market, delay):
    if market.price == "open":
        delay += 1  # the open of a day comes before its score
    panel, scores, random = random_panel(delay)
    days = days_of(panel)
    weights = np.where(random.random(scores.shape) < 0.5, scores, 0.0)
    weights /= np.abs(weights).sum(axis=1, keepdims=True)
    weights[random.random(len(days)) < 0.3] = NAN
    strategy = Positions(gross=market.leverage, long_only=not market.short)
    result = run(panel, weights, strategy=strategy, market=market, delay=delay, capital=2e5)
    net, kinds, outcomes = result.net, result.terms.kinds, set()
    for at, day in enumerate(days):
        told = explain(result, panel, day)
        orders = told.orders
        before, value = (net.cash[at - 1], net.value[at - 1]) if at else (2e5, 2e5)
        assert told.value_before == value
        assert told.value_after == net.value[at]
        assert told.cash_after == net.cash[at]
        assert told.financing == net.cost_kinds[at, kinds.index("financing")]
        assert told.cash_before == pytest.approx(before - told.financing, abs=1e-6)
        outcomes |= set(orders["outcome"])
        if orders.is_empty():
            assert told.cash_after == pytest.approx(told.cash_before, abs=1e-6)
            continue
        assert orders["cash_before"][0] == pytest.approx(told.cash_before, abs=1e-6)
        assert_allclose(orders["cash_before"][1:], orders["cash_after"][:-1], rtol=0, atol=1e-6)
        assert orders["cash_after"][-1] == pytest.approx(net.cash[at], abs=1e-6)
        paid = [kind for kind in kinds if kind != "financing"]
        costs = orders.select(paid)
        change = -orders["value"] - costs.sum_horizontal()
        assert_allclose(orders["cash_after"] - orders["cash_before"], change, rtol=0, atol=1e-6)
        expected = [net.cost_kinds[at, kinds.index(kind)] for kind in paid]
        assert_allclose(costs.sum().row(0), expected, rtol=1e-9, atol=1e-9)
        priced = orders.filter(pl.col("price").is_not_null())
        assert_allclose(priced["filled"] * priced["price"], priced["value"], rtol=1e-9)
        known = orders.select("symbol", "side", "held", "filled", "value", *paid, "outcome")
        assert known.null_count().sum_horizontal().item() == 0
        # real prices are whole cents, and real holdings are what the shares of the evening before are on this day
        traded = orders.filter(pl.col("value") != 0)
        assert_allclose(traded["price"] * 100, np.round(traded["price"].to_numpy() * 100), rtol=0, atol=0.01)
        factor = panel["factor"].to_pandas().ffill().to_numpy(dtype=float)[at]
        columns = [result.symbols.index(symbol) for symbol in orders["symbol"]]
        held = (net.shares[at - 1] if at else np.zeros(len(factor)))[columns] * np.nan_to_num(factor[columns])
        assert_allclose(orders["held"], held, rtol=1e-9, atol=1e-9)
        # settled, then sells, then buys
        order = [(row["outcome"] != "settled after delisting", row["side"] == "buy") for row in orders.rows(named=True)]
        assert order == sorted(order)
        if (orders["outcome"] != "settled after delisting").any():
            assert told.decided == days[at - delay]
            decided = weights[at - delay]
            assert_allclose(orders["score"].to_numpy(), decided[columns], rtol=1e-9)
            ranks = [1 + int((decided > decided[i]).sum() + (decided[:i] == decided[i]).sum()) for i in columns]
            assert orders["rank"].to_list() == ranks
    assert outcomes == set(net.reasons())


def test_every_outcome_is_told():
    """Between them the markets above, and one account without cash, show all that can become of an order."""
    outcomes = set()
    for seed, market in enumerate(MARKETS * 2):
        panel, scores, _ = random_panel(seed)
        result = run(panel, scores, strategy=TopK(k=3), market=market, capital=(3e3, 3e5)[seed > 2])
        for day in days_of(panel):
            outcomes |= set(explain(result, panel, day).orders["outcome"])
    assert outcomes == set(REASONS)
