"""What is known of the stocks besides their windows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mimstocr.data.assets import merge_classes
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


def test_a_day_without_trade_is_no_size_however_it_arrives() -> None:
    """A suspended day comes as a volume of 0 or as a missing row."""
    volume = np.random.default_rng(1).uniform(1, 9, (T, N))
    gone = volume.copy()
    volume[10:18, 2], gone[10:18, 2] = 0.0, np.nan
    found = market_value(panel_of(volume=volume)).values
    assert np.array_equal(found, market_value(panel_of(volume=gone)).values)
    traded = [2.0 * volume[s, 2] for s in range(25 - DOLLAR_DAYS + 1, 26) if volume[s, 2] > 0]
    assert len(traded) == DOLLAR_DAYS - 8
    assert found[25, 2] == pytest.approx(np.mean(traded), rel=1e-6)


def test_a_market_value_of_0_is_not_known() -> None:
    value = np.tile([1.0, 4.0, 9.0], (T, 1))
    value[7] = [0.0, 4.0, -9.0]
    found = market_value(panel_of(market_value=value))
    assert found.values[7].tolist() == [4.0, 4.0, 4.0]
    assert found.notes == ["2 stock-days without a market value count as their day's median"]


def test_the_median_is_that_of_the_days_cross_section() -> None:
    """Not of stocks outside the universe or without trade, nor of other days; where nobody's is known all are alike."""
    days = np.datetime64("2020-01-01") + np.arange(T)
    symbols = ["A", "B", "C", "outside", "suspended"]
    value = np.tile([1.0, 4.0, 10.0, 1e6, 1e6], (T, 1))
    member = np.ones((T, 5), dtype=bool)
    member[:, 3] = False
    volume = np.ones((T, 5))
    volume[:, 4] = 0.0
    value[7, 0] = np.nan
    value[9, :3] = 0.0
    close = np.full((T, 5), 2.0)
    fields = {"close": close, "volume": volume, "market_value": value}
    found = market_value(make_panel(fields, days, symbols, source="made", member=member))
    assert found.values[7, :3].tolist() == [(4 + 10) / 2, 4.0, 10.0]
    assert found.values[9, :3].tolist() == [1.0, 1.0, 1.0]
    assert found.notes == ["4 stock-days without a market value count as their day's median"]


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


def classes_of(*names: str) -> Panel:
    days = np.datetime64("2020-01-01") + np.arange(3)
    return merge_classes(
        {
            name: make_panel({"close": np.ones((3, 2))}, days, [f"{name}{i}" for i in (0, 1)], source=name)
            for name in names
        }
    )


def test_the_classes_are_known_by_the_names_that_were_learned() -> None:
    fact = gather_facts((), classes_of("stocks", "crypto"))["asset_class"]
    assert fact.values.tolist() == [0, 0, 1, 1]
    assert fact.values.dtype == np.int64
    assert not fact.daily
    turned = gather_facts((), classes_of("crypto", "stocks"), classes=["stocks", "crypto"])["asset_class"]
    assert turned.values.tolist() == [1, 1, 0, 0]
    assert gather_facts((), panel_of()) == {} == gather_facts((), panel_of(), classes=[])


@pytest.mark.parametrize(
    ("panel", "learned"),
    [(classes_of("stocks", "metals"), ["stocks", "crypto"]), (panel_of(), ["a", "b"]), (classes_of("a", "b"), [])],
)
def test_other_classes_than_the_learned_ones_are_refused(panel: Panel, learned: list[str]) -> None:
    with pytest.raises(DataError, match=r"give the classes that it was trained with in data\.assets"):
        gather_facts((), panel, classes=learned)
