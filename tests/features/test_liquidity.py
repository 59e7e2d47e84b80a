"""The liquidity set against slow loops and values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import DataError
from mimstocr.features.liquidity import Liquidity, corwin_schultz

DAYS, STOCKS = 80, 5
NAMES = tuple(Liquidity.indicators)
START = np.datetime64("2020-01-01")


def world() -> Panel:
    """Stock 0 is listed late, 1 lacks rows, 2 is suspended; a market value and a high are missing on a day."""
    random = np.random.default_rng(4)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (DAYS, STOCKS)), axis=0))
    fields = {
        "close": close,
        "high": close * np.exp(np.abs(random.normal(0, 0.02, close.shape))),
        "low": close * np.exp(-np.abs(random.normal(0, 0.02, close.shape))),
        "volume": random.lognormal(10, 1, close.shape),
        "factor": np.cumprod(np.where(random.random(close.shape) < 0.02, 2.0, 1.0), axis=0),
        "market_value": close * random.lognormal(15, 1, STOCKS),
    }
    for field in fields.values():
        field[:25, 0] = np.nan
        field[random.random(DAYS) < 0.1, 1] = np.nan
    fields["volume"][40:48, 2] = 0
    fields["market_value"][50, 3] = fields["high"][50, 4] = np.nan
    return make_panel(fields, START + np.arange(DAYS), [f"S{n}" for n in range(STOCKS)], source="test")


def measures(panel: Panel, names: tuple[str, ...] = NAMES) -> dict[str, NDArray[np.float32]]:
    return dict(zip(names, Liquidity().series(panel, names), strict=True))


def pair(high: list[float], low: list[float], close: list[float]) -> float:
    """Corwin and Schultz (2012) on two days, step by step."""
    h, l = high[1], low[1]  # noqa: E741
    if l > close[0]:
        h, l = h - (l - close[0]), close[0]  # noqa: E741
    elif h < close[0]:
        h, l = close[0], l + (close[0] - h)  # noqa: E741
    beta = math.log(high[0] / low[0]) ** 2 + math.log(h / l) ** 2
    gamma = math.log(max(high[0], h) / min(low[0], l)) ** 2
    k = 3 - 2 * math.sqrt(2)
    alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / k - math.sqrt(gamma / k)
    return max(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)), 0.0)


def slow(panel: Panel) -> dict[str, NDArray[np.float64]]:
    """Each measure, stock by stock and day by day."""
    out = {name: np.full((DAYS, STOCKS), np.nan) for name in NAMES}
    for n in range(STOCKS):
        traded = [t for t in range(DAYS) if panel["tradable"].values[t, n]]
        field = {
            name: [float(panel[name].values[t, n]) for t in traded]
            for name in ("close", "high", "low", "volume", "factor", "market_value")
        }
        close, volume, factor, value = (field[name] for name in ("close", "volume", "factor", "market_value"))
        spreads = [math.nan] * len(traded)
        for i in range(1, len(traded)):
            two = [field[name][i - 1 : i + 1] for name in ("high", "low", "close")]
            spreads[i] = pair(*two) if np.isfinite(two).all() else math.nan
        for i, t in enumerate(traded):
            money = close[i] * volume[i]
            out["log_dollar_volume"][t, n] = math.log(money)
            out["turnover"][t, n] = money / value[i]
            out["log_price"][t, n] = math.log(close[i] / factor[i])
            out["log_market_value"][t, n] = math.log(value[i])
            out["log_shares_outstanding"][t, n] = math.log(value[i] * factor[i] / close[i])
            if i >= 1:
                out["return"][t, n] = close[i] / close[i - 1] - 1
                out["volume_change"][t, n] = volume[i] / volume[i - 1] - 1
                out["illiquidity"][t, n] = abs(close[i] / close[i - 1] - 1) / money * 1e6
            if i >= 20:
                out["high_low_spread"][t, n] = sum(spreads[i - 19 : i + 1]) / 20
    return out


def test_equals_the_slow_loops() -> None:
    panel = world()
    expected = slow(panel)
    for name, values in measures(panel).items():
        assert_allclose(values, expected[name], rtol=5e-6, atol=1e-9, err_msg=name)
    assert np.isnan(expected["high_low_spread"][50:70, 4]).all()
    assert (expected["high_low_spread"][30:, 3] > 0).all()


def test_two_days_of_the_same_range_have_that_range_as_spread() -> None:
    """beta = 2 r^2 and gamma = r^2 with r = log(101 / 99) give alpha = r, and the spread (101 - 99) / 100."""
    high, low, close = (np.array([[x], [x]]) for x in (101.0, 99.0, 100.0))
    assert_allclose(corwin_schultz(high, low, close), [[np.nan], [0.02]], rtol=1e-12)


def test_a_jump_overnight_is_taken_out() -> None:
    """The second day's range is moved until it touches the close: 150 .. 160 to 96 .. 106, 50 .. 60 to 94 .. 104."""
    high = np.array([[105.0, 105, 105, 105], [160, 106, 60, 104]])
    low = np.array([[95.0, 95, 95, 95], [150, 96, 50, 94]])
    found = corwin_schultz(high, low, np.array([[96.0, 96, 104, 104], [155, 100, 55, 100]]))[1]
    k = 3 - 2 * math.sqrt(2)
    beta = [math.log(105 / 95) ** 2 + math.log(range_) ** 2 for range_ in (106 / 96, 104 / 94)]
    joint = [math.log(106 / 95), math.log(105 / 94)]
    alpha = [(math.sqrt(2 * b) - math.sqrt(b)) / k - j / math.sqrt(k) for b, j in zip(beta, joint, strict=True)]
    rose, fell = (2 * (math.exp(a) - 1) / (1 + math.exp(a)) for a in alpha)
    assert found == pytest.approx([rose, rose, fell, fell], rel=1e-12)
    assert found.min() > 0


def test_a_negative_estimate_is_set_to_0() -> None:
    high, low = np.array([[101.0], [104]]), np.array([[99.0], [101]])
    assert corwin_schultz(high, low, np.array([[101.0], [104]]))[1, 0] == 0


def test_finds_the_spread_of_a_market_that_bounces() -> None:
    """Trades of a random walk that come at the bid or the ask, 1% apart, 400 a day."""
    random = np.random.default_rng(0)
    middle = 100 * np.exp(np.cumsum(random.normal(0, 0.0003, 300 * 400)))
    trades = (middle * (1 + 0.005 * random.choice([-1, 1], middle.size))).reshape(300, 400)
    high, low, close = trades.max(axis=1)[:, None], trades.min(axis=1)[:, None], trades[:, -1:]
    assert np.nanmean(corwin_schultz(high, low, close)) == pytest.approx(0.01, rel=0.1)


def test_turnover_is_volume_over_shares() -> None:
    """A share costs 50 after a split of 2 (adjusted: 100), 1000 shares are out, 30 of them change hands."""
    fields = {"close": 100.0, "factor": 2.0, "volume": 15.5, "market_value": 50_000.0}  # volume adjusted: 31 / 2
    panel = make_panel(
        {name: np.full((2, 1), x) for name, x in fields.items()}, START + np.arange(2), ["A"], source="t"
    )
    found = {name: values[1, 0] for name, values in measures(panel, ("turnover", "log_shares_outstanding")).items()}
    assert found["turnover"] == pytest.approx(31 / 1000)
    assert found["log_shares_outstanding"] == pytest.approx(math.log(1000))


def test_a_split_does_not_jump_the_volume() -> None:
    """Real shares beside adjusted prices: twice the shares after a split of 2 are the same volume."""
    fields = {"close": [10.0, 10, 10], "factor": [1.0, 0.5, 0.5], "volume": [100.0, 100, 300]}
    columns = {name: np.array(x)[:, None] for name, x in fields.items()}
    panel = make_panel(columns, START + np.arange(3), ["A"], source="t")
    assert_allclose(measures(panel, ("volume_change",))["volume_change"][:, 0], [np.nan, 1.0, 2.0], rtol=1e-6)


def test_what_the_source_lacks_is_left_out_by_name() -> None:
    panel = world()
    rows = panel["member"].values
    whole = Liquidity().fit(panel, rows)
    assert whole.names == tuple(name for name in NAMES if name != "log_dollar_volume")
    assert [note for note in whole.notes if "left out" in note] == []
    fitted = Liquidity().fit(panel.drop_vars(["market_value", "factor"]), rows)
    assert fitted.names == ("volume_change", "high_low_spread", "illiquidity", "log_dollar_volume", "return")
    assert fitted.notes[0] == (
        "liquidity features left out for what the source lacks: turnover (no market_value), log_price (no factor), "
        "log_shares_outstanding (no factor and no market_value), log_market_value (no market_value)"
    )
    bare = Liquidity().fit(panel.drop_vars(["high", "low", "volume", "market_value", "factor"]), rows)
    assert bare.names == ("return",)


def test_what_is_asked_for_must_be_there() -> None:
    panel = world().drop_vars(["market_value"])
    with pytest.raises(DataError, match="test lacks market_value, which the feature turnover of liquidity needs"):
        Liquidity(names=("return", "turnover")).fit(panel, panel["member"].values)
    both = Liquidity(names=("turnover", "log_dollar_volume")).fit(world(), panel["member"].values)
    assert both.names == ("turnover", "log_dollar_volume")
