"""Days with trade, and moving statistics along them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.data.panel import Panel, make_panel
from mimstocr.features._traded import TradedDays, before, change, ema, moving_mean, moving_std


def walk(days: int = 120, stocks: int = 4) -> np.ndarray:
    return 20 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.03, (days, stocks)), axis=0))


def panel() -> Panel:
    """A: every day. B: no row on day 1, suspended at the same price on day 3. C: never traded."""
    nan = np.nan
    close = [[1, 10, nan], [2, nan, nan], [3, 30, nan], [4, 30, nan], [5, 50, nan]]
    volume = [[9, 9, nan], [9, nan, nan], [9, 9, nan], [9, 0, nan], [9, 9, nan]]
    days = np.datetime64("2020-01-01") + np.arange(5)
    return make_panel({"close": np.array(close), "volume": np.array(volume)}, days, ["A", "B", "C"], source="test")


def test_packed_by_days_with_trade() -> None:
    days, nan = TradedDays(panel()), np.nan
    packed = [[1, 10, nan], [2, 30, nan], [3, 50, nan], [4, nan, nan], [5, nan, nan]]
    assert_array_equal(days.close, np.array(packed))
    assert_array_equal(days.money[:, 1], [90, 270, 450, nan, nan])


def test_unpacked_onto_days_with_trade_alone() -> None:
    days, nan = TradedDays(panel()), np.nan
    unpacked = days.unpack(change(days.close))
    assert unpacked.dtype == np.float32
    assert_allclose(unpacked[:, 1], [nan, nan, 2, nan, 50 / 30 - 1], rtol=1e-6)
    assert_array_equal(days.unpack(np.ones((5, 3))), np.where(panel()["tradable"].values, 1, nan))


def test_what_float32_cannot_hold_is_infinite_without_a_warning() -> None:
    assert np.isinf(TradedDays(panel()).unpack(np.full((5, 3), 1e300))[0, 0])


@pytest.mark.parametrize("n", [1, 5, 119, 120, 500])
def test_before_and_change_equal_pandas(n: int) -> None:
    x = walk()
    assert_array_equal(before(x, n), pd.DataFrame(x).shift(n))
    assert_allclose(change(x, n), pd.DataFrame(x).pct_change(n), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 20, 120, 500])
def test_moving_statistics_equal_pandas(n: int) -> None:
    x = walk()
    x[40, 1] = np.nan
    rolling = pd.DataFrame(x).rolling(n)
    assert_allclose(moving_mean(x, n), rolling.mean(), rtol=1e-12)
    assert_allclose(moving_std(x, n), rolling.std(), rtol=1e-9)


@pytest.mark.parametrize("span", [1, 12, 26, 120, 500])
def test_ema_equals_pandas(span: int) -> None:
    x = walk()
    x[70:, 2] = np.nan  # a stock with fewer days
    expected = pd.DataFrame(x).ewm(span=span, adjust=True, min_periods=span).mean().where(~np.isnan(x))
    assert_allclose(ema(x, span), expected, rtol=1e-12)


def test_the_spread_of_equal_prices_is_none_after_any_past() -> None:
    """Sums kept from day to day would carry the rounding of 1e9 along."""
    x = np.concatenate([walk(50) * 1e9, np.full((30, 4), np.float32(0.1))])
    assert (moving_std(x, 20)[70:] == 0).all()
    assert (moving_mean(x, 20)[70:] == np.float32(0.1)).all()
