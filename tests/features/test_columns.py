"""The user's own columns as features, from the table to a trained run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal

from mimstocr.config import Config
from mimstocr.data.panel import Panel, fingerprint, make_panel
from mimstocr.errors import DataError
from mimstocr.features.columns import Columns
from mimstocr.features.combined import Combined
from mimstocr.features.technical import Technical
from mimstocr.live import recommend
from mimstocr.training.prepare import prepare
from mimstocr.workflow import run

Make = Callable[..., Config]
LAGGED = {"kind": "columns", "lag": 1}
CPU = torch.device("cpu")


def bare() -> Panel:
    days = np.datetime64("2020-01-01") + np.arange(6)
    return make_panel({"close": np.ones((6, 2))}, days, ["A", "B"], source="test")


def panel() -> Panel:
    values = np.random.default_rng(0).normal(size=(6, 2, 2)).astype(np.float32)
    return bare().assign(extra=(("date", "symbol", "column"), values)).assign_coords(column=["mood", "size"])


def table(prices: Path, folder: Path) -> Path:
    """Two columns for the days and symbols of the prices, `mood` the return from the next day to the one after."""
    frame = pl.read_parquet(prices).select("date", "symbol", "close").sort("symbol", "date")
    mood = (pl.col("close").shift(-2) / pl.col("close").shift(-1) - 1).over("symbol")
    path = folder / "own.csv"
    frame.with_columns(mood=mood, size=pl.col("close").log()).drop("close").write_csv(path)
    return path


@pytest.mark.parametrize("lag", [0, 1, 5, 6, 9])
def test_lag_delays_by_days_of_the_data(lag: int) -> None:
    whole = panel()
    (found,) = Columns(lag=lag).series(whole, ["size"])
    expected = np.full((6, 2), np.nan)
    for day in range(lag, 6):
        expected[day] = whole["extra"].values[day - lag, :, 1]
    assert_array_equal(found, expected)


def test_names_choose_and_order() -> None:
    rows = np.ones((6, 2), dtype=bool)
    assert Columns().fit(panel(), rows).names == ("mood", "size")
    assert Columns(names=("size",)).fit(panel(), rows).names == ("size",)
    with pytest.raises(DataError, match="no column 'moot'; did you mean 'mood'"):
        Columns(names=("moot",)).fit(panel(), rows)


def test_without_a_table_it_is_refused() -> None:
    rows = np.ones((6, 2), dtype=bool)
    with pytest.raises(DataError, match=r"there is none; name it in data\.extra"):
        Columns().fit(bare(), rows)
    with pytest.raises(DataError, match=r"there is none; name it in data\.extra"):
        Columns().fit(panel(), rows).bind(bare(), CPU)


def test_a_table_that_nobody_reads_is_no_part_of_the_data(small: Make, prices: Path, tmp_path: Path) -> None:
    data = {"source": f"parquet:{prices}", "extra": str(table(prices, tmp_path))}
    unread, plain, read = (prepare(small(**c)) for c in ({"data": data}, {}, {"data": data, "features": LAGGED}))
    assert "extra" not in unread.panel
    assert fingerprint(unread.panel) == fingerprint(plain.panel)
    assert fingerprint(read.panel) != fingerprint(plain.panel)
    assert any("columns: " in note and "missing" in note for note in read.notes)


def test_a_run_learns_from_them_and_recommends(small: Make, prices: Path, tmp_path: Path) -> None:
    config = small(
        data={"source": f"parquet:{prices}", "extra": str(table(prices, tmp_path))},
        features={"kind": "combined", "window": 2, "parts": [{"kind": "columns", "names": ["mood"]}, "technical"]},
        training={"learning_rate": 0.02, "max_epochs": 8, "days_per_step": 4, "device": "cpu"},
    )
    result = run(config)
    assert result.metrics["ensemble"]["test"]["rank_ic"] > 0.5  # `mood` is the label
    days = pl.read_parquet(prices)["date"].unique().sort()
    known = recommend(config.folder, day=days[-3])
    assert known["symbol"].n_unique() == len(known)
    assert known["date"].unique().to_list() == [days[-3]]
    # the label of the last two days is not known
    with pytest.raises(DataError, match=rf"no number for the stocks of {days[-1]}; it has numbers up to {days[-3]}\."):
        recommend(config.folder)


def test_a_list_is_refused_where_the_table_has_nothing() -> None:
    values = np.full((6, 2, 2), np.nan, dtype=np.float32)
    values[:4, :, 0], values[1, 1, 1] = 1, 1
    stale = bare().assign(extra=(("date", "symbol", "column"), values)).assign_coords(column=["mood", "size"])
    for features in (Columns(), Columns(names=("mood",)), Columns(lag=2), Combined(parts=(Technical(), Columns()))):
        features.check_known(stale, 3)
    Columns(names=("size",)).check_known(stale, 1)
    Columns(lag=2).check_known(stale, 5)
    for features, day, said in (
        (Columns(), 4, "stocks of 2020-01-05; it has numbers up to 2020-01-04"),
        (Combined(parts=(Technical(), Columns())), 5, "stocks of 2020-01-06; it has numbers up to 2020-01-04"),
        (Columns(names=("size",)), 3, "stocks of 2020-01-04; it has numbers up to 2020-01-02"),
        (Columns(lag=1), 5, r"stocks of 2020-01-06 \(lag 1\); it has numbers up to 2020-01-04"),
        (Columns(lag=2), 1, r"stocks of 2020-01-02 \(lag 2\)"),
    ):
        with pytest.raises(DataError, match=said):
            features.check_known(stale, day)
