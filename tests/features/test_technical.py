"""Technical indicators against the chapter's formulas."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError

from mimstocr.data import DataSettings, load_panel
from mimstocr.data.panel import Panel, make_panel, usable
from mimstocr.features.technical import Technical

DAYS, STOCKS = 150, 7
NAMES = tuple(Technical.indicators)


def world() -> Panel:
    """Stock 0 is listed late, 1 lacks rows, 2 is suspended, 3 leaves, 4 has 20 days, 5 stands still a while."""
    random = np.random.default_rng(8)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (DAYS, STOCKS)), axis=0))
    volume = np.full(close.shape, 1000.0)
    close[:31, 0] = np.nan
    close[random.random(DAYS) < 0.2, 1] = np.nan
    close[60:90, 2] = close[59, 2]
    volume[60:90, 2] = 0
    close[100:, 3] = np.nan
    close[20:, 4] = np.nan
    close[50:80, 5] = close[49, 5]
    volume[np.isnan(close)] = np.nan
    days = np.datetime64("2020-01-01") + np.arange(DAYS)
    return make_panel({"close": close, "volume": volume}, days, [f"S{n}" for n in range(STOCKS)], source="test")


def chapter(prices: pd.Series) -> pd.DataFrame:
    """The chapter's formulas; each average with all its days."""
    step, returns = prices.diff(), prices.pct_change()
    gain, loss = step.clip(lower=0).rolling(20).mean(), -step.clip(upper=0).rolling(20).mean()
    sma, std = prices.rolling(20).mean(), prices.rolling(20).std()
    fast, slow, same = (prices.ewm(span=n, min_periods=n).mean() for n in (12, 26, 20))
    return pd.DataFrame(
        {
            "return_1d": prices.pct_change(1),
            "return_5d": prices.pct_change(5),
            "return_10d": prices.pct_change(10),
            "sma_ratio": prices / sma,
            "ema_ratio": prices / same,
            "volatility": returns.rolling(20).std(),
            "momentum": prices / prices.shift(20) - 1,
            "rsi": 100 - 100 / (1 + gain / (loss + 1e-10)),
            "macd": (fast - slow) / prices,
            "bb_position": (prices - sma) / (2 * std + 1e-10),
        }
    )


def indicators(panel: Panel) -> dict[str, NDArray[np.float32]]:
    return dict(zip(NAMES, Technical().series(panel, NAMES), strict=True))


def test_equals_the_chapter_over_days_with_trade() -> None:
    panel = world()
    found = indicators(panel)
    for stock in range(STOCKS):
        traded = np.flatnonzero(panel["tradable"].values[:, stock])
        expected = chapter(pd.Series(panel["close"].values[traded, stock].astype(np.float64)))
        still = traded[69:80] if stock == 5 else []  # settled otherwise, see below
        for name in NAMES:
            whole = np.full(DAYS, np.nan)
            whole[traded] = expected[name]
            whole[still] = found[name][still, stock]
            assert_allclose(found[name][:, stock], whole, rtol=2e-6, atol=1e-7, err_msg=f"{name} of S{stock}")


def test_one_value_by_hand() -> None:
    """Prices 1 .. 26: nothing but rises, and sums that can be done by head."""
    panel = make_panel(
        {"close": np.arange(1.0, 27)[:, None]}, np.datetime64("2020-01-01") + np.arange(26), ["A"], source="test"
    )
    last = {name: float(values[25, 0]) for name, values in indicators(panel).items()}
    before_last = {name: float(values[24, 0]) for name, values in indicators(panel).items()}
    mean, variance = sum(range(7, 27)) / 20, 20 * 21 / 12  # of n successive numbers it is n (n + 1) / 12
    assert last["return_1d"] == pytest.approx(26 / 25 - 1, rel=1e-6)
    assert last["return_5d"] == pytest.approx(26 / 21 - 1, rel=1e-6)
    assert last["return_10d"] == pytest.approx(26 / 16 - 1, rel=1e-6)
    assert last["momentum"] == pytest.approx(26 / 6 - 1, rel=1e-6)
    assert last["sma_ratio"] == pytest.approx(26 / mean, rel=1e-6)
    assert last["rsi"] == 100
    assert last["bb_position"] == pytest.approx((26 - mean) / (2 * variance**0.5), rel=1e-6)
    weights = {span: [(1 - 2 / (span + 1)) ** age for age in range(26)] for span in (12, 20, 26)}
    ema = {span: sum(w * (26 - age) for age, w in enumerate(ws)) / sum(ws) for span, ws in weights.items()}
    assert last["ema_ratio"] == pytest.approx(26 / ema[20], rel=1e-6)
    assert last["macd"] == pytest.approx((ema[12] - ema[26]) / 26, rel=1e-5)
    assert np.isnan(before_last["macd"])  # 25 prices
    assert np.isfinite([value for name, value in before_last.items() if name != "macd"]).all()


def test_a_price_that_stands_still_has_settled_values() -> None:
    found = indicators(world())
    for name, value in {"rsi": 50, "bb_position": 0, "volatility": 0, "return_1d": 0, "sma_ratio": 1}.items():
        assert (found[name][70:80, 5] == value).all(), name


def test_nothing_is_known_on_a_day_without_trade() -> None:
    panel = world()
    for name, values in indicators(panel).items():
        assert np.isnan(values[~panel["tradable"].values]).all(), name


def test_a_suspended_day_is_as_a_missing_row() -> None:
    panel = world()
    gone = {name: np.where(panel["tradable"].values, panel[name].values, np.nan) for name in ("close", "volume")}
    days = np.datetime64("2020-01-01") + np.arange(DAYS)
    other = indicators(make_panel(gone, days, [f"S{n}" for n in range(STOCKS)], source="test"))
    for name, values in indicators(panel).items():
        assert_allclose(values, other[name], atol=0)


def test_the_unit_of_the_price_is_of_no_matter() -> None:
    panel = world()
    scaled = panel.assign(close=panel["close"] * np.float32(2.0**-30))
    for name, values in indicators(panel).items():
        assert_allclose(indicators(scaled)[name], values, rtol=1e-6, atol=1e-7)


def test_names_choose_and_order() -> None:
    panel = world()
    rows = panel["member"].values
    fitted, whole = (Technical(names=names).fit(panel, rows) for names in (("rsi", "return_1d"), None))
    assert fitted.names == ("rsi", "return_1d")
    assert whole.names == NAMES
    assert_allclose(fitted.center, whole.center[[7, 0]], atol=0)


@pytest.mark.parametrize(
    ("names", "said"),
    [(("rsy",), "no feature 'rsy'; did you mean 'rsi'"), (("rsi", "rsi"), "each name once, got rsi"), ((), "names")],
)
def test_bad_names_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Technical(names=names)


def test_known_and_finite_on_csi300(csi300: Path) -> None:
    panel = load_panel(
        DataSettings(source=f"qlib:{csi300}", universe="csi300", start=date(2012, 1, 1), end=date(2013, 12, 31))
    )
    rows = usable(panel)
    for name, values in indicators(panel).items():
        known = ~np.isnan(values)
        assert np.isfinite(values[known]).all(), name
        assert 1 - known[rows].mean() < 0.07, name
        assert known[40:][rows[40:]].mean() > 0.99, name
    close = panel["close"].values[:, 3].astype(np.float64)
    traded = np.flatnonzero(panel["tradable"].values[:, 3])
    expected = chapter(pd.Series(close[traded]))
    for name, values in indicators(panel).items():
        assert_allclose(values[traded, 3], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
