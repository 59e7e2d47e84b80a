import numpy as np
import pytest

from mimstocr.backtest.capacity import capacity, size_rules
from mimstocr.backtest.market import Market
from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.crypto import Crypto
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.orders import CUT_VOLUME, NO_LOT
from mimstocr.backtest.run import backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.quantile_long_short import QuantileLongShort
from mimstocr.backtest.strategies.signal import Signal
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.panel import days_of, make_panel, usable
from mimstocr.errors import ConfigError

CAPITALS = [5e3, 1e5, 1e7]
SYMBOLS = [f"SH60000{i}" for i in range(8)]


def world(days=80):
    """Prices around 10 and volumes that 1e7 cannot be put into, with scores that know a little of tomorrow."""
    random = np.random.default_rng(0)
    moves = random.normal(scale=0.03, size=(days, 8))
    close = 10 * np.exp(np.cumsum(moves, axis=0))
    volume = random.integers(5_000, 90_000, close.shape).astype(float)
    panel = make_panel(
        {"close": close, "volume": volume}, np.datetime64("2020-01-01") + np.arange(days), SYMBOLS, source="t"
    )
    ahead = np.vstack([moves[2:], np.zeros((2, 8))])
    return panel, np.where(usable(panel), ahead + random.normal(scale=0.03, size=close.shape), np.nan)


def run(panel, scores, market, capital=1e5):
    settings = BacktestSettings(strategy=TopK(k=3), delay=1, market=market, capital=capital)
    return backtest(panel, scores, settings, first=days_of(panel)[25], last=days_of(panel)[-2])


@pytest.fixture(scope="module")
def binding():
    return world(), CnAShare(participation=0.1, impact=1.0)


def test_every_row_is_a_backtest(binding):
    (panel, scores), market = binding
    found = capacity(panel, run(panel, scores, market), CAPITALS[::-1])
    assert found["capital"].to_list() == CAPITALS
    assert found["problem"].to_list() == [None] * 3
    for row in found.iter_rows(named=True):
        alone = run(panel, scores, market, row["capital"])
        net, orders = alone.metrics["net"], alone.net.orders
        traded = float(np.abs(orders.filled * orders.price).sum())
        assert row["annual_return"] == net["annual_return"]
        assert row["sharpe"] == net["sharpe"]
        assert row["costs"] == pytest.approx(net["costs"])
        assert row["cost_bp"] == pytest.approx(1e4 * net["costs"] * row["capital"] / traded)
        assert row["cut_by_volume"] == (orders.reason == CUT_VOLUME).mean()
        assert row["below_a_lot"] == (orders.reason == NO_LOT).mean()
        assert row["traded"] == pytest.approx(traded / float(np.abs(orders.wanted).sum()))


def test_the_columns_that_decided_decide_again(binding):
    (panel, scores), market = binding
    settings = BacktestSettings(strategy=Signal(value="gain"), delay=1, market=market, capital=1e5)
    how = {"first": days_of(panel)[25], "last": days_of(panel)[-2]}
    result = backtest(panel, np.zeros(scores.shape), settings, outputs={"gain": scores}, **how)
    (other,) = capacity(panel, result, [1e6]).iter_rows(named=True)
    larger = settings.model_copy(update={"capital": 1e6})
    alone = backtest(panel, np.zeros(scores.shape), larger, outputs={"gain": scores}, **how)
    assert other["sharpe"] == alone.metrics["net"]["sharpe"] != result.metrics["net"]["sharpe"]


def test_money_meets_its_limits(binding):
    (panel, scores), market = binding
    found = capacity(panel, run(panel, scores, market), CAPITALS)
    small, middle, large = found.iter_rows(named=True)
    assert small["below_a_lot"] > middle["below_a_lot"] > large["below_a_lot"]
    assert small["cut_by_volume"] == 0 < large["cut_by_volume"]
    assert large["traded"] < 0.2
    assert large["cost_bp"] > middle["cost_bp"]  # the impact
    assert middle["annual_return"] > large["annual_return"]
    least = capacity(panel, run(panel, scores, Flat(commission=0.0003, min_commission=5.0)), [1e4, 1e5, 1e6])
    assert least["cost_bp"].is_sorted(descending=True)
    assert least["cost_bp"][2] == pytest.approx(3, rel=0.1)


def test_capital_that_buys_nothing_earns_nothing(binding):
    (panel, scores), market = binding
    row = capacity(panel, run(panel, scores, market), [100.0]).row(0, named=True)
    assert row["annual_return"] == row["costs"] == row["traded"] == 0
    assert row["sharpe"] is None
    assert row["cost_bp"] is None
    assert row["below_a_lot"] == 1


def test_a_lost_account_is_a_row_that_says_so():
    close = np.full((40, 2), 10.0)
    close[30:, 1] = 40.0  # sold short with half of the money, it costs three halves
    days = np.datetime64("2020-01-01") + np.arange(40)
    panel = make_panel({"close": close, "volume": np.full((40, 2), 1e3)}, days, ["A", "B"], source="t")
    scores = np.tile([1.0, 0.0], (40, 1))
    settings = BacktestSettings(
        strategy=QuantileLongShort(fraction=0.5), delay=1, market=Flat(short=True, participation=0.1), capital=1e6
    )
    result = backtest(panel, scores, settings, first=days[25], last=days[-1])
    found = capacity(panel, result, [1e3, 1e6])
    assert found["annual_return"][0] is None
    assert "lost everything on 2020-01-31" in found["problem"][0]
    assert found["problem"][1] is None  # an order is at most 1000 of the million
    assert found["annual_return"][1] == result.metrics["net"]["annual_return"]


@pytest.mark.parametrize(
    ("market", "rules"),
    [
        (Flat(), []),
        (Crypto(), []),
        (Flat(impact=0.5), ["impact"]),
        (Flat(participation=0.2), ["participation"]),
        (Flat(min_commission=1), ["min_commission"]),
        (Flat(lot=10), ["lot"]),
        (CnAShare(), ["participation", "min_commission", "lot"]),
    ],
)
def test_rules_that_depend_on_the_amount(market: Market, rules):
    assert size_rules(market, SYMBOLS) == rules


@pytest.mark.parametrize("market", [Flat(), Crypto()])
def test_without_such_a_rule_every_capital_earns_the_same(market):
    panel, scores = world()
    result = run(panel, scores, market)
    for capital in (1.0, 1e9):
        assert run(panel, scores, market, capital).metrics["net"]["sharpe"] == pytest.approx(
            result.metrics["net"]["sharpe"], rel=1e-6
        )
    with pytest.raises(ConfigError, match=r"nothing in the market \w+ depends on the amount"):
        capacity(panel, result, CAPITALS)


@pytest.mark.parametrize("capitals", [[], [1e5, 1e5], [0.0], [-1.0], [float("inf")], [float("nan")]])
def test_capitals_are_amounts_of_money(binding, capitals):
    (panel, scores), market = binding
    with pytest.raises(ConfigError, match="amounts of money above 0"):
        capacity(panel, run(panel, scores, market), capitals)
