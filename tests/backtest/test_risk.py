import datetime
import itertools
import math
import statistics

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.risk import (
    NO_GROUP,
    cost_breakdown,
    drawdowns,
    group_exposure,
    monthly_returns,
    order_outcomes,
    rolling_sharpe,
    size_exposure,
    sizes,
    weights_of,
)
from mimstocr.backtest.run import backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.panel import days_of, make_panel, usable
from mimstocr.errors import ConfigError, DataError

NAN = np.nan
DAY = datetime.date(2020, 1, 1)


def calendar(n, first="2020-01-01"):
    return np.datetime64(first) + np.arange(n)


def day(i):
    return DAY + datetime.timedelta(days=i)


def market(seed=0, days=40, stocks=8, **fields):
    """A panel with suspensions, and scores of its cross-sections."""
    random = np.random.default_rng(seed)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.03, size=(days, stocks)), axis=0))
    volume = np.where(random.random(close.shape) < 0.1, 0.0, random.integers(2_000, 90_000, close.shape))
    for t, i in zip(*np.nonzero(volume == 0), strict=True):
        if t:
            close[t, i] = close[t - 1, i]
    panel = make_panel(
        {"close": close, "volume": volume, **fields}, calendar(days), [f"SH60000{i}" for i in range(stocks)], source="t"
    )
    return panel, np.where(usable(panel), random.normal(size=close.shape), NAN)


def run(panel, scores, **changes):
    settings = {"strategy": TopK(k=3), "delay": 1, "market": Flat(commission=0.01), "capital": 50_000.0, **changes}
    return backtest(panel, scores, BacktestSettings(**settings), first=days_of(panel)[3], last=days_of(panel)[-1])


# ---- falls, months, Sharpe -----------------------------------------------------------------------------------------


def test_drawdowns_by_hand():
    # wealth 0.9, 1.08, 0.54, 0.54, 0.675, 1.485, 1.485, 1.188
    found = drawdowns(np.array([-0.1, 0.2, -0.5, 0.0, 0.25, 1.2, 0.0, -0.2]), calendar(8))
    assert found.columns == ["start", "trough", "recovered", "depth", "days_down", "days_to_recover"]
    rows = found.rows()
    assert [(*row[:3], *row[4:]) for row in rows] == [
        (day(1), day(2), day(5), 1, 3),
        (day(6), day(7), None, 1, None),
        (None, day(0), day(1), 1, 1),
    ]
    assert [row[3] for row in rows] == pytest.approx([0.54 / 1.08 - 1, 1.188 / 1.485 - 1, 0.9 - 1])


def slow_drawdowns(returns):
    """(start, trough, recovered, depth) as places, by walking; -1 is the money before the first day."""
    wealth, top, top_at, falls, now = 1.0, 1.0, -1, [], None
    for i, r in enumerate(returns):
        wealth *= 1 + r
        if wealth >= top:
            if now:
                falls.append((*now[:2], i, now[2]))
                now = None
            top, top_at = wealth, i
        elif now is None or wealth / top - 1 < now[2]:
            now = (top_at, i, wealth / top - 1)
    return falls + ([(*now[:2], None, now[2])] if now else [])


@pytest.mark.parametrize("seed", range(6))
def test_drawdowns_equal_the_walk(seed):
    random = np.random.default_rng(seed)
    r = random.normal(0.004, 0.02, 200)
    r[random.random(200) < 0.2] = 0.0
    days = calendar(200)
    expected = sorted(slow_drawdowns(r.tolist()), key=lambda fall: fall[3])
    assert len(expected) > 7
    found = drawdowns(r, days, n=7)
    assert len(found) == 7
    for row, (start, trough, recovered, depth) in zip(found.iter_rows(named=True), expected, strict=False):
        assert row["start"] == (None if start < 0 else day(start))
        assert row["trough"] == day(trough)
        assert row["recovered"] == (None if recovered is None else day(recovered))
        assert row["depth"] == pytest.approx(depth, rel=1e-9)
        assert row["days_down"] == trough - start
        assert row["days_to_recover"] == (None if recovered is None else recovered - trough)


def test_no_fall_no_row():
    found = drawdowns(np.array([0.0, 0.1, 0.0]), calendar(3))
    assert found.is_empty()
    assert found.schema["recovered"] == pl.Date


def test_months_by_hand():
    days = np.array(["2019-11-29", "2019-12-02", "2019-12-31", "2020-01-02", "2020-03-31"], dtype="datetime64[D]")
    found = monthly_returns(np.array([0.1, 0.2, -0.5, 0.25, 0.04]), days)
    assert found["year"].to_list() == [2019, 2020]
    assert found["nov"].to_list() == [pytest.approx(0.1), None]
    assert found["dec"].to_list() == [pytest.approx(1.2 * 0.5 - 1), None]
    assert found["jan"].to_list() == [None, pytest.approx(0.25)]
    assert found["feb"].to_list() == [None, None]  # no day is not no return
    assert found["mar"].to_list() == [None, pytest.approx(0.04)]
    assert found["total"].to_list() == pytest.approx([1.1 * 1.2 * 0.5 - 1, 1.25 * 1.04 - 1])


def test_years_compound_to_the_whole():
    r = np.random.default_rng(0).normal(0, 0.01, 900)
    found = monthly_returns(r, calendar(900, "2018-05-17"))
    months = [value for row in found.drop("year", "total").rows() for value in row if value is not None]
    assert len(months) == 31
    assert math.prod(1 + m for m in months) == pytest.approx(math.prod(1 + r))
    assert math.prod(1 + found["total"].to_numpy()) == pytest.approx(math.prod(1 + r))


def test_rolling_sharpe_is_that_of_each_window():
    r = np.random.default_rng(1).normal(0.001, 0.01, 40)
    r[10:16] = 0.003
    found = rolling_sharpe(r, 5, 252)
    for i in range(40):
        window = r[i - 4 : i + 1].tolist()
        if i < 4 or len(set(window)) == 1:
            assert math.isnan(found[i])
        else:
            assert found[i] == pytest.approx(statistics.fmean(window) / statistics.stdev(window) * math.sqrt(252))
    assert np.isnan(found[14:16]).all()  # equal returns have no deviation, whatever rounding leaves
    assert np.isnan(rolling_sharpe(r, 41, 252)).all()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: drawdowns(np.array([0.1, NAN]), calendar(2)), DataError, "1 that are not"),
        (lambda: drawdowns(np.array([]), calendar(0)), DataError, "one day at least"),
        (lambda: drawdowns(np.array([0.1]), calendar(2)), DataError, "expected 1 days that increase"),
        (lambda: drawdowns(np.array([0.1, 0.1]), calendar(2)[::-1]), DataError, "increase"),
        (lambda: drawdowns(np.array([0.1]), calendar(1), n=0), ConfigError, "1 or more drawdowns"),
        (lambda: monthly_returns(np.array([np.inf]), calendar(1)), DataError, "1 that are not"),
        (lambda: rolling_sharpe(np.array([0.1, NAN]), 2, 252), DataError, "1 that are not"),
        (lambda: rolling_sharpe(np.array([0.1]), 1, 252), ConfigError, "window of 2 days"),
    ],
)
def test_series_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- exposure ------------------------------------------------------------------------------------------------------


def test_groups_by_hand():
    groups = np.array([[True, False], [True, True], [False, False], [False, True]])
    weights = np.array([[0.4, 0.2, 0.1, -0.3]])
    member = np.array([[True, True, True, False]])
    found = group_exposure(weights, member, groups, ["banks", "steel"])
    assert found.names == ["banks", "steel", NO_GROUP]
    assert_allclose(found.account, [[0.4 + 0.2 / 2, 0.2 / 2 - 0.3, 0.1]])
    assert_allclose(found.universe, [[1 / 3 + 1 / 6, 1 / 6, 1 / 3]])
    assert_allclose(found.active, found.account - found.universe)
    assert group_exposure(weights, member, np.ones((4, 1), dtype=bool), ["all"]).names == ["all"]


def test_a_day_without_members_has_no_universe():
    found = group_exposure(np.full((2, 2), 0.5), np.array([[True, True], [False, False]]), np.eye(2, dtype=bool), "AB")
    assert_allclose(found.universe, [[0.5, 0.5], [NAN, NAN]])


@pytest.mark.parametrize("seed", range(3))
def test_groups_equal_the_loops(seed):
    random = np.random.default_rng(seed)
    weights, member = random.normal(size=(5, 9)), random.random((5, 9)) < 0.7
    groups = random.random((9, 4)) < 0.3
    found = group_exposure(weights, member, groups, list("abcd"))
    mine = [{name for name, here in zip("abcd", row, strict=True) if here} or {NO_GROUP} for row in groups]
    for t, (place, name) in itertools.product(range(5), enumerate(found.names)):
        account = sum(weights[t, i] / len(mine[i]) for i in range(9) if name in mine[i])
        universe = sum(1 / len(mine[i]) for i in range(9) if member[t, i] and name in mine[i]) / member[t].sum()
        assert found.account[t, place] == pytest.approx(account)
        assert found.universe[t, place] == pytest.approx(universe)
    assert_allclose(found.account.sum(axis=1), weights.sum(axis=1))
    assert_allclose(found.active.sum(axis=1), weights.sum(axis=1) - 1)


def slow_rank(size, member, i):
    smaller = sum(m and s < size[i] for s, m in zip(size, member, strict=True))
    equal = sum(m and s == size[i] for s, m in zip(size, member, strict=True))
    return (smaller + equal / 2) / sum(m and not math.isnan(s) for s, m in zip(size, member, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_size_equals_the_loops(seed):
    random = np.random.default_rng(seed)
    size = random.integers(0, 6, (7, 11)).astype(float)  # with ties, also between members and others
    size[random.random(size.shape) < 0.2] = NAN
    member, weights = random.random(size.shape) < 0.6, np.maximum(random.normal(size=size.shape), 0)
    member[4] = False
    weights[5] = 0
    found = size_exposure(weights, size, member)
    left_out = 0
    for t in range(7):
        known = [i for i in range(11) if weights[t, i] > 0 and not math.isnan(size[t, i]) and member[t].any()]
        left_out += int((weights[t] > 0).sum()) - len(known)
        if not known:
            assert math.isnan(found.rank[t])
            continue
        total = sum(weights[t, i] * slow_rank(size[t], member[t], i) for i in known)
        assert found.rank[t] == pytest.approx(total / sum(weights[t, i] for i in known))
    assert found.left_out == left_out > 0
    assert math.isnan(found.rank[4])
    assert math.isnan(found.rank[5])


def test_equal_parts_of_the_universe_are_in_the_middle():
    random = np.random.default_rng(0)
    size, member = random.lognormal(size=(6, 20)), random.random((6, 20)) < 0.5
    assert_allclose(size_exposure(member / 20, size, member).rank, 0.5)
    largest = (size == np.where(member, size, 0).max(axis=1, keepdims=True)).astype(float)
    n = member.sum(axis=1)
    assert_allclose(size_exposure(largest, size, member).rank, (n - 0.5) / n)
    assert_allclose(size_exposure(-largest, size, member).rank, (n - 0.5) / n)  # one side, whatever its sign
    assert_allclose(size_exposure(largest, size**3, member).rank, (n - 0.5) / n)


def test_size_is_the_market_value_or_the_money_traded():
    panel, _ = market(days=30, stocks=3)
    found, name = sizes(panel)
    assert name == "mean money traded on the last 20 days"
    money = panel["close"].values.astype(float) * panel["volume"].values
    for t, i in itertools.product(range(30), range(3)):
        known = [m for m in money[max(t - 19, 0) : t + 1, i] if m > 0]
        assert found[t, i] == pytest.approx(statistics.fmean(known) if known else NAN, nan_ok=True)
    value = np.full((30, 3), 5.0)
    value[10:12] = NAN
    found, name = sizes(market(days=30, stocks=3, market_value=value)[0])
    assert name == "market value"
    assert_array_equal(found, np.full((30, 3), 5.0))  # the last one known
    bare = make_panel({"close": panel["close"].values}, calendar(30), list("ABC"), source="t")
    assert sizes(bare) is None


def test_size_of_a_day_does_not_see_later_days():
    panel, _ = market(days=40)
    later = {name: panel[name].values.copy() for name in ("close", "volume")}
    later["volume"][25:] *= 7
    changed = make_panel(later, calendar(40), list("ABCDEFGH"), source="t")
    assert_array_equal(sizes(panel)[0][:25], sizes(changed)[0][:25])


@pytest.mark.parametrize(
    "call",
    [
        lambda: group_exposure(np.ones((2, 3)), np.ones((2, 2), dtype=bool), np.ones((3, 1), dtype=bool), ["a"]),
        lambda: group_exposure(np.ones((2, 3)), np.ones((2, 3), dtype=bool), np.ones((2, 1), dtype=bool), ["a"]),
        lambda: group_exposure(np.full((2, 3), NAN), np.ones((2, 3), dtype=bool), np.ones((3, 1), dtype=bool), ["a"]),
        lambda: size_exposure(np.ones((2, 3)), np.ones((3, 3)), np.ones((2, 3), dtype=bool)),
    ],
)
def test_exposure_errors(call):
    with pytest.raises(DataError, match="expected"):
        call()


# ---- of a backtest -------------------------------------------------------------------------------------------------


def test_weights_add_up_to_what_is_not_cash():
    panel, _ = market()
    panel, scores = market(open=panel["close"].values * np.float32(1.02))
    result = run(panel, scores, market=Flat(price="open"))
    found = weights_of(result)
    assert found.shape == (len(result.days), 8)
    cash = (result.net.cash / result.net.value)[-len(result.days) :]
    assert_allclose(found.sum(axis=1), 1 - cash, atol=1e-12)
    t = 11
    row = len(result.simulated_days) - len(result.days) + t
    close = panel["close"].values[days_of(panel) == result.days[t]][0].astype(float)
    assert_allclose(found[t], result.net.shares[row] * close / result.net.value[row])


def test_costs_by_kind_are_all_that_was_paid():
    panel, scores = market(days=60)
    result = run(panel, scores, market=CnAShare(slippage=0.001, participation=0.01))
    found = cost_breakdown(result)
    assert found["kind"].to_list() == [
        "commission",
        "stamp_duty",
        "transfer_fee",
        "slippage",
    ]  # no impact, no delisting
    assert found["money"].sum() == pytest.approx(float(result.costs.sum()))
    assert found["of_capital"].sum() == pytest.approx(result.metrics["net"]["costs"])
    orders = result.net.orders
    traded = sum(abs(shares) * price for shares, price in zip(orders.filled, orders.price, strict=True))
    sold = -sum(shares * price for shares, price in zip(orders.filled, orders.price, strict=True) if shares < 0)
    by_kind = {row["kind"]: row for row in found.iter_rows(named=True)}
    assert by_kind["slippage"]["basis_points"] == pytest.approx(10)
    assert by_kind["stamp_duty"]["basis_points"] == pytest.approx(10 * sold / traded)
    assert by_kind["transfer_fee"]["money"] == pytest.approx(traded * 2e-5)


def test_a_flat_rate_is_its_basis_points():
    panel, scores = market()
    found = cost_breakdown(run(panel, scores, market=Flat(commission=0.0123)))
    assert found.select("kind", "basis_points").rows() == [("commission", pytest.approx(123))]
    assert cost_breakdown(run(panel, scores, market=Flat(commission=0))).is_empty()


def test_what_is_settled_is_no_trade():
    close = np.array([[10.0, 10.0]] * 2 + [[10.0, NAN]] * 25)
    panel = make_panel({"close": close}, calendar(27), ["A", "B"], source="t")
    scores = np.full((27, 2), NAN)
    scores[0] = [1.0, 2.0]
    settings = BacktestSettings(strategy=TopK(k=1), delay=0, market=Flat(commission=0, delisting_loss=0.5), capital=100)
    result = backtest(panel, scores, settings, first=calendar(1)[0], last=calendar(27)[-1])
    # 100 are bought, 50 lost in the settlement
    assert cost_breakdown(result).rows() == [("delisting", 50.0, 0.5, 0.5 * 1e4)]
    assert order_outcomes(result).rows() == [
        ("filled", 1, 0, 100.0, 100.0),
        ("settled after delisting", 0, 1, 100.0, 100.0),
    ]


def test_orders_are_counted_once_each():
    panel, scores = market(days=60)
    result = run(panel, scores, market=CnAShare(participation=0.01))
    found, orders = order_outcomes(result), result.net.orders
    counts = {row["outcome"]: row["buys"] + row["sells"] for row in found.iter_rows(named=True)}
    assert counts == result.net.reasons()
    assert len(counts) >= 4
    assert found["buys"].sum() == int((orders.wanted > 0).sum())
    assert found["asked"].sum() == pytest.approx(float(np.abs(orders.wanted).sum()))
    assert found["traded"].sum() == pytest.approx(float(np.abs(orders.filled * orders.price).sum()))
    filled = found.filter(pl.col("outcome") == "filled")
    assert filled["traded"].item() == pytest.approx(filled["asked"].item())
    assert found.filter(pl.col("outcome") == "suspended")["traded"].item() == 0


def test_drawdowns_of_bars_within_the_day_keep_their_time():
    hours = np.arange("2020-01-31T22", "2020-02-01T03", dtype="datetime64[h]").astype("datetime64[ms]")
    returns = np.array([0.1, -0.5, 1.0, 0.1, -0.1])
    found = drawdowns(returns, hours)
    assert found["start"].to_list() == [datetime.datetime(2020, 1, 31, 22), datetime.datetime(2020, 2, 1, 1)]
    assert found["trough"].to_list() == [datetime.datetime(2020, 1, 31, 23), datetime.datetime(2020, 2, 1, 2)]
    months = monthly_returns(returns, hours)
    assert_allclose([months["jan"][0], months["feb"][0]], [1.1 * 0.5 - 1, 2 * 1.1 * 0.9 - 1])
