"""The rules of a market, worked out as terms."""

import datetime
import math
import statistics

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.market import GONE_DAYS, MARKETS, Fee, Terms, make_terms, terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.markets.qlib_cn import QlibCn
from mimstocr.backtest.orders import LIMIT_DOWN, LIMIT_UP, NO_MONEY, NO_PRICE, SUSPENDED
from mimstocr.backtest.run import backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.positions import Positions
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.config import make_config
from mimstocr.data.panel import make_panel
from mimstocr.errors import ConfigError, DataError

NAN = math.nan
DAYS = np.datetime64("2020-01-01") + np.arange(6)


def terms(close, market=None, *, tradable=None, **arrays):
    close = np.array(close, dtype=float)
    can = ~np.isnan(close) if tradable is None else np.array(tradable, dtype=bool)
    arrays = {
        name: np.array(a, dtype=float) if name in ("fill", "factor", "money") else a for name, a in arrays.items()
    }
    return terms_of(market or Flat(), close=close, tradable=can, **arrays)


def column(values):
    return np.array(values, dtype=float)[:, None]


def panel_of(fields, **changes):
    shape = np.shape(fields["close"])
    days = np.datetime64("2020-01-01") + np.arange(shape[0])
    return make_panel(
        {name: np.array(values, dtype=float) for name, values in fields.items()},
        days,
        [f"S{i}" for i in range(shape[1])],
        source="test",
        **changes,
    )


# fees ------------------------------------------------------------------------------------------------------------


def test_rates_change_on_their_day():
    fees = {
        "stamp": (Fee(since="2020-01-02", buy=0.1, sell=0.2), Fee(since="2020-01-04", sell=0.3)),
        "levy": (Fee(since="2020-01-05", buy=0.4),),
    }
    made = terms(np.ones((6, 1)), Flat(commission=0.01, fees=fees), days=DAYS)
    buys, sells = made.rates[:, 0], made.rates[:, 1]
    assert buys.T.tolist() == [[0.01] * 6, [0, 0.1, 0.1, 0, 0, 0], [0, 0, 0, 0, 0.4, 0.4]]
    assert sells.T.tolist() == [[0.01] * 6, [0, 0.2, 0.2, 0.3, 0.3, 0.3], [0] * 6]
    assert made.kinds == ("commission", "stamp", "levy", "slippage", "impact", "financing", "delisting")


def test_a_fee_holds_on_days_that_are_no_trading_days_of_the_change():
    """The rate of a Saturday is that of the Monday after it."""
    days = np.array(["2020-01-03", "2020-01-06"], dtype="datetime64[D]")
    made = terms(np.ones((2, 1)), Flat(fees={"stamp": (Fee(since="2020-01-04", sell=0.1),)}), days=days)
    assert made.rates[:, 1, 1].tolist() == [0, 0.1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"fees": {"levy": ({"since": "2020-01-02"}, {"since": "2020-01-01"})}}, "'levy': expected rates in the order"),
        ({"fees": {"levy": ({"since": "2020-01-02"}, {"since": "2020-01-02"})}}, "each day once"),
        ({"fees": {"slippage": ({"since": "2020-01-02"},)}}, "choose another name"),
        ({"fees": {"levy": ({"since": "2020-13-02"},)}}, "levy.*since"),
        ({"fees": {"levy": ({"sell": 0.1},)}}, r"levy.*since: Field required"),
        ({"fees": {"levy": ({"since": "2020-01-02", "sell": -0.1},)}}, r"levy.*sell.*got -0.1"),
        ({"fees": {"levy": ({"since": "2020-01-02", "both": 0.1},)}}, "unknown setting 'both'"),
        ({"price": "high"}, "price.*'close', 'open' or 'vwap'.*got 'high'"),
        ({"commission": 1.0}, r"commission.*got 1.0"),
        ({"commission": -0.1}, r"commission.*got -0.1"),
        ({"min_commission": -5}, r"min_commission.*got -5"),
        ({"participation": 0.0}, r"participation.*got 0.0"),
        ({"participation": 1.5}, r"participation.*got 1.5"),
        ({"lot": 0}, r"lot.*got 0"),
        ({"leverage": 0.5}, r"leverage.*got 0.5"),
        ({"delisting_loss": 1.1}, r"delisting_loss.*got 1.1"),
        ({"impact": math.inf}, r"impact.*got inf"),
        ({"slipage": 0.1}, "did you mean 'slippage'"),
    ],
)
@pytest.mark.parametrize("kind", ["flat", "cn_a_share", "us_equity", "crypto", "qlib_cn"])
def test_bad_rules(kind, changes, text):
    with pytest.raises(ConfigError, match=text):
        make_config({"backtest": {"market": {"kind": kind, **changes}}})
    with pytest.raises((ConfigError, ValidationError)):
        MARKETS.get(kind)().changed(**changes)


def test_an_unknown_market_is_told_with_those_that_are_known():
    with pytest.raises(ConfigError, match=r"unknown market 'cn'.*known: cn_a_share, crypto, flat, qlib_cn, us_equity"):
        make_config({"backtest": {"market": "cn"}})


# prices and what is blocked --------------------------------------------------------------------------------------


def test_a_suspended_stock_is_blocked_and_worth_its_last_price():
    made = terms([[10.0], [NAN], [11.0], [12.0]], tradable=[[1], [0], [0], [1]])
    assert made.blocked_buy[:, 0].tolist() == made.blocked_sell[:, 0].tolist() == [0, SUSPENDED, SUSPENDED, 0]
    assert made.worth[:, 0].tolist() == made.mark[:, 0].tolist() == [10, 10, 11, 12]
    assert made.stale[:, 0].tolist() == [False, True, True, False]


def test_without_suspensions_it_trades_wherever_there_is_a_close():
    made = terms([[NAN], [10.0], [NAN], [11.0]], Flat(suspensions=False), tradable=[[0], [1], [0], [0]])
    assert made.blocked_buy[:, 0].tolist() == made.blocked_sell[:, 0].tolist() == [NO_PRICE, 0, NO_PRICE, 0]
    assert made.worth[:, 0].tolist() == [0, 10, 10, 11]
    assert made.stale[:, 0].tolist() == [True, False, True, True]


def test_before_its_first_price_a_stock_has_none():
    made = terms([[NAN], [10.0]])
    assert made.blocked_sell[:, 0].tolist() == [NO_PRICE, 0]
    assert made.worth[0, 0] == made.mark[0, 0] == 0


@pytest.mark.parametrize("price", ["open", "vwap"])
def test_other_fill_prices(price):
    close, fill = [[10.0], [12.0], [14.0], [14.0], [15.0]], [[9.0], [11.0], [NAN], [14.0], [14.5]]
    made = terms(close, Flat(price=price), fill=fill, tradable=[[1], [1], [1], [0], [1]])
    assert made.worth[:, 0].tolist() == [9, 11, 12, 14, 14.5]  # without a fill: the close of the day before
    assert made.mark[:, 0].tolist() == [10, 12, 14, 14, 15]
    assert made.blocked_buy[:, 0].tolist() == [0, 0, NO_PRICE, SUSPENDED, 0]
    free = terms(close, Flat(price=price, suspensions=False), fill=fill, tradable=[[1], [1], [1], [0], [1]])
    assert free.worth[:, 0].tolist() == [9, 11, 12, 14, 14.5]
    assert not free.blocked_buy.any()


def test_limits_block_one_side_and_suspension_comes_first():
    """A rise of 10 % on day 1 and a fall on day 3; on day 2 the stock is suspended at a price 20 % up."""
    close = [[10.0], [11.0], [13.2], [11.0]]
    market = QlibCn(both_sides=False, suspensions=True, lot=None)
    made = terms(close, market, tradable=[[1], [1], [0], [1]])
    assert made.blocked_buy[:, 0].tolist() == [0, LIMIT_UP, SUSPENDED, 0]
    assert made.blocked_sell[:, 0].tolist() == [0, 0, SUSPENDED, LIMIT_DOWN]
    off = terms(close, market.changed(price_limits=False), tradable=[[1], [1], [0], [1]])
    assert off.blocked_buy[:, 0].tolist() == [0, 0, SUSPENDED, 0]


def test_the_limit_is_of_the_fill_price():
    made = terms([[10.0], [10.0], [11.0]], QlibCn(price="open", both_sides=False), fill=[[10.0], [11.0], [10.0]])
    assert made.blocked_buy[:, 0].tolist() == [0, LIMIT_UP, 0]


def test_a_stock_whose_prices_end_is_gone_some_days_after():
    n = 3 + GONE_DAYS
    close = np.full((n, 4), 10.0)
    close[3:, 0] = NAN  # 20 days before the last
    close[4:, 1] = NAN  # 19 days
    close[:, 2] = NAN
    close[5:9, 3] = NAN  # it comes back
    made = terms(close)
    assert np.argwhere(made.gone).tolist() == [[2 + GONE_DAYS, 0]]
    assert (made.blocked_sell[3:-1, 0] == SUSPENDED).all()
    assert made.blocked_sell[-1, 0] == NO_PRICE
    assert (made.blocked_sell[5:9, 3] == SUSPENDED).all()


def test_a_window_is_the_part_of_the_whole():
    random = np.random.default_rng(0)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.05, size=(40, 3)), axis=0))
    can = random.random(close.shape) < 0.8
    fields = {"money": random.uniform(1e3, 1e5, close.shape), "factor": random.uniform(1, 2, close.shape)}
    market = QlibCn(impact=1.0, participation=0.1, fees={"levy": (Fee(since="2020-01-20", buy=0.1),)})
    days = np.datetime64("2020-01-01") + np.arange(40)
    whole = terms(close, market, tradable=can, days=days, **fields)
    part = terms(close, market, tradable=can, days=days, window=slice(15, 30), **fields)
    arrays = [name for name, value in vars(whole).items() if isinstance(value, np.ndarray)]
    assert len(arrays) == 12
    for name in arrays:
        assert_array_equal(getattr(part, name), getattr(whole, name)[15:30], err_msg=name)


# lots and volume -------------------------------------------------------------------------------------------------


def test_lots_are_in_adjusted_shares_of_the_day():
    made = terms([[10.0]] * 4, Flat(lot=100), factor=[[NAN], [2.0], [NAN], [4.0]], tradable=[[1]] * 4)
    assert made.step[1:, 0].tolist() == made.least[1:, 0].tolist() == [50, 50, 25]
    assert made.slack == 1e-6
    plain = terms([[10.0]] * 4, Flat(lot=100))
    assert plain.step[:, 0].tolist() == [100] * 4
    assert plain.notes == ("without a factor in the source, lots are of adjusted shares",)
    fractional = terms([[10.0]] * 4)
    assert (fractional.step == 0).all()
    assert np.isinf(fractional.cap).all()
    assert fractional.notes == ()


@pytest.mark.parametrize("price", ["close", "open"])
def test_the_largest_order_is_a_share_of_the_volume(price):
    """Volume that is adjusted as prices are, and volume in real shares beside adjusted prices."""
    close, opened = column([10.0, 20.0, 20.0]), column([8.0, 15.0, 25.0])
    adjusted = {"close": close, "open": opened, "volume": column([1000, 2000, 0])}
    market = Flat(participation=0.25, price=price)
    assert_allclose(make_terms(market, panel_of(adjusted), slice(0, 3)).cap[:, 0], [250, 500, 0], rtol=1e-6)
    real = {**adjusted, "factor": column([4.0, 4.0, 4.0]), "volume": column([1000, 2000, 0])}
    assert_allclose(make_terms(market, panel_of(real), slice(0, 3)).cap[:, 0], [62.5, 125, 0], rtol=1e-6)
    scaled = {**real, "volume": column([1000.5, 2000.7, 0])}  # fractions of shares: the volume is adjusted
    assert_allclose(make_terms(market, panel_of(scaled), slice(0, 3)).cap[:, 0], [250.125, 500.175, 0], rtol=1e-6)


def slow_impact(scale, close, money, day):
    past = range(max(day - 20, 0), day)
    moves = [close[u] / close[u - 1] - 1 for u in past if u and not math.isnan(close[u] / close[u - 1])]
    known = [money[u] for u in past if not math.isnan(money[u])]
    if len(moves) < 2 or not known or sum(known) == 0:
        return None
    return scale * statistics.stdev(moves) / math.sqrt(statistics.fmean(known))


@pytest.mark.parametrize("seed", range(3))
def test_the_impact_is_of_the_20_days_before(seed):
    random = np.random.default_rng(seed)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.05, size=(60, 3)), axis=0))
    money = random.uniform(1e3, 1e5, close.shape)
    close[random.random(close.shape) < 0.2] = NAN
    money[np.isnan(close) | (random.random(close.shape) < 0.1)] = NAN
    money[20:45, 2] = 0.0
    made = terms(close, Flat(impact=0.7), money=money)
    for day in range(60):
        for stock in range(3):
            slow = slow_impact(0.7, close[:, stock], money[:, stock], day)
            if slow is None:
                assert made.blocked_buy[day, stock] in (NO_MONEY, SUSPENDED, NO_PRICE)
                assert made.impact[day, stock] == 0
            else:
                assert made.impact[day, stock] == pytest.approx(slow, rel=1e-9)
                assert made.blocked_sell[day, stock] in (0, SUSPENDED, NO_PRICE)
    assert (made.blocked_buy == NO_MONEY).sum() > 5
    later = close * np.where(np.arange(60)[:, None] >= 30, random.uniform(0.5, 2, close.shape), 1.0)
    other = terms(later, Flat(impact=0.7), money=money)
    assert_array_equal(made.impact[:31], other.impact[:31])
    assert (made.impact[32:] != other.impact[32:]).any()


def test_free_of_costs_the_same_can_be_traded():
    random = np.random.default_rng(0)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.06, size=(40, 5)), axis=0))
    market = QlibCn(
        impact=1.0,
        slippage=0.1,
        participation=0.1,
        borrow=0.1,
        financing=0.1,
        delisting_loss=0.5,
        short=True,
        leverage=2,
    )
    made = terms(close, market, money=np.full(close.shape, 1e4), tradable=random.random(close.shape) < 0.8)
    free = made.free()
    assert (made.blocked_buy == NO_MONEY).any()
    assert (made.blocked_buy == LIMIT_UP).any()
    costs = ("impact", "rates", "slippage", "min_commission", "borrow", "financing", "delisting_loss")
    assert set(costs) < set(vars(Terms(**vars(made))))
    for name, value in vars(made).items():
        if name in costs:
            assert np.any(value)
            assert not np.any(getattr(free, name))
        else:
            assert_array_equal(value, getattr(free, name), err_msg=name)


# what the source lacks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"price": "open"}, "price: open needs the field open, which the source lacks; it has close"),
        ({"price": "vwap"}, "price: vwap needs the field vwap"),
        ({"participation": 0.1}, "participation and impact needs? the field volume"),
        ({"impact": 1.0}, "participation and impact needs? the field volume"),
    ],
)
def test_a_rule_that_needs_what_the_source_lacks(rules, text):
    panel = panel_of({"close": np.full((5, 2), 10.0)})
    with pytest.raises(ConfigError, match=text):
        make_terms(Flat(**rules), panel, slice(0, 5))
    with pytest.raises(ConfigError, match=text):
        backtest(panel, np.ones((5, 2)), settings_of(market=Flat(**rules)), first=DAYS[0], last=DAYS[4])


def test_impact_without_money_is_refused():
    with pytest.raises(ConfigError, match="needs traded money"):
        terms([[10.0]], Flat(impact=1.0))


# a backtest in such markets --------------------------------------------------------------------------------------


def settings_of(**changes):
    return BacktestSettings(**{"strategy": TopK(k=1), "delay": 1, "market": Flat(), "capital": 1000.0, **changes})


def steady():
    return panel_of({"close": np.outer([10.0, 11, 12, 11, 12, 13], [1, 2])})


def follow(scores, **changes):
    panel = steady()
    return backtest(panel, np.array(scores, dtype=float), settings_of(**changes), first=DAYS[0], last=DAYS[5])


def test_a_capital_too_small_for_a_lot_is_reported():
    """100 shares cost 1000 or more and there are 100: no error, but counted, and told by the outcomes."""
    result = follow([[2.0, 1.0]] * 6, market=Flat(lot=100), capital=100.0)
    assert result.net.reasons() == {"less than a lot": 5}
    assert result.counts["unfilled_buys"] == 0  # the market would have allowed them
    assert "no order was ever filled: the account is cash throughout" in result.notes()
    assert (result.net_returns == 0).all()
    assert result.costs_by_kind() == {}


@pytest.mark.parametrize("capital", [0.0, -1.0, math.inf, NAN])
def test_a_capital_that_is_none(capital):
    with pytest.raises(ValidationError, match="capital"):
        settings_of(capital=capital)
    with pytest.raises(ConfigError, match="capital"):
        make_config({"backtest": {"capital": capital}})


@pytest.mark.parametrize(
    ("scores", "gross", "text"),
    [
        ([[0.6, -0.3]] * 6, 1.0, "a weight below zero on 2020-01-01; this market sells nothing short"),
        ([[0.6, 0.4]] * 6, 1.5, "sizes sum to 1.5 on 2020-01-01; at most 1 is allowed"),
    ],
)
def test_positions_that_the_market_does_not_allow(scores, gross, text):
    with pytest.raises(DataError, match=text):
        follow(scores, strategy=Positions(gross=gross))
    allowed = follow(scores, strategy=Positions(gross=gross), market=Flat(short=True, leverage=1.5))
    assert allowed.net.reasons().keys() == {"filled"}


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_scores_that_are_none_are_no_decision_and_counted(bad):
    scores = np.array([[2.0, 1.0]] * 6)
    scores[2] = bad
    scores[3, 0] = bad
    result = follow(scores)
    assert result.counts["days_without_decision"] == 1
    held = result.net.shares > 0
    assert held.tolist() == [[False] * 2, [True, False], [True, False], [True, False], [False, True], [True, False]]
    scores[3, 0] = NAN
    scores[2] = NAN
    assert result.table().equals(follow(scores).table())


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (DAYS[3], DAYS[1]),
        (datetime.date(2021, 1, 1), datetime.date(2021, 2, 1)),
        (np.datetime64("NaT"), DAYS[4]),
    ],
)
def test_wrong_dates(first, last):
    with pytest.raises(DataError, match="there is none: the panel has 2020-01-01 to 2020-01-06"):
        backtest(steady(), np.ones((6, 2)), settings_of(), first=first, last=last)
