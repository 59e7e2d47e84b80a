"""The tasks about the days ahead, by hand and against the slowest loops; horizons; what follows from the main task."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from mimstocr.config import Config, make_config
from mimstocr.data.panel import Panel, make_panel, usable
from mimstocr.errors import ConfigError, DataError
from mimstocr.tasks.direction import Direction
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.regime import Regime
from mimstocr.tasks.returns import Return
from mimstocr.tasks.trend import Trend
from mimstocr.tasks.volatility import Volatility, realised
from mimstocr.tasks.volume import Volume

NAN = math.nan
DAYS, STOCKS = 90, 6


def panel_of(close: object, **fields: object) -> Panel:
    matrices = {
        name: np.array(values, dtype=float).reshape(len(close), -1)
        for name, values in {"close": close, **fields}.items()
    }
    days = np.datetime64("2020-01-01") + np.arange(len(matrices["close"]))
    names = [f"S{n}" for n in range(matrices["close"].shape[1])]
    return make_panel(matrices, days, names, source="test")


@pytest.fixture(scope="module")
def world() -> Panel:
    """Closes, ranges and volumes with a suspension, a missing row, a late listing and an early end."""
    random = np.random.default_rng(5)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (DAYS, STOCKS)), axis=0))
    volume = random.lognormal(14, 0.5, close.shape)
    close[30:34, 0] = close[29, 0]
    volume[30:34, 0] = 0
    close[50, 1] = volume[50, 1] = NAN
    close[:25, 2] = volume[:25, 2] = NAN
    close[70:, 3] = volume[70:, 3] = NAN
    high, low = close * (1 + random.random(close.shape) / 50), close * (1 - random.random(close.shape) / 50)
    return panel_of(close, high=high, low=low, volume=volume)


def known_closes(panel: Panel, stock: int) -> list[float]:
    """Closes with gaps at the close before, as Python floats."""
    closes: list[float] = []
    for value in panel["close"].values[:, stock].tolist():
        closes.append(closes[-1] if math.isnan(value) and closes else value)
    return closes


def by_loop(panel: Panel, delay: int, horizon: int, of: object) -> NDArray[np.float64]:
    """`of(day, stock, closes)` wherever the label may start and end, else NaN."""
    tradable = panel["tradable"].values
    found = np.full(tradable.shape, NAN)
    for stock in range(tradable.shape[1]):
        closes = known_closes(panel, stock)
        for day in range(len(closes) - delay - horizon):
            if tradable[day + delay, stock] and tradable[day + delay + horizon, stock]:
                found[day, stock] = of(day, stock, closes)
    return found


def moves(closes: list[float], first: int, last: int) -> list[float]:
    return [math.log(closes[day] / closes[day - 1]) for day in range(first, last + 1)]


# ---- direction ------------------------------------------------------------------------------------------------------


def test_direction_by_hand() -> None:
    panel = panel_of([[10, 10, 10], [11, 10, 9], [12, 9, 9.5]])
    assert_array_equal(Direction(horizon=1, delay=0).labels(panel)[:2], [[1, 0, 0], [1, 0, 1]])
    # returns of day 0: 10 %, 0, -10 %, median 0; of day 1: 9.1 %, -10 %, 5.6 %, median 5.6 %
    assert_array_equal(Direction(horizon=1, delay=0, against="median").labels(panel)[:2], [[1, 0, 0], [1, 0, 0]])


def test_direction_against_the_median_is_about_half(world: Panel) -> None:
    labels = Direction(horizon=3, delay=1, against="median").labels(world)
    for day in range(40, 60):
        row = labels[day][~np.isnan(labels[day]) & usable(world)[day]]
        assert row.sum() == len(row) // 2


# ---- volatility -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "horizon"), [(0, 1), (1, 5), (2, 20)])
def test_volatility_against_a_loop(world: Panel, delay: int, horizon: int) -> None:
    def of(day: int, stock: int, closes: list[float]) -> float:
        steps = moves(closes, day + delay + 1, day + delay + horizon)
        return math.sqrt(sum(step**2 for step in steps) / horizon)

    expected = by_loop(world, delay, horizon, of)
    assert_allclose(Volatility(horizon=horizon, delay=delay).labels(world), expected, rtol=2e-5, atol=1e-7)


def test_parkinson_against_a_loop(world: Panel) -> None:
    high, low = (world[name].values.astype(float) for name in ("high", "low"))

    def of(day: int, stock: int, closes: list[float]) -> float:
        squares = [math.log(high[d, stock] / low[d, stock]) ** 2 for d in range(day + 2, day + 7)]
        return math.sqrt(sum(0.0 if math.isnan(s) else s for s in squares) / 5 / (4 * math.log(2)))

    expected = by_loop(world, 1, 5, of)
    assert_allclose(Volatility(horizon=5, delay=1, estimator="parkinson").labels(world), expected, rtol=2e-4)


def test_a_day_with_trade_but_without_a_range_is_not_a_calm_one() -> None:
    """Days 2 and 5 lack a high; day 5 had no trade, so nothing moved on it."""
    close, high, low = np.full(8, 10.0), np.full(8, 11.0), np.full(8, 9.0)
    high[[2, 5]] = np.nan
    volume = np.array([1, 1, 1, 1, 1, 0, 1, 1])
    panel = panel_of(close, high=high, low=low, volume=volume)
    got = realised(panel, 1, "parkinson", "volatility")[:, 0]
    moved = math.log(11 / 9) / math.sqrt(4 * math.log(2))
    assert_allclose(got, [moved, moved, np.nan, moved, moved, 0, moved, moved], rtol=1e-6)


def test_parkinson_without_ranges_says_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"parkinson reads high and low, which test lacks; set estimator to close"):
        Volatility(horizon=2, delay=0, estimator="parkinson").labels(panel_of([1, 2, 3, 4]))


def test_targets_are_logs_no_lower_than_the_floor() -> None:
    labels = np.array([[0.02, 0.0, NAN]], dtype=np.float32)
    targets = Volatility(floor=0.005).targets(labels, np.ones((1, 3), dtype=bool))
    assert_allclose(targets, [[math.log(0.02), math.log(0.005), NAN]], rtol=1e-6)


def test_the_head_starts_at_the_mean_log_volatility() -> None:
    assert Volatility().start(np.array([[-4.0, NAN], [-3.0, -5.0]], dtype=np.float32)) == pytest.approx(-4)


def test_the_reference_is_the_volatility_of_the_last_20_days(world: Panel) -> None:
    closes = known_closes(world, 4)
    expected = math.sqrt(sum(step**2 for step in moves(closes, 41, 60)) / 20)
    assert Volatility(delay=1).reference(world)[60, 4] == pytest.approx(expected, rel=1e-5)
    expected = math.sqrt(sum(step**2 for step in moves(closes, 31, 60)) / 30)
    assert Volatility(delay=1, horizon=30).reference(world)[60, 4] == pytest.approx(expected, rel=1e-5)


# ---- volume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "horizon"), [(0, 1), (1, 5)])
def test_volume_against_a_loop(world: Panel, delay: int, horizon: int) -> None:
    volume, tradable = world["volume"].values.astype(float), world["tradable"].values

    def mean(stock: int, first: int, last: int) -> float:
        traded = [volume[day, stock] for day in range(max(first, 0), last + 1) if tradable[day, stock]]
        enough = first >= 0 and 2 * len(traded) >= last + 1 - first
        return sum(traded) / len(traded) if enough else NAN

    expected = np.full(volume.shape, NAN)
    for stock in range(STOCKS):
        for day in range(DAYS - delay - horizon):
            end = day + delay + horizon
            if tradable[end, stock]:
                expected[day, stock] = math.log(mean(stock, end - horizon + 1, end) / mean(stock, day - 19, day))
    assert (~np.isnan(expected)).mean() > 0.5
    assert_allclose(Volume(horizon=horizon, delay=delay).labels(world), expected, rtol=1e-4, atol=1e-6)


def test_a_split_is_no_change_of_volume() -> None:
    """Whole numbers of shares beside adjusted prices: twice as many from the split on."""
    days = 60
    factor = np.where(np.arange(days) < 30, 0.5, 1.0)
    raw = np.where(np.arange(days) < 30, 20.0, 10.0) + np.arange(days) % 3
    volume = np.where(np.arange(days) < 30, 1000.0, 2000.0)
    panel = panel_of(raw * factor, volume=volume, factor=factor)
    labels = Volume(horizon=1, delay=0).labels(panel)
    assert_allclose(labels[19:-1], 0, atol=1e-6)


def test_without_a_volume_there_is_no_volume_task() -> None:
    with pytest.raises(DataError, match="task volume: test has no volume; leave the task out"):
        Volume(horizon=1, delay=0).labels(panel_of([1, 2, 3]))


# ---- regime and trend -----------------------------------------------------------------------------------------------


def test_regime_against_a_loop(world: Panel) -> None:
    task = Regime(horizon=3, delay=1, history=20)

    def size(stock: int, last: int) -> float:
        closes = known_closes(world, stock)
        return math.sqrt(sum(step**2 for step in moves(closes, last - 2, last)) / 3) if last >= 3 else NAN

    def of(day: int, stock: int, closes: list[float]) -> float:
        coming = size(stock, day + 4)
        past = [size(stock, then) for then in range(max(day - 19, 0), day + 1)]
        past = [value for value in past if not math.isnan(value)]
        if 2 * len(past) < 20 or math.isnan(coming):
            return NAN
        share = sum(value < coming for value in past) / len(past)
        return 0.0 if share < 1 / 3 else 2.0 if share > 2 / 3 else 1.0

    expected = by_loop(world, 1, 3, of)
    labels = task.labels(world)
    # days on which nothing moved tie, in one of the two by rounding; the rest agrees
    differs = (labels != expected) & ~(np.isnan(labels) & np.isnan(expected))
    assert differs.sum() == 0
    assert {0.0, 1.0, 2.0} <= set(labels[~np.isnan(labels)].tolist())


def test_trend_by_hand_and_against_a_loop(world: Panel) -> None:
    e = math.e
    panel = panel_of([[1, 1, 1], [e, e, 1], [e**2, 1, 1], [e**3, 1 / e, 1]])
    # straight up; up once and down twice: net -1 of 3; nothing
    assert_allclose(Trend(horizon=3, delay=0).labels(panel)[0], [1, -1 / 3, 0], rtol=1e-6)

    def of(day: int, stock: int, closes: list[float]) -> float:
        steps = moves(closes, day + 2, day + 6)
        way = sum(abs(step) for step in steps)
        return sum(steps) / way if way else 0.0

    assert_allclose(Trend(horizon=5, delay=1).labels(world), by_loop(world, 1, 5, of), rtol=1e-4, atol=1e-6)


# ---- what follows from the main task, and horizons ------------------------------------------------------------------


def test_horizon_and_delay_are_those_of_the_main_task_where_none_is_set() -> None:
    main = Return(horizon=10, delay=1)
    assert Direction().follow(main).span == (1, 10)
    assert Direction(delay=0).follow(main).span == (0, 10)
    assert Volatility().follow(main).span == (1, 5)
    assert Volatility(horizon=None).follow(main).span == (1, 10)
    assert MomentumLine().follow(main).reach == 11
    assert MomentumLine(horizon=3).follow(main).reach == 4
    assert MomentumLine(lead=2).follow(main).reach == 2


def test_a_main_task_without_a_span_cannot_lend_it() -> None:
    direction = Direction()
    with pytest.raises(ConfigError, match=r"task direction: no horizon, and the main task \(direction\) has none"):
        direction.follow(direction)
    with pytest.raises(ConfigError, match=r"task volatility: no delay, and the main task \(momentum_line\)"):
        Volatility().follow(MomentumLine(lead=1))
    with pytest.raises(ConfigError, match="not settled"):
        _ = direction.reach


def test_a_trend_of_one_day_is_refused() -> None:
    with pytest.raises(ConfigError, match="the way of one day is always straight"):
        Trend(horizon=None).follow(Return())
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Trend(horizon=1)


def test_a_lead_and_a_horizon_are_refused() -> None:
    with pytest.raises(ValueError, match="lead says where the line ends"):
        MomentumLine(lead=1, horizon=5)


def test_horizons_are_tasks_of_their_own() -> None:
    tasks = {
        "return": {"kind": "return", "delay": 1, "horizons": [5, 1]},
        "volatility": {"kind": "volatility", "horizons": [5, 20]},
        "momentum": "momentum_line",
    }
    config = make_config({"tasks": tasks})
    settled = config.settled_tasks()
    assert list(settled) == ["return_5", "return_1", "volatility_5", "volatility_20", "momentum"]
    assert [task.reach for task in settled.values()] == [6, 2, 6, 21, 6]
    assert config.priced()[0] == "return_5"
    assert config.reach == 21
    # as written, and read again
    assert make_config(config.plain()) == config
    assert list(make_config({"tasks": tasks, "balancer": {"kind": "stl", "task": "return_1"}}).learned()) == [
        "return_1"
    ]


def test_bad_horizons() -> None:
    with pytest.raises(ConfigError, match="each horizon once"):
        make_config({"tasks": {"return": {"kind": "return", "horizons": [1, 1]}}})
    with pytest.raises(ConfigError, match="two tasks come out as return_1"):
        make_config({"tasks": {"return": {"kind": "return", "horizons": [1]}, "return_1": {"kind": "return"}}})


def test_a_horizon_beside_several_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.return: .*horizons \[1, 5\] stand instead of horizon 3; set one"):
        make_config({"tasks": {"return": {"kind": "return", "horizon": 3, "horizons": [1, 5]}}})
    config = make_config({"tasks": {"return": {"kind": "return", "horizons": [1, 5]}}})
    assert make_config(config.plain()) == config  # the default is written beside them


def test_one_horizon_is_the_same_task_as_before() -> None:
    assert list(Config().settled_tasks()) == ["return", "momentum"]
    assert Config().settled_tasks()["momentum"].reach == 1
