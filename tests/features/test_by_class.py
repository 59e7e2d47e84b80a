"""Features of several asset classes: each class's own, on its own calendar, whatever the recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from mimstocr.data.assets import merge_classes, own_calendars
from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import DataError
from mimstocr.features import FEATURES, Features
from mimstocr.features.alpha360 import Alpha360
from mimstocr.features.by_class import FittedByClass, fit_by_class, restore_by_class
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
WEEK = np.datetime64("2024-01-01") + np.arange(120)
WORK = WEEK[np.is_busday(WEEK)]
RECIPES = [FEATURES.get(name)(window=6) for name in FEATURES.names() if name != "columns"]
each_recipe = pytest.mark.parametrize("features", RECIPES, ids=lambda features: features.kind)


def panel_of(days: NDArray[np.datetime64], symbols: str, seed: int, scale: float) -> Panel:
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, scale, (len(days), len(symbols))), axis=0))
    fields = {
        "close": close,
        "open": close * np.exp(rng.normal(0, scale / 2, close.shape)),
        "high": close * (1 + rng.uniform(scale, 2 * scale, close.shape)),
        "low": close * (1 - rng.uniform(scale, 2 * scale, close.shape)),
        "volume": rng.lognormal(10, 1, close.shape),
    }
    for name, field in fields.items():
        field[30:33, 0] = np.nan if name != "volume" else 0  # suspended
    return make_panel(fields, days, list(symbols), source="test")


@pytest.fixture(scope="module")
def alone() -> dict[str, Panel]:
    return {"stocks": panel_of(WORK, "ABC", 1, 0.01), "crypto": panel_of(WEEK, "VWXYZ", 2, 0.04)}


def fitted_on(whole: Panel, features: Features, upto: int = 80) -> tuple[FittedByClass, NDArray[np.bool_]]:
    rows = whole["member"].values & (np.arange(whole.sizes["date"]) < upto)[:, None]
    fitted = fit_by_class(features, own_calendars(whole), rows)
    assert isinstance(fitted, FittedByClass)
    return fitted, rows


@each_recipe
def test_windows_of_a_class_are_those_it_has_alone(alone: dict[str, Panel], features: Features) -> None:
    whole = merge_classes(alone)
    fitted, rows = fitted_on(whole, features)
    windows = fitted.bind(whole, CPU)
    days = [5, 40, 47, 60, 119]  # 2024-01-06 is a Saturday, 02-10 too, 02-17 too
    symbols = torch.arange(8).expand(len(days), 8)
    x = windows(torch.tensor(days), symbols)
    assert x.shape == (len(days), 8, 6, len(fitted.names))
    for own in own_calendars(whole):
        single = features.fit(alone[own.name], own.part(rows))
        makes = single.bind(alone[own.name], CPU)
        for key, value in single.constants().items():
            assert_array_equal(fitted.constants()[f"{own.name}/{key}"], value)
        at = torch.tensor([int(own.last[day]) for day in days])  # of a closed day the own day before
        expected = makes(at, torch.arange(len(own.symbols)).expand(len(days), -1))
        assert x[:, own.symbols].equal(expected)


@each_recipe
def test_any_order_of_symbols_and_any_padding(alone: dict[str, Panel], features: Features) -> None:
    whole = merge_classes(alone)
    fitted, _ = fitted_on(whole, features)
    windows = fitted.bind(whole, CPU)
    every = windows(torch.tensor([61, 62]), torch.arange(8).expand(2, 8))
    mixed = torch.tensor([[7, 1, 4, 0, 0], [2, 3, 3, 6, 5]])
    picked = windows(torch.tensor([61, 62]), mixed)
    assert picked.equal(every[torch.arange(2)[:, None], mixed])
    only = windows(torch.tensor([61]), torch.tensor([[4, 3]]))  # a day of one class alone
    assert only.equal(every[:1, [4, 3]])


@each_recipe
def test_later_prices_change_nothing_before(alone: dict[str, Panel], features: Features) -> None:
    whole = merge_classes(alone)
    cut = 80
    scrambled = whole.copy(deep=True)
    noise = np.random.default_rng(0).uniform(0.5, 2, whole["close"].shape).astype(np.float32)
    for name in ("open", "high", "low", "close", "volume"):
        values = np.array(whole[name].values)
        values[cut:] *= noise[cut:]
        scrambled[name] = (("date", "symbol"), values)
    one, _ = fitted_on(whole, features)
    two, _ = fitted_on(scrambled, features)
    for key, value in one.constants().items():
        assert_array_equal(two.constants()[key], value)
    days, symbols = torch.arange(cut), torch.arange(8).expand(cut, 8)
    assert one.bind(whole, CPU)(days, symbols).equal(two.bind(scrambled, CPU)(days, symbols))


@each_recipe
def test_they_come_back_from_a_checkpoint_in_any_order_of_classes(
    alone: dict[str, Panel], features: Features, tmp_path: Path
) -> None:
    whole = merge_classes(alone)
    fitted, _ = fitted_on(whole, features)
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in fitted.constants().items()}
    save_checkpoint(tmp_path / "x.safetensors", tensors, {})
    constants = {name: value.numpy() for name, value in load_checkpoint(tmp_path / "x.safetensors", CPU)[0].items()}
    again = restore_by_class(features, fitted.names, constants, ["stocks", "crypto"])
    turned = merge_classes({"crypto": alone["crypto"], "stocks": alone["stocks"]})
    days = torch.tensor([61, 62])
    x = fitted.bind(whole, CPU)(days, torch.arange(8).expand(2, 8))
    y = again.bind(turned, CPU)(days, torch.tensor([5, 6, 7, 0, 1, 2, 3, 4]).expand(2, 8))
    assert x.equal(y)


def test_one_class_is_fitted_as_ever(alone: dict[str, Panel]) -> None:
    panel = alone["crypto"]
    fitted = fit_by_class(Alpha360(window=6), own_calendars(panel), panel["member"].values)
    assert not isinstance(fitted, FittedByClass)
    again = restore_by_class(Alpha360(window=6), fitted.names, fitted.constants(), [])
    assert type(again) is type(fitted)


def test_classes_that_do_not_fit_are_refused(alone: dict[str, Panel]) -> None:
    whole = merge_classes(alone)
    fitted, _ = fitted_on(whole, Alpha360(window=6))
    with pytest.raises(DataError, match="fitted on the asset classes stocks, crypto, not on metals"):
        fitted.bind(merge_classes({"stocks": alone["stocks"], "metals": alone["crypto"]}), CPU)
    with pytest.raises(DataError, match="not on a panel of one class"):
        fitted.bind(alone["stocks"], CPU)
