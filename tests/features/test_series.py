"""How daily features are scaled and seen, on columns whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import DataError
from mimstocr.features.columns import Columns

CPU = torch.device("cpu")
DAYS, STOCKS = 6, 3


def panel_of(**columns: NDArray[np.floating]) -> Panel:
    days = np.datetime64("2020-01-01") + np.arange(DAYS)
    panel = make_panel({"close": np.ones((DAYS, STOCKS))}, days, ["A", "B", "C"], source="test")
    values = np.stack([np.asarray(column, dtype=np.float32) for column in columns.values()], axis=-1)
    return panel.assign(extra=(("date", "symbol", "column"), values)).assign_coords(column=list(columns))


def training(last: int = 4) -> NDArray[np.bool_]:
    rows = np.zeros((DAYS, STOCKS), dtype=bool)
    rows[:last] = True
    return rows


def test_scaled_and_laid_out_cell_by_cell() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(5, 2, (2, DAYS, STOCKS)).astype(np.float32)
    a[1, 2] = np.nan
    panel = panel_of(a=a, b=b)
    fitted = Columns(window=3, clip=1.5).fit(panel, training())
    maker = fitted.bind(panel, CPU)
    found = maker(torch.arange(DAYS), torch.arange(STOCKS).expand(DAYS, -1)).numpy()
    cut = 0
    for f, column in enumerate((a, b)):
        train = column[:4][~np.isnan(column[:4])].astype(np.float64)
        median = np.median(train)
        mad = np.median(np.abs(train - median))
        for day in range(DAYS):
            for stock in range(STOCKS):
                for lag in range(3):
                    raw = (column[day - lag, stock] - median) / (1.4826 * (mad + 1e-12)) if day >= lag else np.nan
                    expected = 0.0 if np.isnan(raw) else float(np.clip(raw, -1.5, 1.5))
                    cut += abs(raw) > 1.5
                    assert found[day, stock, 2 - lag, f] == pytest.approx(expected, abs=1e-5)
    assert cut > 5


def test_a_flag_that_is_mostly_0_is_scaled_by_its_spread() -> None:
    """3 ones among 12: the MAD is 0, the root mean square distance from the median is sqrt(3 / 12)."""
    flag = np.zeros((DAYS, STOCKS))
    flag[0] = 1
    panel = panel_of(flag=flag)
    fitted = Columns(window=1).fit(panel, training())
    assert fitted.center.tolist() == [0]
    assert fitted.scale == pytest.approx([0.5])
    assert fitted.bind(panel, CPU)(torch.tensor([0, 1]), torch.tensor([[0], [0]])).flatten().tolist() == [2, 0]


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30])
def test_a_feature_that_never_changes_is_refused(value: float) -> None:
    column = np.full((DAYS, STOCKS), value)
    column[4:] = [1, 2, 3]  # after the training split
    with pytest.raises(DataError, match=r"columns: still is .* all through the training split.*leave it out"):
        Columns().fit(panel_of(still=column), training())


def test_rounding_is_no_spread() -> None:
    """Shares outstanding of 1e9, worked out of rounded prices, differ in their last float32 digit."""
    column = np.full((DAYS, STOCKS), 1e9, dtype=np.float32)
    column[::2] = np.nextafter(column[::2], np.float32(2e9))
    with pytest.raises(DataError, match="shares is 1e"):
        Columns().fit(panel_of(shares=column), training())


def test_a_feature_without_a_training_value_is_refused() -> None:
    late = np.full((DAYS, STOCKS), np.nan)
    late[4:] = [1, 2, 3]
    with pytest.raises(DataError, match="late has no value in the training split; start the data earlier"):
        Columns().fit(panel_of(late=late), training())


def test_what_is_missing_is_counted() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, DAYS, STOCKS))
    assert Columns().fit(panel_of(a=a, b=b), training()).notes == ()
    b[1] = np.nan
    b[5] = np.nan  # after the training split
    assert Columns().fit(panel_of(a=a, b=b), training()).notes == (
        "columns: 12.5% of the training values are missing, most of b (25.0%); they are set to the training median",
    )


def test_very_large_values_stay_finite() -> None:
    column = np.random.default_rng(0).normal(size=(DAYS, STOCKS))
    column[0, 0], column[5, 1] = 3e38, -3e38
    panel = panel_of(a=column)
    windows = Columns(window=1).fit(panel, training()).bind(panel, CPU)(torch.tensor([0, 5]), torch.tensor([[0], [1]]))
    assert windows.flatten().tolist() == [3, -3]
