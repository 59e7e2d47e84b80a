"""What is the Parquet source's own; tables are tested in test_tables.py."""

from decimal import Decimal

import polars as pl
import pytest

from mimstocr.data import DataSettings, load_panel
from mimstocr.errors import DataError


def load(path, **options):
    return load_panel(DataSettings(source=f"parquet:{path}", **options))


def test_only_the_columns_that_are_needed_are_read(tmp_path, monkeypatch):
    table = pl.DataFrame({"date": [20200102], "symbol": ["A"], "close": [1.0], "alpha": ["much text"]})
    table.write_parquet(tmp_path / "p.parquet")
    asked = []
    read = pl.read_parquet
    monkeypatch.setattr(pl, "read_parquet", lambda *a, **k: asked.extend(k["columns"]) or read(*a, **k))
    assert load(tmp_path / "p.parquet").attrs["notes"][0] == "columns not used: alpha"
    assert sorted(asked) == ["close", "date", "symbol"]


def test_the_types_that_numbers_come_in(tmp_path):
    table = pl.DataFrame(
        {
            "date": [20200102, 20200103],
            "symbol": pl.Series(["A", "A"], dtype=pl.Categorical),
            "close": [Decimal("1.50"), Decimal("2.25")],
            "open": pl.Series([1, 2], dtype=pl.UInt8),
            "high": ["2.5", None],
            "volume": pl.Series([5, 7], dtype=pl.Int64),
            "vwap": [None, None],
        }
    )
    table.write_parquet(tmp_path / "p.pq")
    panel = load(tmp_path)  # a folder of .pq files
    assert panel["close"].values[:, 0].tolist() == [1.5, 2.25]
    assert panel["open"].values[:, 0].tolist() == [1, 2]
    assert panel["high"].values[0, 0] == 2.5
    assert panel["tradable"].values.all()


def test_true_and_false_are_no_prices(tmp_path):
    table = pl.DataFrame({"date": [20200102], "symbol": ["A"], "close": [True]})
    table.write_parquet(tmp_path / "p.parquet")
    with pytest.raises(DataError, match="column 'close': expected a number, got True"):
        load(tmp_path / "p.parquet")
