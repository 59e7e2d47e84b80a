from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import ConfigError
from mimstocr.tasks.momentum_line import BOUNCE, NEGATIVE, POSITIVE, SINK, VOLATILE, MomentumLine
from mimstocr.tasks.returns import Return

NAN = math.nan


def panel_of(close: NDArray[np.floating], volume: NDArray[np.floating] | None = None) -> Panel:
    dates = np.datetime64("2020-01-01") + np.arange(len(close))
    fields = {"close": close} if volume is None else {"close": close, "volume": volume}
    return make_panel(fields, dates, [f"S{n}" for n in range(close.shape[1])], source="test")


def slow_level(closes: list[float], t: int, s: int, l: int) -> float:  # noqa: E741
    """The level of the line of s momenta over l days that ends at t, as methods, section 3 says it."""
    start = t - (s - 1) - l
    if t >= len(closes) or start < 0 or math.isnan(closes[t]) or math.isnan(closes[start]):
        return NAN
    known = list(closes)
    for d in range(start, t + 1):  # a day without a price inside the line repeats the last one
        known[d] = known[d - 1] if math.isnan(known[d]) else known[d]
    line = [known[d] - known[d - l] for d in range(t - s + 1, t + 1)]
    signs = [(m > 0) - (m < 0) for m in line]
    if not any(signs):
        return VOLATILE
    current = next(sign for sign in signs if sign)
    changes = 0
    for sign in signs:
        if sign and sign != current:
            changes += 1
            current = sign
    if changes == 0:
        return POSITIVE if current > 0 else NEGATIVE
    if changes == 1:
        return BOUNCE if current > 0 else SINK
    return VOLATILE


def walks(days: int = 50, stocks: int = 40) -> NDArray[np.float64]:
    """Random walks on whole numbers with many exact zeros; some stand still for long, some lack days."""
    random = np.random.default_rng(5)
    steps = random.choice([-1, 0, 0, 0, 1], (days, stocks))
    steps[10:35, :6] = 0
    close = (100 + np.cumsum(steps, axis=0)).astype(float)
    close[20:23, 30:33] = NAN
    close[:7, 33:36] = NAN
    return close


@pytest.mark.parametrize(("s", "l", "lead"), list(itertools.product([1, 2, 4, 6, 10], [1, 4, 12], [0, 1, 2])))
def test_equals_the_slow_line(s: int, l: int, lead: int) -> None:  # noqa: E741
    close = walks()
    found = MomentumLine(s=s, l=l, lead=lead).labels(panel_of(close))
    expected = [[slow_level(closes, t + lead, s, l) for closes in close.T.tolist()] for t in range(len(close))]
    assert_array_equal(found, expected)
    levels = set(found[~np.isnan(found)].tolist())
    assert levels == ({NEGATIVE, VOLATILE, POSITIVE} if s == 1 else {0, 1, 2, 3, 4})


def test_a_suspension_is_the_same_as_missing_rows_and_as_repeated_prices() -> None:
    close = walks(stocks=20)
    quiet = np.random.default_rng(6).random(close.shape) < 0.2
    quiet[0] = False
    repeated, missing = close.copy(), close.copy()
    for t in range(1, len(close)):
        repeated[t, quiet[t]] = repeated[t - 1, quiet[t]]
    missing[quiet] = NAN
    volume = np.where(quiet, 0.0, 1.0)
    one = MomentumLine(s=4, l=3, lead=1).labels(panel_of(repeated, volume))
    other = MomentumLine(s=4, l=3, lead=1).labels(panel_of(missing, np.where(quiet, NAN, 1.0)))
    assert_array_equal(one, other)
    assert np.isfinite(one).any()


@pytest.mark.parametrize(
    ("momenta", "level"),
    [
        ([-2, -1, 1, 2], BOUNCE),
        ([-1, -1, -1, 1], BOUNCE),
        ([1, 2, 1, 3], POSITIVE),
        ([-1, 1, -1, 1], VOLATILE),
        ([1, -1, -1, 1], VOLATILE),
        ([-3, -1, -1, -2], NEGATIVE),
        ([1, 1, -1, -2], SINK),
        ([1, -1, -1, -1], SINK),
        ([0, 0, 0, 0], VOLATILE),
        ([0, 0, 1, 1], POSITIVE),
        ([0, 0, -1, -1], NEGATIVE),
        ([0, -1, 0, 1], BOUNCE),
        ([1, 0, 0, -1], SINK),
        ([1, 0, 0, 1], POSITIVE),
        ([1, 0, 0, 0], POSITIVE),
        ([-1, 1, 0, 0], BOUNCE),
        ([1, 0, -1, 1], VOLATILE),
    ],
)
def test_shapes_by_hand(momenta: list[int], level: int) -> None:
    """With l = 1 the momenta are the steps of the close."""
    close = 100 + np.cumsum([0, *momenta])
    found = MomentumLine(s=4, l=1, lead=0).labels(panel_of(close[:, None].astype(float)))
    assert_array_equal(found[:, 0], [NAN] * 4 + [level])


def test_levels_are_in_the_order_of_the_names() -> None:
    assert MomentumLine.levels == ("sink", "negative", "volatile", "positive", "bounce")
    assert (SINK, NEGATIVE, VOLATILE, POSITIVE, BOUNCE) == (0, 1, 2, 3, 4)


def test_a_line_of_the_paper_by_hand() -> None:
    """s = 2, l = 2, lead 1: the line of day t is close[t] - close[t-2], close[t+1] - close[t-1]."""
    close = np.array([10, 12, 11, 11, 13, 12], dtype=float)
    # momenta of days 2 .. 5: +1, -1, +2, +1
    found = MomentumLine(s=2, l=2, lead=1).labels(panel_of(close[:, None]))
    assert_array_equal(found[:, 0], [NAN, NAN, SINK, BOUNCE, POSITIVE, NAN])


@pytest.mark.parametrize("factor", [7, 0.125, 7 / 3])
def test_the_scale_of_prices_is_of_no_matter(factor: float) -> None:
    close = walks()
    task = MomentumLine(lead=1)
    assert_array_equal(task.labels(panel_of(close * factor)), task.labels(panel_of(close)))


def test_one_value_over_one_day_is_rise_or_fall() -> None:
    close = walks()
    main = Return(delay=1)
    found = MomentumLine(s=1, l=1).follow(main).labels(panel_of(close))
    gain = main.labels(panel_of(close))
    expected = np.select([gain > 0, gain < 0, gain == 0], [POSITIVE, NEGATIVE, VOLATILE], NAN)
    known = ~np.isnan(gain)
    assert_array_equal(found[known], expected[known])
    assert known.sum() > 1000


def test_no_line_starts_or_ends_on_a_suspended_day() -> None:
    """s = 2, l = 1: the line reads three closes; only the outer two must be of days with trade."""
    close = np.array([10, 11, 12, 13, 14, 15, 16, 17], dtype=float)[:, None]
    volume = np.ones_like(close)
    close[4], volume[4] = close[3], 0
    found = MomentumLine(s=2, l=1, lead=0).labels(panel_of(close, volume))
    assert_array_equal(found[:, 0], [NAN, NAN, POSITIVE, POSITIVE, NAN, POSITIVE, NAN, POSITIVE])


def test_lead_follows_the_main_task_unless_set() -> None:
    assert MomentumLine().follow(Return()).reach == 1
    assert MomentumLine().follow(Return(delay=1, horizon=5)).reach == 6
    assert MomentumLine(lead=0).follow(Return(delay=1)).reach == 0
    alone = MomentumLine()
    with pytest.raises(ConfigError, match="as the main task it needs its own lead"):
        alone.follow(alone)
    with pytest.raises(ConfigError, match="lead is not settled"):
        _ = alone.reach


def test_score_is_the_expected_square_of_the_level() -> None:
    logits = torch.tensor([0.3, -1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    weights = [math.exp(x) for x in logits.tolist()]
    expected = sum(w * level**2 for level, w in enumerate(weights)) / sum(weights)
    assert_allclose(MomentumLine(lead=1).score(logits).item(), expected)
