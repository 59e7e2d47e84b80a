"""Feature sets side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from mimstocr.config import load_config, make_config
from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import ConfigError
from mimstocr.features.alpha360 import Alpha360
from mimstocr.features.columns import Columns
from mimstocr.features.combined import Combined
from mimstocr.features.liquidity import Liquidity
from mimstocr.features.technical import Technical

CPU = torch.device("cpu")
DAYS, STOCKS = 60, 4


def world(*columns: str) -> Panel:
    random = np.random.default_rng(1)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (DAYS, STOCKS)), axis=0))
    fields = {"close": close, "volume": random.lognormal(10, 1, close.shape)}
    days = np.datetime64("2020-01-01") + np.arange(DAYS)
    panel = make_panel(fields, days, list("ABCD"), source="test")
    values = random.normal(size=(DAYS, STOCKS, len(columns))).astype(np.float32)
    return panel.assign(extra=(("date", "symbol", "column"), values)).assign_coords(column=list(columns))


ROWS = np.ones((DAYS, STOCKS), dtype=bool)


def test_the_parts_side_by_side() -> None:
    panel = world("mood")
    parts = (Alpha360(), Technical(names=("rsi", "macd")), Columns(lag=1))
    whole = Combined(parts=parts, window=7).fit(panel, ROWS)
    assert whole.window == 7
    assert whole.names == ("close", "volume", "rsi", "macd", "mood")
    days, symbols = torch.tensor([10, 59]), torch.tensor([[0, 3, 1], [2, 2, 0]])
    each = [part.changed(window=7).fit(panel, ROWS).bind(panel, CPU)(days, symbols) for part in parts]
    assert_array_equal(whole.bind(panel, CPU)(days, symbols), np.concatenate(each, axis=-1))


def test_names_that_collide_have_their_part_before_them() -> None:
    """`columns.size` of the first table column has no prefix taken off when restored: none was put on."""
    panel = world("close", "columns.size", "return")
    recipe = Combined(parts=(Alpha360(), Liquidity(names=("return",)), Columns(), Columns(lag=3, names=("close",))))
    fitted = recipe.fit(panel, ROWS)
    assert fitted.names == (
        *("alpha360.close", "volume", "liquidity.return"),
        *("columns.close", "columns.size", "columns.return", "columns2.close"),
    )
    restored = recipe.restore(fitted.names, fitted.constants())
    assert [part.names for part in restored.parts] == [part.names for part in fitted.parts]
    days, symbols = torch.tensor([40]), torch.arange(STOCKS)[None]
    assert_array_equal(restored.bind(panel, CPU)(days, symbols), fitted.bind(panel, CPU)(days, symbols))
    for array in fitted.constants().values():
        assert array.dtype == np.float64


def test_a_name_that_collides_with_a_prefixed_one_is_refused() -> None:
    panel = world("close", "alpha360.close")
    with pytest.raises(ConfigError, match=r"two features are called alpha360\.close; rename"):
        Combined(parts=(Alpha360(), Columns())).fit(panel, ROWS)


def test_notes_and_readings_are_those_of_all_parts() -> None:
    panel = world("mood")
    recipe = Combined(parts=(Liquidity(), Technical(), Columns()), window=3)
    fitted = recipe.fit(panel, ROWS)
    assert [note.partition(" ")[0] for note in fitted.notes] == ["liquidity", "liquidity:", "technical:"]
    assert recipe.reads == {"extra"}
    assert Combined().reads == frozenset()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["technical", "combined"], "a part cannot be 'combined'"),
        (["technical", {"kind": "alpha360", "window": 20}], "'alpha360' has a window of its own; set features.window"),
        (["technical", "alpha360", "technical"], "each part once, got 'technical' again"),
        (["tecnical"], "did you mean 'technical'"),
        ([], "parts"),
    ],
)
def test_bad_parts_are_refused(parts: list[object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config({"features": {"kind": "combined", "parts": parts}})
    with pytest.raises(ValidationError):
        Combined(parts=parts)


def test_one_window_for_all_can_be_set_from_outside() -> None:
    """A config as written out says the window once, so that an override of it is no contradiction."""
    config = make_config({"features": {"kind": "combined", "window": 9, "parts": ["alpha360", {"kind": "technical"}]}})
    plain = config.plain()["features"]
    assert plain["window"] == 9
    assert [sorted(part) for part in plain["parts"]] == [["clip", "fields", "kind"], ["clip", "kind", "names"]]
    again = make_config({"features": {**plain, "window": 5}})
    assert again.features.fit(world(), ROWS).parts[1].window == 5
    assert Combined().changed(window=5).window == 5


def test_it_can_be_chosen_on_the_command_line() -> None:
    config = load_config("smoke", ["features={kind: combined, parts: [technical, liquidity]}", "features.window=4"])
    assert [part.kind for part in config.features.parts] == ["technical", "liquidity"]
    assert config.features.window == 4
