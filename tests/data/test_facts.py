"""What is known of the stocks besides their windows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mimstocr.data.concepts import add_concepts
from mimstocr.data.facts import DOLLAR_DAYS, gather_facts, market_value
from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import DataError

T, N = 50, 3


def panel_of(**fields: np.ndarray) -> Panel:
    days = np.datetime64("2020-01-01") + np.arange(T)
    return make_panel({"close": np.full((T, N), 2.0), **fields}, days, ["A", "B", "C"], source="made")


def with_table(*rows: tuple[str, str]) -> Panel:
    return add_concepts(panel_of(), pl.DataFrame(rows, schema=["symbol", "concept"], orient="row"), "table")


def test_mean_dollar_volume_against_a_loop_and_blind_to_the_future() -> None:
    volume = np.random.default_rng(0).uniform(1, 9, (T, N))
    volume[:5, 1] = np.nan
    found = market_value(panel_of(volume=volume))
    for t in range(T):
        for i in range(N):
            seen = [2.0 * volume[s, i] for s in range(max(0, t - DOLLAR_DAYS + 1), t + 1) if not np.isnan(volume[s, i])]
            if seen:
                assert found.values[t, i] == pytest.approx(np.mean(seen), rel=1e-6)
    assert found.notes == ["no market value in the source: stocks weigh by their 20-day mean dollar volume"]
    scrambled = volume.copy()
    scrambled[30:] *= 7
    assert np.array_equal(market_value(panel_of(volume=scrambled)).values[:30], found.values[:30])


def test_the_sources_own_market_value_comes_first_and_gaps_take_the_days_median() -> None:
    value = np.tile([1.0, 4.0, 9.0], (T, 1))
    value[7, 0] = np.nan
    found = market_value(panel_of(market_value=value))
    assert found.values[7].tolist() == [6.5, 4.0, 9.0]
    assert found.notes == ["1 stock-days without a market value count as their day's median"]


def test_without_market_value_and_volume_all_weigh_alike() -> None:
    found = market_value(panel_of())
    assert (found.values == 1).all()
    assert found.notes == ["no market value and no volume in the source: all stocks weigh alike"]


def test_only_what_is_read_and_there() -> None:
    assert gather_facts([], with_table(("A", "x"))) == {}
    assert gather_facts(["concepts"], panel_of()) == {}
    assert gather_facts(["concepts"], with_table(("A", "x")))["concepts"].values[:, 0].tolist() == [True, False, False]


def test_a_learned_model_gets_the_concepts_in_its_own_order() -> None:
    panel = with_table(("A", "x"), ("B", "z"))
    values = gather_facts(["concepts"], panel, ["z", "y", "x"])["concepts"].values
    assert values.tolist() == [[False, False, True], [True, False, False], [False, False, False]]
    assert gather_facts(["concepts"], panel, []) == {}
    with pytest.raises(DataError, match=r"the model reads 2 concepts .x, y., but the source has none"):
        gather_facts(["concepts"], panel_of(), ["x", "y"])
    with pytest.raises(DataError, match=r"has not learned 1 concepts of the table .z."):
        gather_facts(["concepts"], panel, ["x"])
