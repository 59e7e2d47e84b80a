"""The user's own table at the door."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal

from mimstocr.data.extra import add_extra, column_names, read_extra
from mimstocr.data.panel import Panel, fingerprint, make_panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel
from mimstocr.errors import DataError

nan = float("nan")


def panel_of(*symbols: str) -> Panel:
    days = np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]")
    return make_panel({"close": np.ones((3, len(symbols)))}, days, symbols, source="made")


def written(folder: Path, text: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def added(folder: Path, text: str, *symbols: str) -> Panel:
    return add_extra(panel_of(*symbols), read_extra(written(folder, text)), "own table")


def test_cells_go_to_their_day_and_symbol(tmp_path: Path) -> None:
    text = "symbol,mood,date,volume\nB,1.5,2020-01-03,7\nA,,2020-01-01,8\nA,-2,20200102,NaN\n"
    panel = added(tmp_path, text, "A", "B")
    assert column_names(panel) == ["mood", "volume"]  # names of fields of prices are free here
    assert panel["extra"].dims == ("date", "symbol", "column")
    assert panel["extra"].dtype == np.float32
    assert_array_equal(panel["extra"].values[..., 0], [[nan, nan], [-2, nan], [nan, 1.5]])
    assert_array_equal(panel["extra"].values[..., 1], [[8, nan], [nan, nan], [nan, 7]])
    assert panel.attrs["notes"] == ["own table: columns mood, volume, 50.0% of the rows with a close"]
    assert not panel["extra"].values.flags.writeable


def test_parquet_and_other_separators_read_alike(tmp_path: Path) -> None:
    one = read_extra(written(tmp_path, "Ticker;Trade Date;mood\nA;2020-01-01;3\n"))
    frame = pl.DataFrame({"ticker": ["A"], "day": [date(2020, 1, 1)], "mood": [3]})
    frame.write_parquet(tmp_path / "own.parquet")
    assert one.equals(read_extra(tmp_path / "own.parquet"))


def test_an_index_column_without_a_name_is_no_number(tmp_path: Path) -> None:
    assert read_extra(written(tmp_path, ",date,symbol,mood\n0,2020-01-01,A,3\n")).columns == ["date", "symbol", "mood"]


def test_rows_of_other_days_and_symbols_are_counted_and_said(tmp_path: Path) -> None:
    text = "date,symbol,mood\n2020-01-01,A,1\n2019-12-31,A,2\n2020-01-01,Z,3\n"
    panel = added(tmp_path, text, "A", "B")
    assert panel.attrs["notes"][1:] == ["own table: 2 of 3 rows are of days or symbols that the prices have not"]
    assert np.isfinite(panel["extra"].values).sum() == 1


def test_times_meet_bars_within_the_day(tmp_path: Path) -> None:
    panel = panel_of("A")
    hours = np.array(["2020-01-01T09:00", "2020-01-01T10:00", "2020-01-01T11:00"], dtype="datetime64[ns]")
    panel = panel.assign_coords(date=hours)
    text = "date,symbol,mood\n2020-01-01T10:00,A,5\n2020-01-01T11:00+01:00,A,9\n"
    with pytest.raises(DataError, match="2 rows share theirs, the first 2020-01-01 10:00"):
        add_extra(panel, read_extra(written(tmp_path, text), times=True), "own table")
    text = text.replace("+01:00", "") + "2020-01-01,A,2\n"
    found = add_extra(panel, read_extra(written(tmp_path, text), times=True), "own table")
    assert_array_equal(found["extra"].values[:, 0, 0], [nan, 5, 9])
    assert "1 of 3 rows" in found.attrs["notes"][-1]
    with pytest.raises(DataError, match="expected a time of day in each row"):
        add_extra(panel, read_extra(written(tmp_path, "date,symbol,mood\n2020-01-01,A,2\n"), times=True), "own table")


def test_the_fingerprint_knows_the_table(tmp_path: Path) -> None:
    bare = panel_of("A", "B")
    one = added(tmp_path, "date,symbol,mood\n2020-01-01,A,1\n", "A", "B")
    other = added(tmp_path, "date,symbol,mood\n2020-01-01,A,2\n", "A", "B")
    assert len({fingerprint(panel) for panel in (bare, one, other)}) == 3


def test_a_second_table_takes_the_place_of_the_first(tmp_path: Path) -> None:
    one = added(tmp_path, "date,symbol,mood,size\n2020-01-01,A,1,2\n", "A")
    two = add_extra(one, read_extra(written(tmp_path, "date,symbol,age\n2020-01-01,A,4\n")), "other table")
    assert column_names(two) == ["age"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a header line"),
        ("date,symbol,mood\n", "expected rows, got a header alone"),
        ("date,mood\n2020-01-01,1\n", "expected a column symbol, got date, mood"),
        ("symbol,mood\nA,1\n", "expected a column date, got symbol, mood"),
        ("date,symbol\n2020-01-01,A\n", "expected columns of numbers beside date and symbol, got none"),
        ("date,symbol,mood\nsoon,A,1\n", "row 1, column 'date': expected a day"),
        ("date,symbol,mood\n2020-01-01,,1\n", "row 1, column 'symbol': expected a symbol"),
        (
            "date,symbol,mood\n2020-01-01,A,1\n2020-01-02,A,high\n",
            "row 2, column 'mood': expected a number, got 'high'",
        ),
        ("date,symbol,mood\n2020-01-01,A,1e39\n", "row 1, column 'mood': expected a number that float32 can hold"),
        ("date,symbol,mood\n2020-01-01,A,inf\n", "row 1, column 'mood': expected a number that float32 can hold"),
        ("date,symbol,mood,mood\n2020-01-01,A,1,2\n", "expected each column once"),
        ("time,ticker,symbol,mood\n2020-01-01,A,1,2\n", None),
        ("day,ticker,mood,date\n2020-01-01,A,1,2020-01-02\n", "column 'day': expected a number, got '2020-01-01'"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, said: str | None) -> None:
    with pytest.raises(DataError, match=said):
        read_extra(written(tmp_path, text))


def test_repeats_and_a_table_of_another_market_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 rows share theirs, the first 2020-01-01 A; drop the repeats"):
        added(tmp_path, "date,symbol,mood\n2020-01-01,A,1\n2020-01-02,A,1\n2020-01-01,A,1\n", "A")
    with pytest.raises(DataError, match=r"none of its rows is of made .it has 2020-01-01.* Z; .*write both alike"):
        added(tmp_path, "date,symbol,mood\n2020-01-01,Z,1\n", "A")
    with pytest.raises(DataError, match="no such file"):
        read_extra(tmp_path / "none.csv")


def test_the_setting_brings_it_into_the_panel(prices: Path, tmp_path: Path) -> None:
    day = pl.read_parquet(prices)["date"].max()
    path = written(tmp_path, f"date,symbol,mood\n{day},S03,4\n")
    panel = load_panel(DataSettings(source=f"parquet:{prices}", extra=path))
    assert panel["extra"].values[-1, 3, 0] == 4
    assert np.isfinite(panel["extra"].values).sum() == 1
