from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydantic import ValidationError

from mimstocr.data import DataSettings, load_panel
from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import ConfigError, DataError
from mimstocr.features.alpha360 import Alpha360, FittedAlpha360

CPU = torch.device("cpu")
Array = NDArray[np.float64]


def world(days: int = 24, stocks: int = 5, names: tuple[str, ...] = ("open", "high", "low", "vwap")) -> Panel:
    """Volumes of 10^5 and more: there v + 1e-12 is v in float64 as it is in float32."""
    random = np.random.default_rng(3)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (days, stocks)), axis=0))
    fields = {name: close * np.exp(random.normal(0, 0.01, close.shape)) for name in names}
    if {"high", "low"} <= fields.keys():
        one, other = fields["high"], fields["low"]
        fields["high"], fields["low"] = np.maximum(one, other), np.minimum(one, other)
    volume = random.lognormal(14, 0.5, close.shape)
    volume[6, 1] = volume[15, 2] = volume[16, 2] = 0
    fields |= {"close": close, "volume": volume}
    for field in fields.values():
        field[:4, 0] = np.nan
        field[9, 3] = np.nan
    dates = np.datetime64("2020-01-01") + np.arange(days)
    return make_panel(fields, dates, [f"S{n}" for n in range(stocks)], source="test")


def windows(fitted: FittedAlpha360, panel: Panel, days: list[int]) -> Array:
    symbols = torch.arange(panel.sizes["symbol"]).expand(len(days), -1)
    return fitted.bind(panel, CPU)(torch.tensor(days), symbols).numpy().astype(np.float64)


def one_ratio(panel: Panel, name: str, day: int, stock: int, lag: int) -> float:
    """Ref(field, lag) / close, or / (volume + 1e-12), in float64; NaN where missing."""
    if day < lag:
        return float("nan")
    past = float(panel[name].values[day - lag, stock])
    if name == "volume":
        return past / (float(panel["volume"].values[day, stock]) + 1e-12)
    return past / float(panel["close"].values[day, stock])


def test_equals_the_definition_cell_by_cell() -> None:
    panel, window, fit_days = world(), 6, 14
    rows = panel["member"].values.copy()
    rows[fit_days:] = False
    fitted = Alpha360(window=window).fit(panel, rows)
    assert fitted.names == ("close", "open", "high", "low", "vwap", "volume")
    found = windows(fitted, panel, list(range(24)))
    clipped = 0
    for f, name in enumerate(fitted.names):
        for lag in range(window):
            known = [one_ratio(panel, name, day, stock, lag) for day, stock in np.argwhere(rows)]
            known = sorted(value for value in known if value == value)
            median = float(np.median(known))
            mad = float(np.median([abs(value - median) for value in known]))
            for day in range(24):
                for stock in range(5):
                    raw = (one_ratio(panel, name, day, stock, lag) - median) / (1.4826 * (mad + 1e-12))
                    expected = 0.0 if raw != raw else min(max(raw, -3.0), 3.0)
                    clipped += abs(raw) > 3
                    assert found[day, stock, window - 1 - lag, f] == pytest.approx(expected, abs=1e-5)
    assert clipped > 20


def test_on_a_suspended_day_volume_is_at_its_bounds() -> None:
    """Volume 0 today: the lags with trade are at the upper bound; today's own 0 / 1e-12 is far below the median 1."""
    panel = world()
    rows = panel["member"].values.copy()
    rows[14:] = False
    fitted = Alpha360(window=3).fit(panel, rows)
    volume = windows(fitted, panel, [15])[0, 2, :, fitted.names.index("volume")]
    assert volume.tolist() == [3.0, 3.0, -3.0]


def test_the_unit_of_volume_is_of_no_matter() -> None:
    """1e-12 guards against volume 0 alone: it is lost beside any volume in float32, Qlib's type, even of 1e-3."""
    panel = world()
    small = panel.assign(volume=panel["volume"] * np.float32(2.0**-30))
    assert float(small["volume"].max()) < 0.1
    rows = panel["member"].values
    one, other = (windows(Alpha360(window=4).fit(p, rows), p, list(range(24))) for p in (panel, small))
    assert_allclose(other, one, rtol=0, atol=0)


def test_clip_is_where_values_are_cut() -> None:
    panel = world()
    rows = panel["member"].values
    wide, narrow = (windows(Alpha360(window=4, clip=c).fit(panel, rows), panel, [20, 23]) for c in (2.5, 0.5))
    assert np.abs(wide).max() == 2.5
    assert_allclose(narrow, wide.clip(-0.5, 0.5))


def test_fields_are_those_asked_for_in_that_order() -> None:
    panel = world()
    rows = panel["member"].values
    every, some = (Alpha360(window=4, fields=f).fit(panel, rows) for f in (None, ("volume", "close")))
    assert some.names == ("volume", "close")
    columns = [every.names.index(name) for name in some.names]
    assert_allclose(windows(some, panel, [9, 12]), windows(every, panel, [9, 12])[..., columns], atol=0)


def test_a_field_that_the_source_lacks_is_left_out_unless_asked_for() -> None:
    panel = world(names=("open",))
    rows = panel["member"].values
    assert Alpha360(window=4).fit(panel, rows).names == ("close", "open", "volume")
    with pytest.raises(ConfigError, match=r"features\.fields: 'vwap' is not in test"):
        Alpha360(window=4, fields=("close", "vwap")).fit(panel, rows)


def test_a_mistyped_field_names_the_close_match() -> None:
    panel = world()
    with pytest.raises(ConfigError, match=r"'volum'.*did you mean 'volume'"):
        Alpha360(window=4, fields=("close", "volum")).fit(panel, panel["member"].values)
    with pytest.raises(ConfigError, match="'factor'"):  # a field of panels, but none of Alpha360's
        Alpha360(window=4, fields=("factor",)).fit(panel, panel["member"].values)
    with pytest.raises(ValidationError, match="fields"):
        Alpha360(fields=())


def test_a_panel_without_a_fitted_field_is_refused() -> None:
    panel = world()
    fitted = Alpha360(window=4).fit(panel, panel["member"].values)
    with pytest.raises(DataError, match="test lacks vwap, volume"):
        fitted.bind(panel.drop_vars(["vwap", "volume"]), CPU)


def test_a_window_longer_than_the_training_data_is_refused() -> None:
    panel = world()
    rows = panel["member"].values.copy()
    rows[10:] = False
    assert Alpha360(window=10).fit(panel, rows).window == 10
    with pytest.raises(DataError, match=r"10 days back.*features.window \(11\)"):
        Alpha360(window=11).fit(panel, rows)


def test_a_field_without_a_training_value_is_refused_by_its_name() -> None:
    panel = world()
    empty = panel["vwap"].copy(data=np.full(panel["vwap"].shape, np.nan, dtype=np.float32))
    with pytest.raises(DataError, match=r"no training value of vwap 0 days back.*left out of features\.fields"):
        Alpha360(window=4).fit(panel.assign(vwap=empty), panel["member"].values)


def qlib_alpha360(panel: Panel, rows: NDArray[np.bool_], days: NDArray[np.intp]) -> Array:
    """Qlib's Alpha360 and RobustZScoreNorm, then its Fillna, from their definition, column by column in float64."""
    fields = {name: panel[name].values.astype(np.float64) for name in ("close", "open", "high", "low", "volume")}
    out = np.empty((len(days), panel.sizes["symbol"], 60, 5))
    for f, (name, field) in enumerate(fields.items()):
        for lag in range(60):
            ref = np.full(field.shape, np.nan)
            ref[lag:] = field[: len(field) - lag]
            column = ref / (field + 1e-12) if name == "volume" else ref / fields["close"]
            train = column[rows]
            center = np.nanmedian(train)
            scale = 1.4826 * (np.nanmedian(np.abs(train - center)) + 1e-12)
            scaled = np.clip((column[days] - center) / scale, -3, 3)
            out[:, :, 59 - lag, f] = np.where(np.isnan(scaled), 0, scaled)
    return out


def test_equals_qlib_on_csi300(csi300: Path) -> None:
    """1.1e-6 was measured, on volume: float32 ratios near 3 deviations."""
    panel = load_panel(
        DataSettings(source=f"qlib:{csi300}", universe="csi300", start=date(2010, 1, 1), end=date(2011, 6, 30))
    )
    rows = panel["member"].values.copy()
    rows[240:] = False
    days = np.arange(245, panel.sizes["date"], 15)
    fitted = Alpha360().fit(panel, rows)
    assert fitted.names == ("close", "open", "high", "low", "volume")
    found, expected = windows(fitted, panel, days.tolist()), qlib_alpha360(panel, rows, days)
    assert np.abs(expected).max() == 3
    assert (expected != 0).mean() > 0.8
    assert_allclose(found, expected, rtol=0, atol=1e-5)
