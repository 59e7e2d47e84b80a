"""What training stands on with several asset classes: each class as it is alone, put side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimstocr.config import Config
from mimstocr.data.assets import own_calendars
from mimstocr.errors import ConfigError
from mimstocr.training.prepare import Prepared, prepare

Make = Callable[..., Config]
DAYS = np.datetime64("2023-01-02") + np.arange(154)
"""Twenty-two weeks."""
WORK = DAYS[np.is_busday(DAYS, holidays=["2023-04-07", "2023-05-01"])]
SPLITS = {
    "train": ["2023-01-02", "2023-04-02"],
    "valid": ["2023-04-03", "2023-05-05"],
    "test": ["2023-05-06", "2023-06-04"],
}
"""Train ends and the test starts on a weekend."""
TASKS = {"return": {"kind": "return", "delay": 1}, "momentum": {"kind": "momentum_line", "s": 3, "l": 2}}


def prices(days: np.ndarray, names: list[str], seed: int, scale: float) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    shape = (len(days), len(names))
    close = 20 * np.exp(np.cumsum(rng.normal(0, scale, shape), axis=0))
    volume = rng.integers(1_000, 9_000, shape).astype(float)
    volume[rng.random(shape) < 0.02] = 0
    columns = {"open": close * 1.001, "close": close, "volume": volume}
    keys = {"date": np.repeat(days, len(names)), "symbol": np.tile(names, len(days))}
    return pl.DataFrame({**keys, **{name: values.ravel() for name, values in columns.items()}})


TABLES = {"stocks": prices(WORK, ["A", "B", "C", "D"], 1, 0.02), "crypto": prices(DAYS, ["X", "Y", "Z"], 2, 0.05)}


@pytest.fixture
def both(small: Make, tmp_path: Path) -> Make:
    """A config of two classes; `tables` replaces their prices, all else as in `small`."""

    def make(tables: dict[str, pl.DataFrame] = TABLES, **changes: object) -> Config:
        folder = tmp_path / f"tables{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        assets = {name: {"source": f"parquet:{folder / f'{name}.parquet'}"} for name in tables}
        return small(**{"data": {"assets": assets}, "splits": SPLITS, "tasks": TASKS, **changes})

    return make


def alone(both: Make, name: str, **changes: object) -> Prepared:
    return prepare(both({name: TABLES[name]}, **changes))


@pytest.mark.parametrize("normalise", ["rank", "zscore", "none"])
def test_each_class_is_prepared_as_it_is_alone(both: Make, normalise: str) -> None:
    tasks = {**TASKS, "return": {**TASKS["return"], "normalise": normalise, "horizon": 3}}
    whole = prepare(both(tasks=tasks))
    assert whole.classes == ["stocks", "crypto"]
    for own in own_calendars(whole.panel):
        single = alone(both, own.name, tasks=tasks)
        assert single.classes == []
        for name in TASKS:
            assert np.array_equal(own.part(whole.labels[name]), single.labels[name], equal_nan=True)
        for key, value in single.fitted.constants().items():
            assert np.array_equal(whole.fitted.constants()[f"{own.name}/{key}"], value)
        days = [int(np.searchsorted(own.days, day)) for day in whole.train_days if own.open[day]]
        assert [day for day in days if day in single.train_days] == single.train_days
        for day in single.train_days + single.valid_days + single.test_days:
            one, two = single.batches([day]), whole.batches([int(own.days[day])])
            mine = np.isin(two.symbols[0].numpy(), own.symbols)
            assert np.array_equal(own.symbols[one.symbols[0].numpy()], two.symbols[0].numpy()[mine])
            assert one.x[0].equal(two.x[0, mine])
            for name in TASKS:
                there = two.targets[name][0, mine].numpy()
                assert np.array_equal(one.targets[name][0].numpy(), there, equal_nan=True)


def test_labels_end_in_their_split_on_the_days_of_the_class(both: Make) -> None:
    whole = prepare(both())
    stocks, crypto = own_calendars(whole.panel)
    label, days = whole.labels["return"], whole.days
    # the train split ends on Sunday 2 April: of the stocks on Friday 31 March, so Wednesday's label is the last
    assert np.isfinite(label[days == np.datetime64("2023-03-29")][0, stocks.symbols]).any()
    assert np.isnan(label[days == np.datetime64("2023-03-30")][0, stocks.symbols]).all()
    assert np.isfinite(label[days == np.datetime64("2023-03-31")][0, crypto.symbols]).any()
    assert np.isnan(label[days >= np.datetime64("2023-04-01")][0, crypto.symbols]).all()
    for own in (stocks, crypto):
        for split in whole.splits:
            for day in np.flatnonzero(np.isfinite(label[split.days][:, own.symbols]).any(axis=1)) + split.days.start:
                ends = own.days[np.searchsorted(own.days, day) + 2]
                assert split.days.start <= day <= ends < split.days.stop


def test_the_cross_section_is_who_trades_that_day(both: Make) -> None:
    whole = prepare(both())
    saturday = int(np.flatnonzero(whole.days == np.datetime64("2023-03-04"))[0])
    assert set(whole.batches([saturday]).symbols[0].tolist()) <= {4, 5, 6}
    batch = whole.batches([saturday - 1, saturday])
    assert batch.x.shape[1] == int(batch.valid.sum(dim=1).max())
    classes = batch.facts["asset_class"]
    assert classes[1][batch.valid[1]].tolist() == [1] * int(batch.valid[1].sum())
    assert set(classes[0][batch.valid[0]].tolist()) == {0, 1}


def test_prices_after_a_split_change_nothing_in_it(both: Make) -> None:
    one = prepare(both(balancer={"kind": "cqb", "indicator": "meta"}))
    cut = one.splits.train.last
    rng = np.random.default_rng(1)
    changed = {
        name: table.with_columns(
            pl.when(pl.col("date") > cut).then(pl.col(field) * noise).otherwise(pl.col(field)).alias(field)
            for field in ("open", "close", "volume")
        )
        for name, table in TABLES.items()
        if (noise := pl.Series(rng.uniform(0.5, 2.0, table.height))) is not None
    }
    two = prepare(both(changed, balancer={"kind": "cqb", "indicator": "meta"}))
    for name, constant in one.fitted.constants().items():
        assert np.array_equal(constant, two.fitted.constants()[name])
    assert one.train_days == two.train_days
    assert one.indicator_days == two.indicator_days
    for day in one.train_days + (one.indicator_days or []):
        a, b = one.batches([day]), two.batches([day])
        assert a.x.equal(b.x)
        for task in a.targets:
            assert np.array_equal(a.targets[task].numpy(), b.targets[task].numpy(), equal_nan=True)


@pytest.mark.parametrize("last", [f"2023-03-{day}" for day in range(25, 32)])
def test_meta_days_do_not_overlap_on_any_calendar(both: Make, last: str) -> None:
    splits = {**SPLITS, "train": ["2023-01-02", last]}
    prepared = prepare(both(balancer={"kind": "cqb", "indicator": "meta"}, splits=splits))
    assert prepared.indicator_days
    for own in own_calendars(prepared.panel):
        mine = [day for day in prepared.train_days if own.open[day]]
        assert own.days[np.searchsorted(own.days, max(mine)) + prepared.config.reach] < prepared.indicator_days[0]


def test_market_values_are_of_the_days_of_the_class(both: Make) -> None:
    whole = prepare(both(backbone={"kind": "hist", "hidden_size": 4, "num_layers": 1}))
    for own in own_calendars(whole.panel):
        single = alone(both, own.name, backbone={"kind": "hist", "hidden_size": 4, "num_layers": 1})
        day = single.train_days[-1]
        mine = np.isin(whole.batches([int(own.days[day])]).symbols[0].numpy(), own.symbols)
        value = whole.batches([int(own.days[day])]).facts["market_value"][0, mine]
        assert value.equal(single.batches([day]).facts["market_value"][0])
    assert any(note.startswith("stocks: no market value") for note in whole.notes)


def test_a_class_without_days_in_a_split_is_refused(both: Make) -> None:
    short = {**TABLES, "crypto": TABLES["crypto"].filter(pl.col("date") < pl.date(2023, 5, 7))}
    with pytest.raises(ConfigError, match=r"splits\.test: asset class crypto has 1 days from 2023-05-06 to 2023-06-02"):
        prepare(both(short))
    later = {**TABLES, "stocks": TABLES["stocks"].filter(pl.col("date") >= pl.date(2023, 4, 3))}
    with pytest.raises(ConfigError, match=r"splits\.train: asset class stocks has 0 days"):
        prepare(both(later))


def test_each_class_says_what_its_windows_lack(both: Make) -> None:
    late = {**TABLES, "crypto": TABLES["crypto"].filter(pl.col("date") >= pl.date(2023, 2, 1))}
    notes = prepare(both(late)).notes
    assert any(note.startswith("stocks: the first 7 training days lie less than a window (8 days)") for note in notes)
    assert any(note.startswith("crypto: the first 7 training days") for note in notes)
