"""What is the CSV source's own; tables are tested in test_tables.py."""

import polars as pl

from mimstocr.data import DataSettings, load_panel


def test_a_name_with_wildcards_is_one_file(tmp_path):
    for name, close in (("prices[1].csv", 1), ("prices1.csv", 2)):
        (tmp_path / name).write_text(f"date,symbol,close\n2020-01-02,A,{close}\n")
    assert load_panel(DataSettings(source=f"csv:{tmp_path / 'prices[1].csv'}"))["close"].item() == 1


def test_columns_that_are_not_used_are_not_parsed(tmp_path):
    (tmp_path / "p.csv").write_text('date,symbol,note,close\n2020-01-02,A,"said ""buy, now""",1.5\n')
    assert load_panel(DataSettings(source=f"csv:{tmp_path / 'p.csv'}"))["close"].item() == 1.5


def test_numbers_are_rounded_once_to_float32(tmp_path):
    values = [0.1, 1 / 3, 16777217.0, 1e-30, 123456.789]
    table = pl.DataFrame({"date": ["2020-01-02"] * 5, "symbol": list("ABCDE"), "close": values})
    table.write_csv(tmp_path / "p.csv")
    read = load_panel(DataSettings(source=f"csv:{tmp_path / 'p.csv'}"))["close"].values[0]
    assert read.tolist() == pl.Series(values, dtype=pl.Float32).to_list()
