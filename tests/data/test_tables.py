"""Long and wide tables: the same prices through every door, and every bad table refused."""

from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimstocr.data import DataSettings, load_panel, panel_from_frame, write_long
from mimstocr.data.panel import days_of, fingerprint, symbols_of, traded_money
from mimstocr.data.tables import find_columns
from mimstocr.errors import ConfigError, DataError

FIELDS = ("open", "high", "low", "close", "volume")
NAN = np.nan


def prices(n_days=8, symbols=("AAA", "BBB", "CC.D"), seed=0) -> pl.DataFrame:
    """A long table with holes and days without volume, sorted by date and symbol."""
    rng = np.random.default_rng(seed)
    days = [date(2020, 1, 2 + i) for i in range(n_days)]
    rows = [(day, symbol) for day in days for symbol in symbols if rng.random() > 0.15]
    close = rng.uniform(1, 200, len(rows))
    width = rng.uniform(0, 0.1, len(rows))
    volume = rng.integers(0, 3, len(rows)) * rng.uniform(1, 1e9, len(rows))
    return pl.DataFrame(
        {
            "date": [day for day, _ in rows],
            "symbol": [symbol for _, symbol in rows],
            "open": close * (1 + width / 2),
            "high": close * (1 + width),
            "low": close * (1 - width),
            "close": close,
            "volume": volume,
        }
    )


def brute(table: pl.DataFrame, name: str) -> np.ndarray:
    """(days, symbols) of one field, by the slowest obvious loop."""
    days = sorted(set(table["date"]))
    symbols = sorted(set(table["symbol"]))
    matrix = np.full((len(days), len(symbols)), np.nan, dtype=np.float32)
    for row in table.iter_rows(named=True):
        matrix[days.index(row["date"]), symbols.index(row["symbol"])] = row[name]
    return matrix


def to_pandas(table: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({name: table[name].to_list() for name in table.columns})


def wide(table: pl.DataFrame, name: str) -> pl.DataFrame:
    return table.pivot("symbol", index="date", values=name)


def write_csv(path, table):
    table.write_csv(path)


def write_parquet(path, table):
    table.write_parquet(path)


def load(address, **options):
    return load_panel(DataSettings(source=str(address), **options))


def csv(tmp_path, text, **options):
    path = tmp_path / "prices.csv"
    path.write_text(text, encoding="utf-8")
    return load(f"csv:{path}", **options)


# ---- the same prices, whichever way they come


def test_a_long_frame_becomes_the_obvious_matrix():
    table = prices()
    panel = panel_from_frame(table.sample(fraction=1.0, shuffle=True, seed=1))
    assert symbols_of(panel) == ["AAA", "BBB", "CC.D"]
    assert [day.item() for day in days_of(panel)] == sorted(set(table["date"]))
    for name in FIELDS:
        np.testing.assert_array_equal(panel[name].values, brute(table, name))
    known = ~np.isnan(brute(table, "close"))
    np.testing.assert_array_equal(panel["member"].values, known)
    np.testing.assert_array_equal(panel["tradable"].values, known & (brute(table, "volume") > 0))
    assert panel.attrs["source"] == "frame"
    assert panel.attrs["notes"] == ["fields the source lacks: vwap"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_long_wide_and_by_symbol_give_the_same_panel(tmp_path, kind):
    write = write_csv if kind == "csv" else write_parquet
    table = prices()
    expected = fingerprint(panel_from_frame(table))

    write(tmp_path / f"one.{kind}", table)
    (tmp_path / "several").mkdir()
    for number, part in enumerate(table.partition_by("date")):
        write(tmp_path / "several" / f"{number}.{kind}", part)
    (tmp_path / "by_symbol").mkdir()
    for (symbol,), part in table.partition_by("symbol", as_dict=True).items():
        write(tmp_path / "by_symbol" / f"{symbol}.{kind}", part.drop("symbol"))
    (tmp_path / "wide").mkdir()
    for name in FIELDS:
        columns = wide(table, name)
        write(tmp_path / "wide" / f"{name}.{kind}", columns.select("date", *reversed(columns.columns[1:])).reverse())

    for place in (f"one.{kind}", "several", "by_symbol", "wide"):
        panel = load(f"{kind}:{tmp_path / place}")
        assert fingerprint(panel) == expected, place
        assert panel.attrs["source"] == f"{kind}:{tmp_path / place}"


def test_pandas_frames_of_every_shape_give_the_same_panel():
    table = prices()
    expected = fingerprint(panel_from_frame(table))
    frame = to_pandas(table)
    stamps = frame.assign(date=pd.to_datetime(frame["date"]))
    shapes = {
        "columns": frame,
        "timestamps": stamps,
        "index of both": stamps.set_index(["date", "symbol"]),
        "index of both, unnamed": stamps.set_index(["date", "symbol"]).rename_axis([None, None]),
        "index of dates": stamps.set_index("date"),
        "index of dates, unnamed": stamps.set_index("date").rename_axis(None),
        "time zone": stamps.assign(date=stamps["date"].dt.tz_localize("Asia/Shanghai") + pd.Timedelta("2h")),
        "text": frame.assign(date=stamps["date"].dt.strftime("%Y-%m-%d")),
        "numbers": frame.assign(date=stamps["date"].dt.strftime("%Y%m%d").astype(int)),
        "category": frame.assign(symbol=frame["symbol"].astype("category")),
        "nullable": stamps.convert_dtypes(),
        "filtered": stamps.iloc[::-1],
        "capitals": stamps.rename(columns=str.upper),
        "dollars": stamps.rename(columns={name: f"${name}" for name in FIELDS}),
    }
    for shape, given_frame in shapes.items():
        before = given_frame.copy()
        assert fingerprint(panel_from_frame(given_frame)) == expected, shape
        pd.testing.assert_frame_equal(given_frame, before)


def test_dates_come_in_many_ways(tmp_path):
    table = prices()
    expected = fingerprint(panel_from_frame(table))
    day = pl.col("date")
    for way in (
        day.dt.to_string("%Y%m%d").cast(pl.Int64),
        day.dt.to_string("%Y%m%d"),
        day.cast(pl.Datetime("ns")) + pl.duration(hours=15),
        day.dt.to_string("%Y-%m-%dT15:00:00+08:00"),
        day.cast(pl.Datetime("ms")).dt.replace_time_zone("America/New_York"),
    ):
        table.with_columns(way.alias("date")).write_parquet(tmp_path / "t.parquet")
        assert fingerprint(load(f"parquet:{tmp_path / 't.parquet'}")) == expected, str(way)


def test_symbols_that_look_like_numbers_keep_their_zeros(tmp_path):
    panel = csv(tmp_path, "date,code,close\n20200102,000001,1\n20200102,600000,2\n")
    assert symbols_of(panel) == ["000001", "600000"]
    assert symbols_of(panel_from_frame(pl.DataFrame({"date": [20200102], "permno": [10107], "price": [1.5]}))) == [
        "10107"
    ]


def test_a_symbol_may_be_called_na(tmp_path):
    assert symbols_of(csv(tmp_path, "date,symbol,close\n2020-01-02,NA,1\n2020-01-02,null,2\n")) == ["NA", "null"]


def test_missing_values_are_written_in_many_ways(tmp_path):
    cells = ["", "NA", "n/a", "#N/A", "nan", "NULL", "None", " "]
    rows = "".join(f"2020-01-02,S{i},1,{cell}\n" for i, cell in enumerate(cells))
    panel = csv(tmp_path, "date,symbol,close,open\n" + rows + "2020-01-02,X, 2.5 ,1e1\n")
    np.testing.assert_array_equal(panel["open"].values[0], [NAN] * len(cells) + [10.0])
    assert panel["close"].sel(symbol="X").item() == 2.5


def test_rows_without_any_value_are_no_rows_and_empty_days_are_told(tmp_path):
    text = (
        "date,symbol,open,close\n2020-01-02,A,1,1\n2020-01-02,B,,\n2020-01-03,A,,\n2020-01-06,A,2,2\n2020-01-06,B,3,3\n"
    )
    panel = csv(tmp_path, text)
    assert [str(day) for day in days_of(panel)] == ["2020-01-02", "2020-01-06"]
    assert panel.attrs["dropped"] == {}
    assert "1 days without any price are left out: 2020-01-03" in panel.attrs["notes"]
    assert not panel["member"].sel(symbol="B").values[0]


def test_columns_that_mean_nothing_to_us_are_named(tmp_path):
    text = "date,symbol,close,sector,my alpha,vol,volume\n2020-01-02,A,1,Tech,5,9,7\n"
    panel = csv(tmp_path, text)
    assert "columns not used: sector, my alpha, vol" in panel.attrs["notes"]
    assert panel["volume"].item() == 7


def test_a_table_without_volume_says_what_that_means(tmp_path):
    notes = csv(tmp_path, "date,symbol,close\n2020-01-02,A,1\n").attrs["notes"]
    assert notes[0] == "fields the source lacks: open, high, low, vwap, volume"
    assert "every day with a close counts as tradable" in notes[1]


def test_columns_are_mapped_by_name(tmp_path):
    text = "when,who,Last Px,close\n2020-01-02,A,7,1\n"
    panel = csv(tmp_path, text, columns={"date": "when", "symbol": "who", "close": "Last Px"})
    assert panel["close"].item() == 7
    assert "columns not used: close" in panel.attrs["notes"]


def test_the_first_known_name_wins_and_equal_claims_are_refused():
    roles = find_columns(["time", "Date", "ticker", "code", "Close", "c"], {}, "t")
    assert roles.columns == {"date": "Date", "symbol": "ticker", "close": "Close"}
    assert roles.unused == ["time", "code", "c"]
    with pytest.raises(DataError, match=r"t: columns \['Adj Close', 'adj_close'\] all read as adjusted"):
        find_columns(["Adj Close", "adj_close"], {}, "t")


def test_separators_and_a_byte_order_mark(tmp_path):
    expected = fingerprint(csv(tmp_path, "date,symbol,close\n2020-01-02,A,1.5\n"))
    for text in (
        "\ufeffdate,symbol,close\n2020-01-02,A,1.5\n",
        "date;symbol;close\n2020-01-02;A;1.5\n",
        "date\tsymbol\tclose\r\n2020-01-02\tA\t1.5\r\n",
        '"date","symbol","close"\n"2020-01-02","A","1.5"\n',
    ):
        assert fingerprint(csv(tmp_path, text)) == expected, text


# ---- adjustment


def test_prices_are_brought_to_the_adjusted_close():
    table = pl.DataFrame(
        {
            "date": [20200102, 20200103],
            "symbol": ["A", "A"],
            "open": [100.0, 51.0],
            "close": [104.0, 50.0],
            "Adj Close": [52.0, 50.0],
            "volume": [10.0, 30.0],
            "vwap": [102.0, 50.5],
        }
    )
    panel = panel_from_frame(table)
    assert panel["close"].values[:, 0].tolist() == [52.0, 50.0]
    assert panel["open"].values[:, 0].tolist() == [100.0 * 52 / 104, 51.0]
    assert panel["vwap"].values[:, 0].tolist() == [102.0 * 52 / 104, 50.5]
    assert panel["volume"].values[:, 0].tolist() == [10.0 / (52 / 104), 30.0]
    assert panel["factor"].values[:, 0].tolist() == [52 / 104, 1.0]
    assert (
        "prices multiplied by adjusted close / close, volume divided by it; the ratio is factor" in panel.attrs["notes"]
    )


def test_half_an_adjustment_is_counted_and_a_bad_close_keeps_its_reason():
    table = pl.DataFrame(
        {
            "date": [20200102] * 6,
            "symbol": ["A", "B", "C", "D", "E", "F"],
            "open": [1.0, 1.0, 1.0, 1.0, 1.0, None],
            "close": [2.0, 2.0, None, 0.0, 2.0, None],
            "adj_close": [1.0, None, 1.0, 1.0, -1.0, None],
        }
    )
    panel = panel_from_frame(table, DataSettings(max_dropped=1))
    assert panel.attrs["dropped"] == {
        "only one of close and adjusted close": 2,
        "price infinite or not above zero": 2,
    }
    assert symbols_of(panel) == ["A", "D", "E"]
    assert panel["member"].values.tolist() == [[True, False, False]]
    assert panel["open"].sel(symbol="A").item() == 0.5
    assert "3 symbols have no price on these days and are left out: B, C, F" in panel.attrs["notes"]


def test_a_split_in_whole_numbers_does_not_make_the_volume_one_of_real_shares():
    table = pl.DataFrame(
        {
            "date": [20200102, 20200103, 20200106],
            "symbol": ["A"] * 3,
            "close": [100.0, 104.0, 26.0],
            "adj close": [25.0, 26.0, 26.0],
            "volume": [10.0, 20.0, 90.0],
        }
    )
    panel = panel_from_frame(table)
    assert panel["volume"].values[:, 0].tolist() == [40, 80, 90]
    assert traded_money(panel)[:, 0].tolist() == [1000, 2080, 2340]


def test_an_adjusted_close_alone_is_the_close_and_a_factor_is_not_applied():
    alone = panel_from_frame(pl.DataFrame({"date": [20200102], "symbol": ["A"], "adj_close": [3.0], "open": [4.0]}))
    assert (alone["close"].item(), alone["open"].item()) == (3.0, 4.0)
    assert any("the other prices are taken to be adjusted already" in note for note in alone.attrs["notes"])
    factor = panel_from_frame(pl.DataFrame({"date": [20200102], "symbol": ["A"], "close": [3.0], "factor": [2.0]}))
    assert (factor["close"].item(), factor["factor"].item()) == (3.0, 2.0)
    assert any(note.startswith("factor is recorded, not applied") for note in factor.attrs["notes"])


# ---- wide tables and files by symbol


def test_a_lone_wide_table_is_closes_even_with_tickers_that_read_as_fields(tmp_path):
    panel = csv(tmp_path, "Date,C,V,LOW,AAPL\n2020-01-02,1,2,3,4\n2020-01-03,5,,7,8\n")
    assert symbols_of(panel) == ["AAPL", "C", "LOW", "V"]
    np.testing.assert_array_equal(panel["close"].values, np.array([[4, 1, 3, 2], [8, 5, 7, NAN]], dtype=np.float32))
    assert panel.attrs["notes"][0] == (
        "no symbol column and no close: read as closes, one column for each of 4 symbols"
    )


def test_a_wide_frame_of_closes():
    frame = pd.DataFrame({"A": [1.0, 2.0], "B": [3.0, NAN]}, index=pd.to_datetime(["2020-01-02", "2020-01-03"]))
    np.testing.assert_array_equal(panel_from_frame(frame)["close"].values, np.array([[1, 3], [2, NAN]], dtype="f4"))


def test_a_file_of_one_symbol_takes_its_name(tmp_path):
    for header in ("Date,Open,High,Low,Close,Volume", "d8,o,h,l,c,v"):
        (tmp_path / "BRK-B.csv").write_text(f"{header}\n2020-01-02,2,3,1,2,9\n")
        columns = {"date": "d8"} if header.startswith("d8") else {}
        panel = load(f"csv:{tmp_path / 'BRK-B.csv'}", columns=columns)
        assert symbols_of(panel) == ["BRK-B"]
        assert panel["high"].item() == 3
        assert "no symbol column: the symbol is the name of the file (BRK-B)" in panel.attrs["notes"]


def test_wide_files_that_disagree_are_joined_and_it_is_told(tmp_path):
    (tmp_path / "close.csv").write_text("date,A,B\n2020-01-02,1,2\n2020-01-03,3,4\n")
    (tmp_path / "Volume.csv").write_text("date,B\n2020-01-03,9\n")
    (tmp_path / "beta.csv").write_text("date,B\n2020-01-03,9\n")
    panel = load(f"csv:{tmp_path}")
    np.testing.assert_array_equal(panel["volume"].values, np.array([[NAN, NAN], [NAN, 9]], dtype="f4"))
    assert "Volume.csv lacks 1 symbols that have a close: A" in panel.attrs["notes"]
    assert "files not used: beta.csv" in panel.attrs["notes"]


def test_files_by_symbol_may_differ_in_their_fields(tmp_path):
    (tmp_path / "A.csv").write_text("date,close,tradable\n2020-01-02,1,false\n2020-01-03,2,1\n")
    (tmp_path / "B.csv").write_text("date,close,open\n2020-01-02,3,4\n")
    panel = load(f"csv:{tmp_path}")
    np.testing.assert_array_equal(panel["open"].values, np.array([[NAN, 4], [NAN, NAN]], dtype="f4"))
    assert panel["tradable"].values.tolist() == [[False, True], [True, False]]


# ---- universe, benchmark, days


def test_a_universe_file_says_who_is_a_member_and_others_are_left_out(tmp_path):
    spans = tmp_path / "spans.csv"
    spans.write_text(
        "symbol,first,last\nAAA,2020-01-03,2020-01-04\nCC.D,2019-01-01,2030-01-01\nZZZ,2020-01-01,2020-12-31\n"
    )
    table = prices()
    panel = panel_from_frame(table, DataSettings(universe=str(spans)))
    assert symbols_of(panel) == ["AAA", "CC.D"]
    known = ~np.isnan(brute(table, "close"))
    inside = np.array([[day.item() in (date(2020, 1, 3), date(2020, 1, 4))] for day in days_of(panel)])
    np.testing.assert_array_equal(panel["member"].values[:, :1], inside & known[:, :1])
    np.testing.assert_array_equal(panel["member"].values[:, 1], known[:, 2])
    assert "1 symbols are never in the universe and are left out: BBB" in panel.attrs["notes"]
    assert "1 symbols of the universe have no prices and are left out: ZZZ" in panel.attrs["notes"]


def test_a_universe_that_matches_nothing_shows_both_sides(tmp_path):
    spans = tmp_path / "spans.csv"
    spans.write_text("SH600000,2020-01-01,2020-12-31\n")
    with pytest.raises(DataError, match=r"has prices .*; it names SH600000 there, the table AAA, BBB, CC.D"):
        panel_from_frame(prices(), DataSettings(universe=str(spans)))
    spans.write_text("AAA,2020-01-02\n")
    with pytest.raises(DataError, match=r"spans.csv, line 1: expected symbol, first day, last day"):
        panel_from_frame(prices(), DataSettings(universe=str(spans)))
    with pytest.raises(DataError, match="universe csi300: cannot be read"):
        panel_from_frame(prices(), DataSettings(universe="csi300"))


def test_a_member_column_is_the_universe_unless_another_is_named(tmp_path):
    table = prices().with_columns(member=pl.col("symbol") == "BBB")
    panel = panel_from_frame(table)
    assert symbols_of(panel) == ["BBB"]
    spans = tmp_path / "spans.csv"
    spans.write_text("AAA,2020-01-01,2020-12-31\n")
    panel = panel_from_frame(table, DataSettings(universe=str(spans)))
    assert symbols_of(panel) == ["AAA"]
    assert f"the table's column member is not used: the universe is {spans}" in panel.attrs["notes"]
    with pytest.raises(DataError, match="the column member is false everywhere"):
        panel_from_frame(table.with_columns(member=pl.lit(False)))


def test_the_benchmark_stands_beside_the_stocks():
    table = prices()
    panel = panel_from_frame(table, DataSettings(benchmark="BBB"))
    assert symbols_of(panel) == ["AAA", "CC.D"]
    np.testing.assert_array_equal(panel["benchmark"].values, brute(table, "close")[:, 1])
    assert panel.attrs["benchmark_name"] == "BBB"


def test_an_unknown_benchmark_names_the_close_match():
    with pytest.raises(
        ConfigError, match=r"data.benchmark: frame has no symbol 'BBBB'; did you mean 'BBB'\? it has AAA"
    ):
        panel_from_frame(prices(), DataSettings(benchmark="BBBB"))
    with pytest.raises(DataError, match="no cell of the days and symbols asked for"):
        panel_from_frame(prices(symbols=("BBB",)), DataSettings(benchmark="BBB"))


def test_days_are_cut_and_days_outside_name_the_range():
    table = prices()
    whole = panel_from_frame(table)
    part = panel_from_frame(table, DataSettings(start=date(2020, 1, 4), end=date(2020, 1, 6)))
    np.testing.assert_array_equal(part["close"].values, whole["close"].values[2:5])
    assert [str(day) for day in days_of(part)] == ["2020-01-04", "2020-01-05", "2020-01-06"]
    with pytest.raises(
        DataError, match="no day between 2021-01-01 and the end; the data goes from 2020-01-02 to 2020-01-09"
    ):
        panel_from_frame(table, DataSettings(start=date(2021, 1, 1)))


# ---- what is refused

HEAD = "date,symbol,close\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"prices.csv: expected a header line, got an empty file"),
        ("\n", r"prices.csv: expected a header line, got an empty line"),
        (HEAD, r"prices.csv: expected rows, got a header alone"),
        ("date,symbol,open\n2020-01-02,A,1\n", r"expected a close, got columns \['date', 'symbol', 'open'\]; name it"),
        ("when,symbol,close\n2020-01-02,A,1\n", r"expected a date column, got columns \['symbol', 'close', 'when'\]"),
        (
            HEAD + "2020-01-02,A,1\n2020-01-03,A,one\n",
            r"prices.csv, row 2, column 'close': expected a number, got 'one'",
        ),
        (HEAD + '2020-01-02,A,"1,000"\n', r"row 1, column 'close': expected a number, got '1,000'"),
        (HEAD + "2020-01-02,A,1\n02/01/2020,A,1\n", r"row 2, column 'date': expected a day as .*, got '02/01/2020'"),
        (HEAD + "2020-02-30,A,1\n", r"row 1, column 'date': .* got '2020-02-30'"),
        (HEAD + ",A,1\n", r"row 1, column 'date': .* got nothing"),
        (HEAD + "2020-01-02,A,1\n2020-01-02, ,1\n", r"row 2, column 'symbol': expected a symbol, got nothing"),
        (
            HEAD + "2020-01-02,A,1\n2020-01-03,B,1\n2020-01-02,A,2\n2020-01-03,B,1\n2020-01-02,A,1\n",
            r"expected one row for a day and symbol, but 3 come again, the first 2020-01-02 A; drop the repeats",
        ),
        (HEAD + "2020-01-02T09:30:00,A,1\n2020-01-02T09:31:00,A,1\n", r"1 come again.*bring intraday rows to days"),
        ("date,close\n2020-01-02,1\n2020-01-02,2\n", r"the first 2020-01-02 prices; .* name the symbol column"),
        ("date,close,close\n2020-01-02,1,1\n", r"expected each column once, but close come again"),
        (HEAD + "2020-01-02,A,1,9\n", r"cannot be read as one"),
        ("date,symbol,close,member\n2020-01-02,A,1,yes\n", r"column 'member': expected true or false, got 'yes'"),
        ("date,symbol,close,tradable\n2020-01-02,A,1,\n", r"column 'tradable': expected true or false, got nothing"),
        (HEAD + "9999-12-31,A,1\n", r"expected days from 1700-01-01 to 2200-01-01, got 9999-12-31"),
        (HEAD + "2020-01-02,A,\n", r"no cell of the days and symbols asked for"),
        ("date,AAA,BBB\n2020-01-02,1,x\n", r"row 1, column 'BBB': expected a number, got 'x'"),
        ("date,AAA\n2020-01-02,1\n2020-01-02,2\n", r"1 days come again, the first 2020-01-02"),
        ("date\n2020-01-02\n", r"expected a column for each symbol beside 'date', got none"),
        ("date,AAA, AAA\n2020-01-02,1,2\n", r"symbols AAA come twice but for blanks"),
    ],
)
def test_a_bad_csv_is_one_clear_error(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as caught:
        csv(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "prices.csv" in str(caught.value)


def test_too_much_dropped_is_refused(tmp_path):
    text = HEAD + "".join(f"2020-01-{day:02},A,{0 if day < 12 else 1}\n" for day in range(10, 30))
    with pytest.raises(
        DataError, match=r"2 of 20 rows \(10.0%\) cannot be used \(price infinite or not above zero: 2\)"
    ):
        csv(tmp_path, text)
    assert csv(tmp_path, text, max_dropped=0.1).attrs["dropped"] == {"price infinite or not above zero": 2}


def test_a_number_beyond_float32_is_dropped_and_counted(tmp_path):
    panel = csv(tmp_path, HEAD + "2020-01-02,A,1e39\n2020-01-02,B,1\n", max_dropped=1)
    assert panel.attrs["dropped"] == {"price infinite or not above zero": 1}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"close": "px_lst"}, r"data.columns.close: .*prices.csv has no column 'px_lst'; did you mean 'px_last'"),
        ({"clse": "px_last"}, r"data.columns: unknown field 'clse'; did you mean 'close'"),
    ],
)
def test_a_mapping_that_fits_nothing_names_the_close_match(tmp_path, columns, said):
    with pytest.raises(ConfigError, match=said):
        csv(tmp_path, "date,symbol,px_last\n2020-01-02,A,1\n", columns=columns)


def test_places_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder; expected .csv files there"):
        load(f"csv:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"expected .parquet or .pq files in the folder, got none"):
        load(f"parquet:{tmp_path}")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"expected .csv files in the folder, got notes.txt"):
        load(f"csv:{tmp_path}")


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_bytes(b"\x1f\x8b\x08\xff\xfe")
    with pytest.raises(DataError, match=r"expected UTF-8 text; save it as UTF-8, and unpack it"):
        load(f"csv:{path}")
    with pytest.raises(DataError, match=r"expected a Parquet file"):
        load(f"parquet:{path}")
    whole = tmp_path / "whole.parquet"
    prices().write_parquet(whole)
    path.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"expected a Parquet file"):
        load(f"parquet:{path}")


def test_missing_cells_of_a_mixed_pandas_column_stay_missing():
    frame = pd.DataFrame({"date": ["20200102"] * 3, "symbol": ["A", "B", "C"], "close": 1.0})
    panel = panel_from_frame(frame.assign(open=pd.Series([None, "2", 3], dtype=object)))
    np.testing.assert_array_equal(panel["open"].values, np.array([[NAN, 2, 3]], dtype="f4"))


def test_frames_that_cannot_be_used():
    frame = to_pandas(prices())
    with pytest.raises(DataError, match="expected rows, got an empty table"):
        panel_from_frame(frame.iloc[:0])
    with pytest.raises(DataError, match="expected a symbol column, got columns date, open, high"):
        panel_from_frame(frame.drop(columns="symbol"))
    with pytest.raises(DataError, match="expected a close, got columns"):
        panel_from_frame(frame.drop(columns="close"))
    with pytest.raises(DataError, match="expected one level of columns, got 2"):
        panel_from_frame(pd.concat({"A": frame}, axis=1))
    with pytest.raises(DataError, match="expected each column once, but date come again"):
        panel_from_frame(frame.set_index("date", drop=False))
    with pytest.raises(DataError, match="expected a pandas or Polars DataFrame, got dict"):
        panel_from_frame({"date": []})
    with pytest.raises(DataError, match="row 3, column 'close': expected a number, got 'x'"):
        panel_from_frame(frame.assign(close=["1", None, "x", *["2"] * (len(frame) - 3)]))
    with pytest.raises(DataError, match="expected symbols as text or whole numbers, got fractions"):
        panel_from_frame(frame.assign(symbol=1.5))
    stamps = pd.to_datetime(frame["date"])
    with pytest.raises(DataError, match=r"mine, row 2, column 'date': .* got nothing"):
        panel_from_frame(frame.assign(date=stamps.where(stamps.index != 1)), source="mine")


# ---- a round trip, whatever the values


@st.composite
def tables(draw):
    symbols = draw(st.lists(st.text("AB.z9é-", min_size=1, max_size=3), min_size=1, max_size=4, unique=True))
    n_days = draw(st.integers(1, 4))
    start = draw(st.dates(date(1950, 1, 1), date(2099, 1, 1)))
    positive = st.floats(2.0**-100, 2.0**100, width=32)
    rows = []
    for n in range(n_days):
        for symbol in symbols:
            if draw(st.booleans()):
                row = {"date": start.fromordinal(start.toordinal() + 3 * n), "symbol": symbol}
                row["close"] = draw(positive)
                row["volume"] = draw(st.none() | st.just(0.0) | positive)
                row["vwap"] = draw(st.none() | positive)
                row["member"] = draw(st.booleans())
                row["tradable"] = draw(st.booleans())
                rows.append(row)
    schema = {"date": pl.Date, "symbol": pl.String, "close": pl.Float64, "volume": pl.Float64, "vwap": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, "member": pl.Boolean, "tradable": pl.Boolean})


@settings(max_examples=60, deadline=None)
@given(table=tables(), kind=st.sampled_from(["csv", "parquet"]))
def test_what_is_written_reads_back_the_same(tmp_path_factory, table, kind):
    try:
        panel = panel_from_frame(table)
    except DataError:
        assert not table["member"].any()  # no rows, or no member: the only reasons to refuse such a table
        return
    path = tmp_path_factory.mktemp("trip") / f"panel.{kind}"
    write_long(panel, path)
    again = load(f"{kind}:{path}")
    kept = ~np.isnan(panel["close"].values)
    xr_days, xr_symbols = kept.any(axis=1), panel["member"].values.any(axis=0)
    assert again.equals(panel.isel(date=xr_days, symbol=xr_symbols))
    for column, symbol in enumerate(symbols_of(panel)):
        for row, day in enumerate(days_of(panel)):
            given_row = table.filter(pl.col("date") == day.item(), pl.col("symbol") == symbol)
            if len(given_row):
                expected = given_row.row(0, named=True)
                assert panel["close"].values[row, column] == np.float32(expected["close"])
                assert panel["member"].values[row, column] == expected["member"]
                assert panel["tradable"].values[row, column] == (expected["tradable"] and (expected["volume"] or 0) > 0)


def test_the_time_of_day_is_dropped_when_days_stay_unique():
    stamps = [datetime(2020, 1, 2, 15, 0), datetime(2020, 1, 3, 9, 30)]
    panel = panel_from_frame(pl.DataFrame({"timestamp": stamps, "asset": ["A", "A"], "price": [1.0, 2.0]}))
    assert [str(day) for day in days_of(panel)] == ["2020-01-02", "2020-01-03"]


def hours(n_bars=30, zone="") -> pl.DataFrame:
    """A long table of bars an hour apart, the time as text."""
    times = [datetime(2020, 1, 2, 20) + timedelta(hours=i) for i in range(n_bars)]
    return pl.DataFrame(
        {
            "time": [f"{time:%Y-%m-%d %H:%M}{zone}" for time in times for _ in "AB"],
            "symbol": ["A", "B"] * n_bars,
            "close": np.random.default_rng(0).uniform(1, 2, 2 * n_bars),
        }
    )


def by_hour(source, **settings):
    return load_panel(DataSettings(source=source, interval="1h", **settings))


def test_bars_within_the_day_keep_their_time_when_the_interval_says_so(tmp_path):
    table = hours()
    table.write_csv(tmp_path / "long.csv")
    long = by_hour(f"csv:{tmp_path / 'long.csv'}")
    times = np.arange("2020-01-02T20", "2020-01-04T02", dtype="M8[h]")
    np.testing.assert_array_equal(days_of(long), times)
    np.testing.assert_array_equal(long["close"].values[:, 1], table["close"].to_numpy()[1::2].astype(np.float32))
    table.pivot("symbol", index="time", values="close").write_csv(tmp_path / "wide.csv")
    np.testing.assert_array_equal(by_hour(f"csv:{tmp_path / 'wide.csv'}")["close"].values, long["close"].values)
    stamped = table.with_columns(pl.col("time").str.to_datetime("%Y-%m-%d %H:%M"))
    for unit in ("us", "ns"):
        stamped.cast({"time": pl.Datetime(unit)}).write_parquet(tmp_path / "long.parquet")
        assert fingerprint(by_hour(f"parquet:{tmp_path / 'long.parquet'}")) == fingerprint(long)
    write_long(long, tmp_path / "again.csv")
    assert fingerprint(by_hour(f"csv:{tmp_path / 'again.csv'}").drop_vars(["member", "tradable"])) == fingerprint(
        long.drop_vars(["member", "tradable"])
    )
    assert fingerprint(panel_from_frame(stamped, DataSettings(interval="1h"))) == fingerprint(long)


def test_times_with_a_zone_are_brought_to_utc(tmp_path):
    hours(zone="+02:00").write_csv(tmp_path / "zone.csv")
    first = np.datetime64("2020-01-02T18")
    assert days_of(by_hour(f"csv:{tmp_path / 'zone.csv'}"))[0] == first
    zoned = hours().with_columns(pl.col("time").str.to_datetime("%Y-%m-%d %H:%M").dt.replace_time_zone("Africa/Cairo"))
    zoned.write_parquet(tmp_path / "zone.parquet")
    assert days_of(by_hour(f"parquet:{tmp_path / 'zone.parquet'}"))[0] == first


def test_a_last_day_asked_for_has_all_its_bars(tmp_path):
    hours().write_csv(tmp_path / "long.csv")
    panel = by_hour(f"csv:{tmp_path / 'long.csv'}", start=date(2020, 1, 3), end=date(2020, 1, 3))
    assert len(days_of(panel)) == 24


def test_bars_that_are_not_what_the_interval_says_are_refused(tmp_path):
    hours().write_csv(tmp_path / "hours.csv")
    prices().write_csv(tmp_path / "days.csv")
    with pytest.raises(
        DataError, match=r"expected bars of 4h \(data.interval\), but 100% of them follow the one before"
    ):
        load_panel(DataSettings(source=f"csv:{tmp_path / 'hours.csv'}", interval="4h"))
    with pytest.raises(ConfigError, match="expected bars of 1h, but csv has days"):
        by_hour(f"csv:{tmp_path / 'days.csv'}")
    with pytest.raises(DataError, match=r"again, the first 2020-01-02 A.*say data\.interval"):
        load_panel(DataSettings(source=f"csv:{tmp_path / 'hours.csv'}"))
    hours().with_columns(time=pl.lit("noon")).write_csv(tmp_path / "noon.csv")
    with pytest.raises(DataError, match="row 1, column 'time': expected a time as YYYY-MM-DD HH:MM, got 'noon'"):
        by_hour(f"csv:{tmp_path / 'noon.csv'}")
