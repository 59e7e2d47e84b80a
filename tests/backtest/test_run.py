import datetime
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.benchmark import universe_mean
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.portfolio import portfolio_metrics
from mimstocr.backtest.run import backtest, view_of
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.signal import Signal
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.panel import days_of, make_panel, usable
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel
from mimstocr.errors import DataError

NAN = np.nan
SETTINGS = {"strategy": TopK(k=2), "delay": 1, "market": Flat(commission=0.01), "capital": 1000.0}


def market(seed=0, days=30, stocks=6, benchmark=True):
    """A panel with suspensions, and scores of its cross-sections."""
    random = np.random.default_rng(seed)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.03, size=(days, stocks)), axis=0))
    close[random.random(close.shape) < 0.1] = NAN
    volume = np.where(random.random(close.shape) < 0.1, 0.0, 100.0)
    panel = make_panel(
        {"close": close, "volume": np.where(np.isnan(close), NAN, volume)},
        np.datetime64("2020-01-01") + np.arange(days),
        [f"S{i}" for i in range(stocks)],
        source="test",
        benchmark=np.cumprod(1 + random.normal(scale=0.01, size=days)) if benchmark else None,
    )
    scores = np.where(usable(panel), random.normal(size=close.shape), NAN)
    scores[(np.isfinite(scores).sum(axis=1) < 2)] = NAN
    return panel, scores


def run(panel, scores, first=0, last=-1, **changes):
    days = days_of(panel)
    if "cost" in changes:
        changes["market"] = Flat(commission=changes.pop("cost"))
    settings = BacktestSettings(**{**SETTINGS, **changes})
    return backtest(panel, scores, settings, first=days[first], last=days[last])


def test_three_days_by_hand():
    close = np.array([[10.0, 10.0, 10.0], [10.0, 20.0, 10.0], [11.0, 20.0, 10.0], [11.0, 40.0, 5.0]])
    panel = make_panel(
        {"close": close},
        np.datetime64("2020-01-01") + np.arange(4),
        ["A", "B", "C"],
        source="test",
        benchmark=np.array([100.0, 100.0, 110.0, 99.0]),
    )
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [NAN] * 3, [3.0, 2.0, 1.0]])
    result = run(panel, scores, cost=0.25, strategy=TopK(k=1), capital=100.0)
    # day 1: 80 of A for 100; day 2: 88 of A sold for 66, B bought for 66 / 1.25; day 3: B doubles, nothing decided
    value = [100, 80, 66 / 1.25, 2 * 66 / 1.25]
    assert_allclose(result.net.value, value, rtol=1e-13)
    assert_array_equal(result.days, days_of(panel)[2:])
    assert_allclose(result.net_returns, [value[2] / 100 - 1, 1.0], rtol=1e-13)  # the entry is on the first day
    assert_allclose(result.gross_returns, [0.1, 1.0], rtol=1e-6)
    assert_allclose(result.universe_returns, [0.1 / 3, (1.0 - 0.5) / 3], rtol=1e-6)
    assert_allclose(result.index_returns, [0.1, -0.1], rtol=1e-6)
    assert_allclose(result.costs, [20 + 0.25 * (88 + 66 / 1.25), 0], rtol=1e-6)
    assert_allclose(result.turnover, [80 / 100 / 2 + (88 + 66 / 1.25) / 88 / 2, 0], rtol=1e-6)
    assert result.metrics["net"]["costs"] == pytest.approx(result.costs.sum() / 100)
    assert result.counts == {
        "days_without_decision": 1,
        "decisions_not_filled": 1,
        "members_without_score": 0,
        "infinite_scores": 0,
        "unfilled_buys": 0,
        "stuck_sells": 0,
        "stale_marks": 0,
        "universe_days_missing": 0,
        "index_days_missing": 0,
    }
    expected = pl.Series("date", [datetime.date(2020, 1, 3), datetime.date(2020, 1, 4)])
    table = result.table()
    assert table.columns == ["date", "net", "gross", "universe", "index", "turnover", "costs", "n_held"]
    assert table["date"].equals(expected)
    assert table["net"].to_list() == result.net_returns.tolist()


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_all_series_are_over_the_same_days(delay):
    panel, scores = market()
    scores[:4] = NAN
    result = run(panel, scores, first=3, last=-2, delay=delay)
    start = 4 + delay + 1
    days = days_of(panel)[start:-1]
    assert_array_equal(result.days, days)
    assert_array_equal(result.simulated_days, days_of(panel)[3:-1])
    for series in (result.net_returns, result.gross_returns, result.index_returns, result.turnover, result.n_held):
        assert len(series) == len(days)
    assert np.prod(1 + result.net_returns) * 1000 == pytest.approx(result.net.value[-1], rel=1e-12)
    assert np.prod(1 + result.gross_returns) * 1000 == pytest.approx(result.gross.value[-1], rel=1e-12)
    assert result.costs.sum() == pytest.approx(result.net.costs.sum(), rel=1e-12)
    assert (result.gross.costs == 0).all()
    universe = universe_mean(panel["close"].values, panel["tradable"].values, panel["member"].values)[start:-1]
    assert_allclose(result.universe_returns, universe, rtol=1e-12)
    level = panel["benchmark"].values.astype(float)
    assert_allclose(result.index_returns, (level[1:] / level[:-1] - 1)[start - 1 : -1], rtol=1e-12)


def test_metrics_are_those_of_the_series():
    panel, scores = market()
    result = run(panel, scores)
    assert result.measured_against == "index"
    plain = {name: value for name, value in result.metrics["net"].items() if name not in ("turnover", "costs")}
    assert plain == portfolio_metrics(result.net_returns, 252, result.index_returns)
    assert result.metrics["universe"] == portfolio_metrics(result.universe_returns, 252, result.index_returns)
    assert result.metrics["index"] == portfolio_metrics(result.index_returns, 252)
    assert result.metrics["net"]["turnover"] == pytest.approx(result.turnover.mean())
    assert result.metrics["net"]["cumulative_return"] < result.metrics["gross"]["cumulative_return"]
    assert result.counts["stuck_sells"] == result.net.stuck_sells.sum() > 0
    assert result.counts["stale_marks"] == result.net.stale_marks.sum() > 0


def test_without_an_index_the_universe_is_the_measure():
    panel, scores = market(benchmark=False)
    result = run(panel, scores)
    assert result.index_returns is None
    assert result.measured_against == "universe"
    assert set(result.metrics) == {"net", "gross", "universe"}
    assert "beta" in result.metrics["net"]
    assert "beta" not in result.metrics["universe"]
    assert result.table()["index"].is_null().all()


def test_an_index_with_a_gap_is_told_and_not_filled():
    panel, scores = market()
    level = panel["benchmark"].values.copy()
    level[20] = NAN
    result = run(panel.assign(benchmark=("date", level)), scores)
    assert result.counts["index_days_missing"] == 2
    assert result.measured_against == "universe"
    assert "index" not in result.metrics
    assert result.table()["index"].null_count() == 2


def test_a_universe_with_a_gap_is_told_and_not_filled():
    panel, scores = market(benchmark=False)
    member = panel["member"].values.copy()
    member[20] = False
    result = run(panel.assign(member=(("date", "symbol"), member)), scores)
    assert result.counts["universe_days_missing"] == 1
    assert result.measured_against is None
    assert set(result.metrics) == {"net", "gross"}
    assert "beta" not in result.metrics["net"]


def test_days_outside_the_window_do_not_matter():
    panel, scores = market()
    result = run(panel, scores, first=5, last=20)
    random = np.random.default_rng(1)
    outside = np.ones(30, dtype=bool)
    outside[5:21] = False
    strange = np.where(outside[:, None], random.uniform(1, 9, scores.shape), scores)
    close = np.where(outside[:, None], random.uniform(1, 9, scores.shape), panel["close"].values)
    other = run(panel.assign(close=(("date", "symbol"), close)), strange, first=5, last=20)
    assert result.table().equals(other.table())


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("day", [8, 15])
def test_a_score_acts_after_its_delay_and_not_before(day, delay):
    panel, scores = market()
    other = scores.copy()
    other[day] = -other[day]
    a, b = run(panel, scores, delay=delay), run(panel, other, delay=delay)
    assert_array_equal(a.net.value[: day + delay], b.net.value[: day + delay])
    assert (a.net.shares[day + delay] != b.net.shares[day + delay]).any()


def test_scores_with_labels_are_aligned():
    panel, scores = market()
    labelled = xr.DataArray(scores, dims=("date", "symbol"), coords={"date": panel["date"], "symbol": panel["symbol"]})
    result = run(panel, scores)
    mixed = labelled.isel(symbol=[3, 0, 5, 1, 4, 2]).transpose("symbol", "date")
    assert run(panel, mixed).table().equals(result.table())
    part = run(panel, labelled.isel(date=slice(4, 9)))
    only = np.full(scores.shape, NAN)
    only[4:9] = scores[4:9]
    assert part.table().equals(run(panel, only).table())


def test_outputs_are_aligned_with_the_scores():
    panel, scores = market()
    gain = np.where(np.isfinite(scores), np.random.default_rng(4).normal(size=scores.shape), NAN)
    strategy = Signal(value="gain", above=0.3)
    labelled = {
        name: xr.DataArray(values, dims=("date", "symbol"), coords={"date": panel["date"], "symbol": panel["symbol"]})
        for name, values in (("score", scores), ("gain", gain))
    }
    days = days_of(panel)
    settings = BacktestSettings(**{**SETTINGS, "strategy": strategy})
    how = {"first": days[3], "last": days[20]}
    plain = backtest(panel, scores, settings, outputs={"gain": gain}, **how)
    mixed = labelled["gain"].isel(symbol=[3, 0, 5, 1, 4, 2], date=slice(2, 25)).transpose("symbol", "date")
    other = backtest(panel, labelled["score"], settings, outputs={"gain": mixed, "unused": labelled["gain"]}, **how)
    assert plain.table().equals(other.table())
    assert_array_equal(other.outputs["gain"], gain[3:21])
    assert plain.net.shares.any()
    # the same decisions as from scores that are the column
    alone = backtest(panel, gain, BacktestSettings(**{**SETTINGS, "strategy": Signal(above=0.3)}), **how)
    assert plain.table().equals(alone.table())
    with pytest.raises(DataError, match=r"expected gain on the panel's grid"):
        backtest(panel, scores, settings, outputs={"gain": gain[1:]}, **how)


def test_what_is_traded_and_known_is_in_the_view():
    panel, scores = market()
    view = view_of(panel, slice(5, 20), {"gain": scores[5:20]})
    assert_array_equal(view.tradable, panel["tradable"].values[:20])
    assert_array_equal(view.closes, panel["close"].values[:20])
    assert view.before == 5
    assert_array_equal(view.output("gain"), scores[5:20])


def test_scores_that_do_not_fit():
    panel, scores = market()
    labelled = xr.DataArray(scores, dims=("date", "symbol"), coords={"date": panel["date"], "symbol": panel["symbol"]})
    with pytest.raises(DataError, match=r"\(days, symbols\) = \(30, 6\), got \(29, 6\)"):
        run(panel, scores[1:])
    with pytest.raises(DataError, match="got 6 others such as X0"):
        run(panel, labelled.assign_coords(symbol=[f"X{i}" for i in range(6)]))
    with pytest.raises(DataError, match="scores of days that the panel has, got 30 others such as 2021"):
        run(panel, labelled.assign_coords(date=panel["date"].values + np.timedelta64(366, "D")))
    with pytest.raises(DataError, match="symbols once"):
        run(panel, labelled.isel(symbol=[0, 0, 1]))
    with pytest.raises(DataError, match="dims"):
        run(panel, labelled.rename(symbol="stock"))


def test_windows_that_cannot_be():
    panel, scores = market()
    with pytest.raises(DataError, match="from 2021-01-01 to 2021-02-01, but there is none: the panel has 2020-01-01"):
        backtest(
            panel, scores, BacktestSettings(**SETTINGS), first=datetime.date(2021, 1, 1), last=datetime.date(2021, 2, 1)
        )
    with pytest.raises(DataError, match="the last of 2 days"):
        run(panel, scores, first=5, last=6)
    with pytest.raises(DataError, match=r"fewer stocks than K: .* on 2020-01-0"):
        run(panel, scores, strategy=TopK(k=6))


def test_dates_of_any_kind():
    panel, scores = market()
    plain = run(panel, scores, first=2, last=20)
    assert plain.table().equals(
        backtest(
            panel,
            scores,
            BacktestSettings(**SETTINGS),
            first=datetime.date(2020, 1, 3),
            last=datetime.date(2020, 1, 21),
        ).table()
    )


def test_real_prices(csi300):
    panel = load_panel(
        DataSettings(
            source=f"qlib:{csi300}",
            universe="csi300",
            benchmark="SH000300",
            start=datetime.date(2017, 1, 1),
            end=datetime.date(2017, 3, 31),
        )
    )
    close = panel["close"].values.astype(float)
    momentum = np.full(close.shape, NAN)
    momentum[5:] = close[5:] / close[:-5] - 1
    result = run(panel, np.where(usable(panel), momentum, NAN), strategy=TopK(k=50), cost=0.001)
    assert result.counts["stale_marks"] > 0
    assert result.net.n_held.max() >= 50
    price = panel["close"].to_pandas().astype(float).ffill().fillna(0.0).to_numpy()
    gains = (result.net.shares[:-1] * np.diff(price, axis=0)).sum(axis=1)
    assert_allclose(np.diff(result.net.value), gains - result.net.costs[1:], atol=1e-9)
    assert (result.gross_returns >= result.net_returns).all()


def test_a_capital_that_is_too_small_is_said():
    panel, scores = market()
    lots = {"kind": "flat", "lot": 100}
    notes = [run(panel, scores, market=lots, capital=capital).notes() for capital in (100.0, 1e7)]
    without_factor = "without a factor in the source, lots are of adjusted shares"
    assert len(notes[0]) == 3
    assert notes[0][0] == without_factor
    assert "come to less than a lot: a capital of 100 is too small" in notes[0][1]
    assert notes[1] == [without_factor]


def test_nothing_here_needs_torch():
    code = "import sys, mimstocr.backtest, mimstocr.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scores_of_bars_within_the_day_are_aligned_by_their_time():
    hours = np.arange("2020-01-01T20", "2020-01-02T08", dtype="datetime64[h]")
    close = 10 * np.exp(np.cumsum(np.random.default_rng(0).normal(scale=0.03, size=(12, 3)), axis=0))
    panel = make_panel({"close": close}, hours, ["A", "B", "C"], source="test", days_per_year=8766)
    scores = np.random.default_rng(1).normal(size=close.shape)
    grid = xr.DataArray(scores, dims=("date", "symbol"), coords={"date": panel["date"], "symbol": panel["symbol"]})
    whole = run(panel, scores)
    assert_array_equal(run(panel, grid[::-1]).net.value, whole.net.value)
    assert whole.table()["date"].dtype == pl.Datetime("ms")
    settings = BacktestSettings(**SETTINGS)
    by_day = backtest(panel, scores, settings, first=np.datetime64("2020-01-02"), last=datetime.date(2020, 1, 2))
    assert_array_equal(by_day.simulated_days, hours[4:])
    by_hour = backtest(panel, scores, settings, first=hours[4], last=hours[7])
    assert_array_equal(by_hour.simulated_days, hours[4:8])
    with pytest.raises(DataError, match="2020-01-01 20:00 to 2020-01-02 07:00"):
        backtest(panel, scores, settings, first=datetime.date(2020, 1, 3), last=datetime.date(2020, 1, 3))
