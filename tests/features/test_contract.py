"""What every registered feature recipe promises, whatever it computes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.config import make_config
from mimstocr.data.panel import FIELDS, Panel, make_panel
from mimstocr.errors import DataError
from mimstocr.features import FEATURES, Features, Fitted
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
DAYS, STOCKS, FIT_DAYS = 100, 9, 30

OTHERS = [
    FEATURES.get("columns")(window=3, lag=4, names=("mood", "close")),
    FEATURES.get("technical")(window=1, names=("rsi", "macd")),
    FEATURES.get("combined")(window=5, parts=("technical", "liquidity", "columns", {"kind": "columns", "lag": 2})),
]
OTHER_IDS = ["columns lagged", "technical of a day", "combined of four"]

pytestmark = pytest.mark.parametrize(
    "features", [FEATURES.get(name)(window=20) for name in FEATURES.names()] + OTHERS, ids=FEATURES.names() + OTHER_IDS
)


def arrays(seed: int) -> dict[str, NDArray[np.float32]]:
    """Fields of a world in which a stock is listed late, one has days without a row, one is suspended, one leaves."""
    random = np.random.default_rng(seed)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (DAYS, STOCKS)), axis=0))
    spread = np.abs(random.normal(0, 0.02, (2, DAYS, STOCKS)))
    fields = {
        "close": close,
        "open": close * np.exp(random.normal(0, 0.01, close.shape)),
        "high": close * np.exp(0.03 + spread[0]),
        "low": close * np.exp(-0.03 - spread[1]),
        "vwap": close * np.exp(random.normal(0, 0.005, close.shape)),
        "volume": random.lognormal(14, 0.7, close.shape),
        "factor": np.full(close.shape, 1.5),
        "market_value": close * random.lognormal(18, 1, STOCKS),
    }
    for name, field in fields.items():
        field[:25, 0] = np.nan
        field[45:51, 1] = np.nan
        if name != "volume":
            field[22:27, 2] = field[21, 2]
        field[80:, 3] = np.nan
    fields["volume"][22:27, 2] = 0
    return {name: field.astype(np.float32) for name, field in fields.items()}


def own_columns(seed: int) -> NDArray[np.float32]:
    """(days, symbols, 3): a number with gaps, a flag that is mostly 0, and one called as a field of Alpha360."""
    random = np.random.default_rng(seed + 1000)
    values = random.normal(0, 1, (DAYS, STOCKS, 3))
    values[random.random((DAYS, STOCKS)) < 0.2, 0] = np.nan
    values[..., 1] = values[..., 1] > 1
    return values.astype(np.float32)


def panel_of(
    fields: dict[str, NDArray[np.float32]],
    member: NDArray[np.bool_] | None = None,
    extra: NDArray[np.float32] | None = None,
) -> Panel:
    dates = np.datetime64("2020-01-01") + np.arange(DAYS)
    panel = make_panel(fields, dates, [f"S{n}" for n in range(fields["close"].shape[1])], source="test", member=member)
    assert panel.attrs["dropped"] == {}
    panel = panel.assign(extra=(("date", "symbol", "column"), own_columns(0) if extra is None else extra))
    return panel.assign_coords(column=["mood", "flag", "close"])


def world(seed: int = 0) -> Panel:
    return panel_of(arrays(seed), np.random.default_rng(seed).random((DAYS, STOCKS)) < 0.9)


def scrambled_after(panel: Panel, day: int) -> Panel:
    """The same up to `day`, included, and another world after it."""
    other = arrays(99)
    fields = {
        name: np.concatenate([panel[name].values[: day + 1], 3 * other[name][day + 1 :]])
        for name in FIELDS
        if name in panel
    }
    later = np.random.default_rng(99).random((DAYS, STOCKS)) < 0.5
    extra = np.concatenate([panel["extra"].values[: day + 1], own_columns(99)[day + 1 :]])
    return panel_of(fields, np.concatenate([panel["member"].values[: day + 1], later[day + 1 :]]), extra)


def fit_rows(panel: Panel) -> NDArray[np.bool_]:
    rows = panel["member"].values.copy()
    rows[FIT_DAYS:] = False
    return rows


def fit(features: Features, panel: Panel) -> Fitted:
    return features.fit(panel, fit_rows(panel))


def all_windows(fitted: Fitted, panel: Panel) -> Tensor:
    """(days, symbols, window, fields)."""
    symbols = torch.arange(panel.sizes["symbol"])
    return fitted.bind(panel, CPU)(torch.arange(DAYS), symbols.expand(DAYS, -1))


@pytest.mark.parametrize("day", [30, 31, 90])
def test_ignores_the_future(features: Features, day: int) -> None:
    panel = world()
    later = scrambled_after(panel, day)
    fitted, again = fit(features, panel), fit(features, later)
    assert fitted.constants().keys() == again.constants().keys()
    for name, constant in fitted.constants().items():
        assert_array_equal(constant, again.constants()[name])
    before, after = all_windows(fitted, panel), all_windows(again, later)
    assert_array_equal(before[: day + 1], after[: day + 1])
    # the scramble is strong enough to be seen
    assert (before[day + 1 :] != after[day + 1 :]).any()


def test_the_day_itself_is_seen(features: Features) -> None:
    panel = world()
    fitted = fit(features, panel)
    now, then = all_windows(fitted, panel), all_windows(fitted, scrambled_after(panel, 59))
    seen = 60 + getattr(features, "lag", 0)
    assert (now[seen, :, -1] != then[seen, :, -1]).any()
    assert_array_equal(now[60:seen, :, -1], then[60:seen, :, -1])


def test_only_the_given_rows_are_fitted_on(features: Features) -> None:
    """A stock without a row, and days after the last row, leave the constants as they are."""
    panel = world()
    rows = fit_rows(panel)
    rows[:, 5] = False
    fields = {name: panel[name].values.copy() for name in FIELDS if name in panel}
    for name, other in arrays(99).items():
        fields[name][:, 5] = 7 * other[:, 5]
        fields[name][FIT_DAYS:] = other[FIT_DAYS:]
    extra = own_columns(0)
    extra[:, 5] = 7 * own_columns(99)[:, 5]
    extra[FIT_DAYS:] = own_columns(99)[FIT_DAYS:]
    one, two = features.fit(panel, rows), features.fit(panel_of(fields, extra=extra), rows)
    for name, constant in one.constants().items():
        assert_array_equal(constant, two.constants()[name])
    everywhere = features.fit(panel_of(fields, extra=extra), fit_rows(panel)).constants()
    assert any((constant != everywhere[name]).any() for name, constant in one.constants().items())


def test_finite_float32_of_the_promised_shape(features: Features) -> None:
    panel = world()
    fitted = fit(features, panel)
    windows = all_windows(fitted, panel)
    assert windows.shape == (DAYS, STOCKS, fitted.window, len(fitted.names))
    assert windows.dtype == torch.float32
    assert windows.isfinite().all()
    assert len(set(fitted.names)) == len(fitted.names)
    assert (windows[FIT_DAYS:].amax(dim=(0, 1, 2)) > windows[FIT_DAYS:].amin(dim=(0, 1, 2))).all()


def test_a_panel_is_left_as_it_was(features: Features) -> None:
    panel, same = world(), world()
    all_windows(fit(features, panel), panel)
    for name in map(str, panel.data_vars):
        assert_array_equal(panel[name].values, same[name].values)


def test_days_before_the_data_are_at_the_training_median(features: Features) -> None:
    panel = world()
    fitted = fit(features, panel)
    assert (all_windows(fitted, panel)[0, :, : fitted.window - 1] == 0).all()


def test_what_is_not_read_changes_nothing(features: Features) -> None:
    """`reads` names all that is looked at besides prices: the rest is dropped from the panel of a run."""
    panel = world()
    unread = [name for name in ("extra",) if name not in features.reads]
    assert_array_equal(
        all_windows(fit(features, panel.drop_vars(unread)), panel.drop_vars(unread)),
        all_windows(fit(features, panel), panel),
    )


def test_a_config_holds_it_whole(features: Features) -> None:
    config = make_config({"features": features.model_dump(mode="json")})
    assert make_config(config.plain()).features == features


def test_a_day_alone_equals_the_day_in_a_batch(features: Features) -> None:
    panel = world()
    maker = fit(features, panel).bind(panel, CPU)
    days, symbols = torch.tensor([70, 3, 41]), torch.tensor([[4, 1, 7], [0, 0, 8], [2, 6, 5]])
    together = maker(days, symbols)
    for d in range(3):
        assert_array_equal(together[d : d + 1], maker(days[d : d + 1], symbols[d : d + 1]))
        for n in range(3):
            alone = maker(days[d : d + 1], symbols[d : d + 1, n : n + 1])
            assert_array_equal(together[d, n], alone[0, 0])


def test_the_order_of_the_symbols_does_not_matter(features: Features) -> None:
    panel = world()
    shuffle = np.random.default_rng(1).permutation(STOCKS)
    shuffled = panel.isel(symbol=shuffle)
    fitted, again = fit(features, panel), fit(features, shuffled)
    for name, constant in fitted.constants().items():
        assert_allclose(again.constants()[name], constant, rtol=1e-9)
    assert_allclose(all_windows(again, shuffled), all_windows(fitted, panel)[:, shuffle], atol=1e-6)


def test_restored_from_a_checkpoint_gives_the_same_windows(features: Features, tmp_path: Path) -> None:
    panel = world()
    fitted = fit(features, panel)
    path = tmp_path / "fitted.safetensors"
    tensors = {name: torch.from_numpy(constant) for name, constant in fitted.constants().items()}
    save_checkpoint(path, tensors, {"names": list(fitted.names)})
    loaded, header = load_checkpoint(path, CPU)
    constants = {name: tensor.numpy() for name, tensor in loaded.items()}
    restored = features.restore(tuple(header["names"]), constants)
    assert restored.names == fitted.names
    assert restored.window == fitted.window
    assert_array_equal(all_windows(restored, panel), all_windows(fitted, panel))


def test_a_panel_with_fewer_fields_is_refused_or_gives_the_same(features: Features) -> None:
    panel = world()
    fitted = fit(features, panel)
    whole = all_windows(fitted, panel)
    for name in [name for name in (*FIELDS, "extra") if name in panel and name != "close"]:
        poorer = panel.drop_vars(name)
        with contextlib.suppress(DataError):
            assert_array_equal(all_windows(fitted, poorer), whole)
