"""What a rolling model is given, for every kind of task: days by a plain loop, and nothing of later days.

No model is trained here; `test_periods.py` goes the whole way for some tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from mimstocr.config import Config
from mimstocr.training.prepare import Prepared, prepare

Make = Callable[..., Config]
SPLITS = {
    "train": ["2020-01-01", "2020-03-31"],
    "valid": ["2020-04-01", "2020-04-24"],
    "test": ["2020-04-27", "2020-05-22"],
}
KINDS: dict[str, dict[str, Any]] = {
    "return": {"kind": "return", "delay": 1, "horizon": 3},
    "slow": {"kind": "return", "delay": 0, "horizon": 1, "normalise": "none"},
    "direction": {"kind": "direction", "delay": 1, "horizon": 2},
    "volatility": {"kind": "volatility", "delay": 1, "horizon": 5},
    "volume": {"kind": "volume", "delay": 1, "horizon": 2},
    "regime": {"kind": "regime", "delay": 1, "horizon": 4, "history": 20},
    "trend": {"kind": "trend", "delay": 1, "horizon": 3},
    "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
    "position": {"kind": "position", "delay": 1, "loss": "stock_loss"},
}
FIELDS = ("open", "high", "low", "close", "volume")


def made(make: Make, every: str, tasks: dict[str, Any], file: Path | None = None, **changes: Any) -> Prepared:
    if file is not None:
        changes["data"] = {"source": f"parquet:{file}"}
    training = {"device": "cpu", "days_per_step": 4, "rolling": {"every": every, **changes.pop("rolling", {})}}
    return prepare(make(splits=SPLITS, training=training, balancer="ew", tasks=tasks, **changes))


def scrambled(table: pl.DataFrame, cut: date, seed: int) -> pl.DataFrame:
    """Other prices from a day on; some of the rows are then suspended, some are gone."""
    random = np.random.default_rng(seed)
    noise, fate = (pl.Series(values) for values in (random.uniform(0.5, 2, table.height), random.random(table.height)))
    later = pl.col("date") >= cut
    other = [pl.when(later).then(pl.col(name) * noise).otherwise(pl.col(name)).alias(name) for name in FIELDS]
    other[-1] = pl.when(later & (fate < 0.1)).then(0.0).otherwise(other[-1]).alias("volume")
    return table.with_columns(other).filter(~(later & (fate > 0.95)))


@pytest.mark.parametrize("every", ["week", "month"])
@pytest.mark.parametrize(("delay", "horizon", "window"), [(0, 1, None), (1, 1, None), (1, 5, 15), (2, 3, None)])
def test_the_days_by_a_plain_loop(
    small: Make, prices: Path, every: str, delay: int, horizon: int, window: int | None
) -> None:
    """A day may train when a stock traded on it, at the label's start and at its end, before the period begins."""
    task = {"kind": "return", "delay": delay, "horizon": horizon}
    prepared = made(small, every, {"return": task}, rolling={"train_days": window})
    table = pl.read_parquet(prices).filter(pl.col("volume") > 0)
    traded: dict[date, set[str]] = {}
    for day, symbol in table.select("date", "symbol").iter_rows():
        traded.setdefault(day, set()).add(symbol)
    days = sorted(traded)
    expected: dict[date, list[date]] = {}
    for at, day in enumerate(days):
        if day < date.fromisoformat(SPLITS["test"][0]):
            continue
        before = days[at - 1]
        same = day.isocalendar()[:2] == before.isocalendar()[:2] if every == "week" else day.month == before.month
        if expected and same:
            continue
        known = []
        for t in range(at):
            start, end = t + delay, t + delay + horizon
            if end < at and traded[days[t]] & traded[days[start]] & traded[days[end]]:
                known.append(days[t])
        expected[day] = known if window is None else known[-window:]
    dates = [day.astype("datetime64[D]").item() for day in prepared.days]
    assert {dates[p.first]: [dates[t] for t in p.train] for p in prepared.periods} == expected
    spans = [(p.first, p.stop) for p in prepared.periods]
    assert [stop for _, stop in spans] == [*(first for first, _ in spans[1:]), len(dates)]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_given_knows_later_days(small: Make, prices: Path, tmp_path: Path, kind: str) -> None:
    """Days, windows and targets of each period are the same whatever is in the table from its first day on."""
    main = {} if kind == "position" else {"return": KINDS["return"]}
    other = {"price": KINDS["return"]} if kind == "position" else {}
    tasks = {**main, kind: KINDS[kind], **other}
    whole = made(small, "week", tasks)
    table = pl.read_parquet(prices)
    places = [1, 3, 5]
    for place in places:
        period = whole.periods[place]
        cut = whole.days[period.first].astype("datetime64[D]").item()
        file = tmp_path / f"{place}.parquet"
        scrambled(table, cut, place).write_parquet(file)
        theirs = made(small, "week", tasks, file)
        for mine, other_period in zip(whole.periods[: place + 1], theirs.periods[: place + 1], strict=True):
            assert mine.first == other_period.first
            assert mine.train == other_period.train
        assert whole.open_batches is not None
        assert theirs.open_batches is not None
        one, two = whole.open_batches(period.train), theirs.open_batches(period.train)
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.valid, two.valid)
        for name in whole.learned:
            a, b = (torch.where(each.valid, each.targets[name], 0.0) for each in (one, two))
            assert torch.equal(a.isnan(), b.isnan()), (name, cut)
            assert torch.equal(a.nan_to_num(), b.nan_to_num()), (name, cut)
        later = whole.periods[-1]
        one, two = whole.open_batches(later.train), theirs.open_batches(later.train)
        assert one.x.shape != two.x.shape or not torch.equal(one.x, two.x)  # the scramble reaches what comes next
