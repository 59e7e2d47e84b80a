from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.data.panel import Panel, make_panel
from mimstocr.tasks.returns import Return

NAN = math.nan


def panel_of(close: list[float], volume: list[float] | None = None) -> Panel:
    dates = np.datetime64("2020-01-01") + np.arange(len(close))
    fields = {"close": np.array(close)[:, None]}
    if volume is not None:
        fields["volume"] = np.array(volume, dtype=float)[:, None]
    return make_panel(fields, dates, ["A"], source="test")


def labels(task: Return, panel: Panel) -> list[float]:
    return task.labels(panel)[:, 0].tolist()


def near(*expected: float) -> object:
    return pytest.approx(list(expected), nan_ok=True, abs=1e-7)


def test_by_hand() -> None:
    panel = panel_of([10, 11, 12, 9, 10.5])
    assert labels(Return(), panel) == near(11 / 10 - 1, 12 / 11 - 1, 9 / 12 - 1, 10.5 / 9 - 1, NAN)
    assert labels(Return(delay=1), panel) == near(12 / 11 - 1, 9 / 12 - 1, 10.5 / 9 - 1, NAN, NAN)
    assert labels(Return(horizon=2), panel) == near(12 / 10 - 1, 9 / 11 - 1, 10.5 / 12 - 1, NAN, NAN)


def test_horizon_5_delay_1() -> None:
    close = [10, 11, 12, 13, 14, 15, 16.5, 18]
    task = Return(horizon=5, delay=1)
    assert task.reach == 6
    assert labels(task, panel_of(close)) == near(16.5 / 11 - 1, 18 / 12 - 1, NAN, NAN, NAN, NAN, NAN, NAN)


@pytest.mark.parametrize("row", ["repeated price with volume 0", "no row"])
def test_a_suspension_ends_and_starts_no_label(row: str) -> None:
    """The third day is suspended; a return that spans it is that of the closes on both sides."""
    close = [10, 11, 11 if row != "no row" else NAN, 12, 13]
    panel = panel_of(close, [1, 1, 0 if row != "no row" else NAN, 1, 1])
    assert labels(Return(), panel) == near(11 / 10 - 1, NAN, NAN, 13 / 12 - 1, NAN)
    assert labels(Return(delay=1), panel) == near(NAN, NAN, 13 / 12 - 1, NAN, NAN)
    assert labels(Return(horizon=2), panel) == near(NAN, 12 / 11 - 1, NAN, NAN, NAN)


def day(size: int = 23) -> tuple[np.ndarray, np.ndarray]:
    """Labels with ties and holes, and rows."""
    random = np.random.default_rng(0)
    values = (random.integers(-4, 5, (15, size)) / 100).astype(np.float32)
    values[random.random(values.shape) < 0.2] = NAN
    return values, random.random(values.shape) < 0.7


def test_rank_targets_equal_the_slow_ranks() -> None:
    values, rows = day()
    found = Return(normalise="rank").targets(values, rows)
    for d in range(len(values)):
        kept = [v for v, row in zip(values[d], rows[d], strict=True) if row and v == v]
        for n in range(values.shape[1]):
            if not rows[d, n] or np.isnan(values[d, n]):
                assert np.isnan(found[d, n])
                continue
            below, equal = sum(v < values[d, n] for v in kept), sum(v == values[d, n] for v in kept)
            percent = (below + (equal + 1) / 2) / len(kept)
            assert found[d, n] == pytest.approx((percent - 0.5) * 3.46, abs=1e-6)


def test_rank_targets_by_hand() -> None:
    values = np.array([[0.03, -0.01, 0.03, NAN, 0.5]], dtype=np.float32)
    rows = np.array([[True, True, True, True, False]])
    found = Return().targets(values, rows)
    assert_allclose(
        found, [[(2.5 / 3 - 0.5) * 3.46, (1 / 3 - 0.5) * 3.46, (2.5 / 3 - 0.5) * 3.46, NAN, NAN]], rtol=1e-6
    )


def test_zscore_targets_by_hand() -> None:
    values = np.array([[0.01, 0.02, 0.06, NAN, 0.5]], dtype=np.float32)
    rows = np.array([[True, True, True, True, False]])
    spread = math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2)  # mean 0.03, over n - 1
    found = Return(normalise="zscore").targets(values, rows)
    assert_allclose(found, [[-0.02 / spread, -0.01 / spread, 0.03 / spread, NAN, NAN]], rtol=1e-5)


def test_zscore_targets_have_mean_0_and_deviation_1() -> None:
    found = Return(normalise="zscore").targets(*day())
    assert_allclose(np.nanmean(found, axis=1), 0, atol=1e-6)
    assert_allclose(np.nanstd(found, axis=1, ddof=1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 5, 6, 33, 300])
@pytest.mark.parametrize("value", [0.0, 0.1, -0.07])
def test_zscore_of_equal_returns_is_0(size: int, value: float) -> None:
    """Rounding of the mean must not pass for a spread."""
    values = np.full((1, size), value, dtype=np.float32)
    assert_array_equal(Return(normalise="zscore").targets(values, np.ones((1, size), dtype=bool)), np.zeros((1, size)))


@pytest.mark.parametrize("normalise", ["rank", "zscore", "none"])
def test_a_day_without_rows_is_missing_and_without_warning(normalise: str) -> None:
    values, rows = day()
    rows[3] = False
    found = Return(normalise=normalise).targets(values, rows)
    assert np.isnan(found[3]).all()


def test_targets_unnormalised_are_the_returns() -> None:
    values, rows = day()
    assert_array_equal(Return(normalise="none").targets(values, rows), np.where(rows, values, NAN))
