"""What Qlib's simulator asks of Chinese stocks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.qlib_cn import QlibCn
from mimstocr.backtest.strategy import following

NAN = np.nan


def terms(close, tradable=None, **changes):
    close = np.array(close, dtype=float)
    factor = changes.pop("factor", np.ones(close.shape))
    can = close > 0 if tradable is None else np.array(tradable, dtype=bool)
    return terms_of(QlibCn(**changes), close=close, tradable=can, factor=factor)


def follow(close, weights, capital=1e6, **changes):
    return simulate(terms(close, **changes), following(np.array(weights, dtype=float)), delay=0, capital=capital)


@pytest.mark.parametrize(("shares", "buy", "sell"), [(900, 5, 13.5), (300, 5, 5), (1000, 5, 15), (2000, 10, 30)])
def test_the_least_holds_for_all_costs_of_an_order_together(shares, buy, sell):
    """0.05 % of a buy and 0.15 % of a sell, 5 yuan at least; 300 shares sold are 3000 yuan, 4.5 of costs."""
    run = follow([[10.0]] * 2, [[(shares + 5) * 10 / 1e6], [0.0]])
    assert run.shares[:, 0].tolist() == [shares, 0]
    assert_allclose(run.costs, [buy, sell], rtol=1e-12)
    assert_allclose(run.cost_kinds[:, 0], run.costs, rtol=1e-12)


@pytest.mark.parametrize(
    ("move", "upper", "lower"),
    [(0.0949, 0, 0), (0.0951, 1, 0), (0.3, 1, 0), (-0.0949, 0, 0), (-0.0951, 0, 1), (-0.3, 0, 1)],
)
@pytest.mark.parametrize("symbols", ["SH600000", "SH688001"])
def test_a_move_of_nine_and_a_half_per_cent_is_at_the_limit(move, upper, lower, symbols):
    close = np.array([[10.0], [10.0 * (1 + move)]])
    for both in (True, False):
        market = QlibCn(both_sides=both)
        made = terms_of(market, close=close, tradable=close > 0, factor=close * 0 + 1, symbols=[symbols])
        assert (made.blocked_buy[1, 0] > 0) == (upper or (both and lower))
        assert (made.blocked_sell[1, 0] > 0) == (lower or (both and upper))
    off = terms(close, price_limits=False)
    assert off.blocked_buy[1, 0] == off.blocked_sell[1, 0] == 0


def test_the_limit_counts_from_the_last_close_and_needs_one():
    made = terms([[NAN], [10.0], [NAN], [11.0]], tradable=[[0], [1], [0], [1]])
    assert made.blocked_buy[:, 0].astype(bool).tolist() == [True, False, True, True]


def test_suspended_days_trade():
    """Wherever there is a close, that is; Qlib takes a stock for suspended where it has none."""
    close, tradable = [[10.0], [10.0], [NAN], [12.0]], [[1], [0], [0], [0]]
    run = follow(close, [[NAN], [0.5], [0.0], [0.0]], tradable=tradable, price_limits=False)
    assert run.shares[1, 0] > 0
    assert run.shares[2, 0] == run.shares[1, 0]
    assert run.shares[3, 0] == 0
    assert run.reasons() == {"rounded down to whole lots": 1, "no price": 1, "filled": 1}


@pytest.mark.parametrize(("shares", "filled"), [(199.89, 100), (199.91, 200), (200.0, 200), (99.91, 100), (99.89, 0)])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_tenth_of_a_share_may_be_missing_of_a_lot(shares, filled, factor):
    free = {"commission": 0, "extra_sell": 0, "min_commission": 0}
    run = follow([[10.0 * factor]], [[shares * 10 / 1e6]], factor=np.array([[factor]]), **free)
    assert run.shares[0, 0] * factor == pytest.approx(filled, rel=1e-9)


def test_free_of_costs():
    close = np.array([[10.0, 10.0], [11.0, 10.0], [11.0, 9.0]])
    made = terms(close)
    free = made.free()
    assert not free.rates.any()
    assert free.min_commission == 0
    assert_array_equal(free.blocked_buy, made.blocked_buy)
    assert_array_equal(free.step, made.step)
