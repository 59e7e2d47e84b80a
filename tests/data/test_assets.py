"""Several asset classes in one panel: each as it is alone, and closed on the days that are not its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from mimstocr.data import DataSettings, load_panel, make_panel
from mimstocr.data.assets import by_class, class_names, class_of_symbols, merge_classes, own_calendars, standing
from mimstocr.data.concepts import add_concepts
from mimstocr.data.extra import add_extra, column_names
from mimstocr.data.panel import Panel, days_of, fingerprint, symbols_of, usable
from mimstocr.errors import ConfigError, DataError

WEEK = np.arange("2024-03-01", "2024-03-15", dtype="datetime64[D]")  # a Friday, and thirteen days more
WORK = WEEK[np.is_busday(WEEK)]


def panel_of(days: np.ndarray, symbols: list[str], seed: int, **more: object) -> Panel:
    rng = np.random.default_rng(seed)
    shape = (len(days), len(symbols))
    fields = {"close": rng.uniform(10, 20, shape), "volume": rng.uniform(1, 2, shape)}
    return make_panel({**fields, **more.pop("fields", {})}, days, symbols, source=f"of {symbols[0]}", **more)


def two(**more: object) -> tuple[dict[str, Panel], Panel]:
    alone = {
        "stocks": panel_of(WORK, ["A", "B", "C"], 1, notes=["a note"], dropped={"bad": 1}, max_dropped=1),
        "crypto": panel_of(WEEK, ["X", "Y"], 2, days_per_year=365, **more),
    }
    return alone, merge_classes(alone)


def test_each_class_is_in_the_whole_as_it_is_alone() -> None:
    alone, whole = two()
    assert days_of(whole).tolist() == WEEK.tolist()
    assert symbols_of(whole) == ["A", "B", "C", "X", "Y"]
    assert class_names(whole) == ["stocks", "crypto"]
    assert class_of_symbols(whole).tolist() == ["stocks"] * 3 + ["crypto"] * 2
    assert whole["asset_class"].dtype == np.int8
    for own in own_calendars(whole):
        assert own.panel.identical(alone[own.name])
        assert fingerprint(own.panel) == fingerprint(alone[own.name])
        assert np.array_equal(days_of(whole)[own.days], days_of(alone[own.name]))
        assert not own.panel["close"].values.flags.writeable
    assert not whole["close"].values.flags.writeable


def test_a_closed_class_has_no_price_no_member_and_no_trade() -> None:
    _, whole = two()
    closed = ~np.is_busday(WEEK)
    assert np.isnan(whole["close"].values[closed, :3]).all()
    assert not whole["member"].values[closed, :3].any()
    assert not usable(whole)[closed, :3].any()
    assert usable(whole)[:, 3:].all()
    assert usable(whole)[~closed].all()


def test_what_a_reader_must_know_is_told_by_class() -> None:
    _, whole = two(fields={"open": np.full((len(WEEK), 2), 15.0)})
    assert whole.attrs["days_per_year"] == 365
    assert whole.attrs["dropped"] == {"stocks: bad": 1}
    assert "open" not in whole
    notes = whole.attrs["notes"]
    assert "fields that not every asset class has are left out: open" in notes
    assert "stocks: a note" in notes
    assert f"asset class stocks: 3 symbols on {len(WORK)} of 14 days, from 2024-03-01 to 2024-03-14" in notes


def test_a_class_that_ends_early_is_told() -> None:
    alone, _ = two()
    late = panel_of(WEEK + np.timedelta64(20, "D"), ["X", "Y"], 2)
    notes = merge_classes({"stocks": alone["stocks"], "crypto": late}).attrs["notes"]
    assert any(note.startswith("asset class stocks ends on 2024-03-14") for note in notes)


def test_concepts_of_both_stand_together() -> None:
    alone, _ = two()
    table = pl.DataFrame({"symbol": ["A", "B", "X"], "concept": ["tech", "coal", "tech"]})
    tagged = {name: add_concepts(panel, table, "table") for name, panel in alone.items()}
    whole = merge_classes(tagged)
    assert whole["concept"].values.tolist() == ["coal", "tech"]
    assert whole["concepts"].values.tolist() == [
        [False, True],
        [True, False],
        [False, False],
        [False, True],
        [False] * 2,
    ]
    assert merge_classes({**tagged, "stocks": alone["stocks"]})["concepts"].values.sum() == 1


def test_the_last_own_day_and_by_class() -> None:
    _, whole = two()
    stocks, crypto = own_calendars(whole)
    # Fri 1, Sat 2, Sun 3, Mon 4: the first own day lasts until Monday
    assert stocks.last[:5].tolist() == [0, 0, 0, 1, 2]
    assert crypto.last.tolist() == list(range(14))
    lengths = by_class([stocks, crypto], lambda own: np.full(own.panel["close"].shape, float(own.panel.sizes["date"])))
    assert (lengths[0] == [10, 10, 10, 14, 14]).all()
    assert np.isnan(lengths[1, :3]).all()
    assert (lengths[1, 3:] == 14).all()


def test_values_stand_over_closed_days_alone() -> None:
    _, whole = two()
    calendars = own_calendars(whole)
    values = np.arange(14 * 5, dtype=float).reshape(14, 5)
    values[0, 1] = np.nan  # B has none on Friday, so none on the weekend
    stood = standing(calendars, values)
    assert np.array_equal(stood[1:3, :3], np.tile(values[0, :3], (2, 1)), equal_nan=True)
    assert np.array_equal(stood[:, 3:], values[:, 3:])
    assert np.array_equal(stood[3:8], values[3:8])
    later = values.copy()
    later[3:] += 1000
    assert np.array_equal(standing(calendars, later)[:3], stood[:3], equal_nan=True)


def test_one_class_is_the_panel_itself(tmp_path: Path) -> None:
    alone, _ = two()
    path = tmp_path / "prices.parquet"
    close = alone["stocks"]["close"].values
    pl.DataFrame({"date": WORK.repeat(3), "symbol": ["A", "B", "C"] * len(WORK), "close": close.ravel()}).write_parquet(
        path
    )
    source = {"source": f"parquet:{path}"}
    whole = load_panel(DataSettings(assets={"stocks": DataSettings(**source)}))
    assert whole.identical(load_panel(DataSettings(**source)))
    (own,) = own_calendars(whole)
    assert own.panel is whole
    assert own.name == ""
    assert class_names(whole) == []
    assert own.part(close) is close
    assert standing([own], close) is close


def test_bad_classes_are_refused() -> None:
    alone, _ = two()
    with pytest.raises(DataError, match="1 symbols come in two classes, the first X in crypto and more"):
        merge_classes({"crypto": alone["crypto"], "more": panel_of(WORK, ["X", "Z"], 3)})
    hours = np.arange("2024-03-01", "2024-03-03", dtype="datetime64[h]")
    with pytest.raises(DataError, match="stocks has days, crypto has bars within the day"):
        merge_classes({"stocks": alone["stocks"], "crypto": panel_of(hours, ["X"], 3)})
    index = panel_of(WORK, ["A"], 1, benchmark=np.ones(len(WORK)), benchmark_name="I")
    with pytest.raises(DataError, match=r"data\.assets\.stocks: a benchmark"):
        merge_classes({"stocks": index, "crypto": alone["crypto"]})


def test_settings_of_classes() -> None:
    one = {"source": "csv:a.csv"}
    for wrong, said in (
        ({"source": "csv:b.csv", "assets": {"a": one}}, "source given beside assets"),
        ({"start": "2020-01-01", "interval": "1h", "assets": {"a": one}}, "start, interval given beside assets"),
        ({"assets": {"a": {"assets": {"b": one}}}}, "assets.a: a class cannot have classes itself"),
        ({"assets": {"a": {**one, "benchmark": "I"}}}, "assets.a: a benchmark has the days of one class"),
        ({"assets": {"a": one, "b": {**one, "interval": "1h"}}}, "expected one interval for all, got a 1d, b 1h"),
        ({"assets": {"a/b": one}}, "pattern"),
        ({**one, "start": "2024-01-02", "end": "2024-01-01"}, "end 2024-01-01 is before start 2024-01-02"),
    ):
        with pytest.raises(ValidationError, match=said):
            DataSettings(**wrong)
    assert DataSettings(assets={"a": one, "b": one}).assets["b"].source == "csv:a.csv"


def test_an_unknown_source_of_a_class_is_said() -> None:
    with pytest.raises(ConfigError, match="unknown source 'cvs'"):
        load_panel(DataSettings(assets={"a": {"source": "cvs:a.csv"}, "b": {"source": "cvs:b"}}))


def test_columns_of_the_user_that_both_have_are_kept() -> None:
    alone, _ = two()
    tables = {
        "stocks": pl.DataFrame({"date": WORK, "symbol": "A", "mood": 1.0, "beta": 2.0}),
        "crypto": pl.DataFrame({"date": WEEK, "symbol": "Y", "beta": 3.0, "mood": 4.0, "gas": 5.0}),
    }
    given = {name: add_extra(panel, tables[name], "table") for name, panel in alone.items()}
    whole = merge_classes(given)
    assert column_names(whole) == ["mood", "beta"]
    values = whole["extra"].values
    assert values[0, 0].tolist() == [1, 2]
    assert values[1, 4].tolist() == [4, 3]
    assert np.isnan(values[1, 0]).all()
    assert "extra columns that not every asset class has are left out: gas" in whole.attrs["notes"]
    (stocks, _) = own_calendars(whole)
    assert np.array_equal(stocks.panel["extra"].values, given["stocks"]["extra"].values, equal_nan=True)
    assert "extra" not in merge_classes({**given, "crypto": alone["crypto"]})


def test_a_year_that_cannot_be_is_told() -> None:
    alone, whole = two()
    assert not any("bars a year" in note for note in whole.attrs["notes"])
    usual = {**alone, "crypto": panel_of(WEEK, ["X", "Y"], 2)}
    assert any("about 365 bars a year, but data.days_per_year is 252" in n for n in merge_classes(usual).attrs["notes"])
