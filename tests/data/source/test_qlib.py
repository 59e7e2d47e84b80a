"""Qlib's binary format, on a folder made here and on real data."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimstocr.data import DataSettings, load_panel, panel_from_frame
from mimstocr.data.panel import days_of, fingerprint, symbols_of
from mimstocr.errors import ConfigError, DataError

NAN = np.nan
CALENDAR = ["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07", "2020-01-08"]
# symbol -> index of its first day, and its fields
STOCKS = {
    "SH1": (0, {"close": [1, 2, 3, 4, 5], "open": [1, 2, 3, 4, 4], "volume": [9, 9, 0, 9, 9]}),
    "SZ2": (2, {"close": [7, NAN, 9], "open": [7, NAN, 9], "volume": [8, NAN, 8]}),
    "SH9": (1, {"close": [101, 102, 103, 104]}),
}


def write_bin(folder: Path, symbol: str, field: str, first: int, values: list[float]) -> Path:
    place = folder / "features" / symbol.lower()
    place.mkdir(parents=True, exist_ok=True)
    np.array([first, *values], dtype="<f4").tofile(place / f"{field}.day.bin")
    return place / f"{field}.day.bin"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "calendars").mkdir()
    (tmp_path / "calendars/day.txt").write_text("\n".join(CALENDAR) + "\n")
    (tmp_path / "instruments").mkdir()
    (tmp_path / "instruments/all.txt").write_text("SH1\t2020-01-02\t2020-01-08\nSZ2\t2020-01-06\t2020-01-08\n")
    (tmp_path / "instruments/duo.txt").write_text("SH1\t2020-01-02\t2020-01-03\nSZ2\t2020-01-02\t2020-01-31\n")
    for symbol, (first, fields) in STOCKS.items():
        for field, values in fields.items():
            write_bin(tmp_path, symbol, field, first, values)
    return tmp_path


def load(folder, **options):
    return load_panel(DataSettings(source=f"qlib:{folder}", **options))


def test_a_folder_becomes_the_obvious_panel(folder):
    panel = load(folder, universe="duo", benchmark="SH9")
    assert symbols_of(panel) == ["SH1", "SZ2"]
    assert [str(day) for day in days_of(panel)] == CALENDAR
    close = np.array([[1, NAN], [2, NAN], [3, 7], [4, NAN], [5, 9]], dtype=np.float32)
    np.testing.assert_array_equal(panel["close"].values, close)
    np.testing.assert_array_equal(panel["benchmark"].values, np.array([NAN, 101, 102, 103, 104], dtype="f4"))
    assert panel["member"].values.tolist() == [[True, False]] * 2 + [[False, True], [False, False], [False, True]]
    assert panel["tradable"].values.tolist() == [[1, 0], [1, 0], [0, 1], [1, 0], [1, 1]]
    assert panel.attrs["notes"] == [
        "fields the source lacks: high, low, vwap",
        "benchmark SH9 has no close on 1 of 5 days",
    ]


def test_the_same_prices_as_a_table(folder):
    rows = [
        {"date": CALENDAR[first + i], "symbol": symbol, **{name: values[i] for name, values in fields.items()}}
        for symbol, (first, fields) in STOCKS.items()
        for i in range(len(fields["close"]))
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    options = {"universe": str(folder / "instruments/duo.txt"), "benchmark": "SH9"}
    assert fingerprint(panel_from_frame(table, DataSettings(**options))) == fingerprint(load(folder, **options))


def test_days_are_cut_without_moving_any_value(folder):
    whole = load(folder)
    part = load(folder, start=date(2020, 1, 5), end=date(2020, 1, 7), benchmark="SH9")
    assert [str(day) for day in days_of(part)] == CALENDAR[2:4]
    np.testing.assert_array_equal(part["close"].values, whole["close"].values[2:4])
    assert part["benchmark"].values.tolist() == [102, 103]
    assert symbols_of(load(folder, end=date(2020, 1, 3))) == ["SH1"]


def test_the_benchmark_is_no_stock_even_where_the_universe_lists_it(folder):
    (folder / "instruments/all.txt").write_text("SH1\t2020-01-02\t2020-01-08\nSH9\t2020-01-02\t2020-01-08\n")
    assert symbols_of(load(folder)) == ["SH1", "SH9"]
    assert symbols_of(load(folder, benchmark="SH9")) == ["SH1"]


def test_symbols_without_prices_and_short_files_are_told(folder):
    with (folder / "instruments/all.txt").open("a") as file:
        file.write("SZ404\t2020-01-02\t2020-01-08\n")
    for field in STOCKS["SZ2"][1]:
        write_bin(folder, "SZ2", field, 2, [7, 8])
    notes = load(folder).attrs["notes"]
    assert "1 symbols of the universe have no prices and are left out: SZ404" in notes
    assert "1 symbols lack days that their span in the universe promises: SZ2" in notes


# ---- what is refused


def test_folders_that_are_not_qlibs(tmp_path, folder):
    with pytest.raises(DataError, match=r"qlib:.*nowhere: no such folder; expected one with calendars/"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"calendars/day.txt, instruments, features missing; expected a folder in Qlib's"
    ):
        load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "day.txt is empty"),
        ("2020-01-02\n2020-01-02\n", "days must increase without repeats"),
        ("2020-01-03\n2020-01-02\n", "days must increase without repeats"),
        ("2020-01-02\nMonday\n", r"expected one YYYY-MM-DD a line \(Invalid isoformat string: 'Monday'\)"),
        ("2020\n2021\n", "expected one YYYY-MM-DD a line"),
    ],
)
def test_a_bad_calendar(folder, lines, said):
    (folder / "calendars/day.txt").write_text(lines)
    with pytest.raises(DataError, match=said):
        load(folder)


def test_compact_days_in_the_calendar_are_days_and_not_years(folder):
    (folder / "calendars/day.txt").write_text("\n".join(CALENDAR).replace("-", ""))
    assert [str(day) for day in days_of(load(folder))] == CALENDAR


def test_a_calendar_that_disagrees_with_the_features(folder):
    (folder / "calendars/day.txt").write_text("\n".join(CALENDAR[:4]))
    with pytest.raises(
        DataError, match=r"starts at day 0 with 5 values, but calendars/day.txt has 4 days; .* versions"
    ):
        load(folder)


def test_truncated_files(folder):
    path = write_bin(folder, "SH1", "open", 0, [1, 2, 3, 4, 5])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(
        DataError, match=r"open.day.bin: 21 bytes is not a whole number of float32 values; .* truncated"
    ):
        load(folder)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes is not a whole number"):
        load(folder)
    path.write_bytes(whole[:-4])
    with pytest.raises(DataError, match=r"sh1: the fields disagree on their days \(open 4 from day 0, .* truncated"):
        load(folder)
    write_bin(folder, "SH1", "open", -1, [1, 2, 3, 4, 5])
    with pytest.raises(DataError, match="starts at day -1 with 5 values"):
        load(folder)


def test_universes_and_benchmarks_that_are_not_there(folder):
    with pytest.raises(DataError, match=r"no universe 'dou' under instruments/, and no such file; did you mean 'duo'"):
        load(folder, universe="dou")
    with pytest.raises(DataError, match="benchmark 'SH000300' has no close under features/; name an index"):
        load(folder, benchmark="SH000300")
    (folder / "instruments/ghosts.txt").write_text("SZ404\t2020-01-02\t2020-01-08\n")
    with pytest.raises(DataError, match="none of the 1 symbols of universe 'ghosts' between 2020-01-02 and 2020-01-08"):
        load(folder, universe="ghosts")
    (folder / "instruments/broken.txt").write_text("SH1\t2020-01-02\n")
    with pytest.raises(DataError, match=r"broken.txt, line 1: expected symbol, first day, last day"):
        load(folder, universe="broken")


def test_days_outside_the_data(folder):
    with pytest.raises(
        DataError, match="no trading day between 2021-01-01 and the end; the data goes from 2020-01-02 to"
    ):
        load(folder, start=date(2021, 1, 1))


def test_no_close_and_columns(folder):
    for path in folder.glob("features/*/close.day.bin"):
        path.unlink()
    with pytest.raises(DataError, match=r"no close.day.bin under features/"):
        load(folder)
    with pytest.raises(ConfigError, match=r"data.columns is for tables"):
        load(folder, columns={"close": "px"})


# ---- real data


def test_real_data_against_the_dumbest_reading(csi300):
    panel = load(csi300, universe="csi300", benchmark="SH000300", start=date(2012, 1, 1))
    calendar = np.array((csi300 / "calendars/day.txt").read_text().split(), dtype="datetime64[D]")
    asked = calendar >= np.datetime64("2012-01-01")
    np.testing.assert_array_equal(days_of(panel), calendar[asked])
    for symbol in ("SH600000", "SZ000002", "SZ300676"):
        for field in ("open", "high", "low", "close", "volume", "factor"):
            raw = np.fromfile(csi300 / "features" / symbol.lower() / f"{field}.day.bin", dtype="<f4")
            expected = np.full(len(calendar), np.nan, dtype=np.float32)
            for i, value in enumerate(raw[1:]):
                expected[int(raw[0]) + i] = value
            np.testing.assert_array_equal(panel[field].sel(symbol=symbol).values, expected[asked], f"{symbol} {field}")
    raw = np.fromfile(csi300 / "features/sh000300/close.day.bin", dtype="<f4")
    np.testing.assert_array_equal(panel["benchmark"].values, raw[1:][asked[int(raw[0]) :]])


def test_real_suspended_days_are_not_tradable(csi300):
    panel = load(csi300, universe="csi300")
    volume, known = panel["volume"].values, ~np.isnan(panel["close"].values)
    assert (volume == 0).sum() == 57_004
    assert (known & np.isnan(volume)).sum() == 3  # a suspended stock's volume may be missing too
    np.testing.assert_array_equal(panel["tradable"].values, known & ~np.isnan(volume) & (volume != 0))
    members = panel["member"].values.sum(axis=1)
    assert members.min() >= 200
    assert members.max() <= 300
    assert panel.attrs["dropped"] == {}
