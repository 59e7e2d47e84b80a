"""Which days a rolling model learns from: by hand, and against the slowest obvious loop."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from mimstocr.config import make_config
from mimstocr.data.panel import Days
from mimstocr.errors import ConfigError, RunError
from mimstocr.training.checkpoint import save_checkpoint
from mimstocr.training.rolling import Rolling, calendar_periods, outdated, period_file, periods_of, weights_of


def work_days(first: str, n: int) -> Days:
    return np.busday_offset(first, np.arange(n), roll="forward").astype("datetime64[D]")


def test_months_by_hand() -> None:
    """Eight days from Wednesday 29 January; a label is known two days after its day; the test starts on the 31st."""
    days = work_days("2020-01-29", 8)  # W29 T30 F31 M03 T04 W05 T06 F07
    known, ends = np.arange(6), np.array([2, 3, 4, 5, 6, 7, 8, 8])
    found = periods_of(Rolling(every="month"), days, 2, known, ends)
    assert found == [(2, 3, []), (3, 8, [0])]  # on Monday the 3rd Wednesday's label is known, since the close of Friday
    weeks = periods_of(Rolling(every="week"), days, 2, known, ends)
    assert weeks == [(2, 3, []), (3, 8, [0])]  # the week that begins on Monday is the month's rest here
    later = periods_of(Rolling(every="month"), days, 4, known, ends)
    assert later == [(4, 8, [0, 1])]


@pytest.mark.parametrize("every", ["week", "month"])
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("seed", range(5))
def test_periods_against_a_slow_loop(every: str, window: int | None, seed: int) -> None:
    random = np.random.default_rng(seed)
    days = work_days("2019-11-20", 90)
    start, reach = int(random.integers(20, 60)), int(random.integers(1, 7))
    ends = np.minimum(np.arange(90) + reach, 90)
    known = np.flatnonzero(random.random(90) < 0.9)

    def period_of(day: date) -> tuple[int, int]:
        if every == "month":
            return (day.year, day.month)
        monday = day - timedelta(days=day.weekday())
        return (monday.toordinal(), 0)

    expected: list[tuple[int, int, list[int]]] = []
    for at in range(start, 90):
        new = at == start or period_of(days[at].item()) != period_of(days[at - 1].item())
        if new:
            past = [t for t in known.tolist() if t + reach <= at - 1]
            expected.append((at, at + 1, past if window is None else past[max(len(past) - window, 0) :]))
        else:
            expected[-1] = (expected[-1][0], at + 1, expected[-1][2])
    assert periods_of(Rolling(every=every, train_days=window), days, start, known, ends) == expected


def test_bars_within_the_day_are_of_the_week_of_their_day() -> None:
    bars = np.arange("2020-03-01T00", "2020-03-03T00", 6, dtype="datetime64[h]").astype("datetime64[ns]")
    weeks = calendar_periods("week", bars)
    assert (np.diff(weeks) != 0).tolist() == [False, False, False, True, False, False, False]  # Sunday to Monday
    assert len(set(calendar_periods("month", bars).tolist())) == 1
    assert calendar_periods("week", np.array(["1969-12-28", "1969-12-29"], dtype="datetime64[D]")).tolist() == [-2, -1]


def periods_on_disk(folder: Path, *, finished: bool = True) -> None:
    weight = {"model.w": torch.zeros(1)}
    for first, until in (("2020-02-03", "2020-01-29"), ("2020-03-02", "2020-02-26")):
        save_checkpoint(period_file(folder, first), weight, {"period": {"first": first, "until": until}})
    save_checkpoint(folder / "rolling" / "last.safetensors", weight, {"finished": finished})


def test_each_day_has_the_weights_of_its_period(tmp_path: Path) -> None:
    periods_on_disk(tmp_path)
    days = np.array(["2020-03-02", "2020-01-31", "2020-02-03", "2020-02-28", "2021-01-01"], dtype="datetime64[ns]")
    names = [path.stem for path in weights_of(tmp_path, days)]
    assert names == ["2020-03-02", "best", "2020-02-03", "2020-02-03", "2020-03-02"]
    bars = np.array(["2020-02-02T20", "2020-02-03T00", "2020-02-03T04"], dtype="datetime64[ns]")
    assert [path.stem for path in weights_of(tmp_path, bars)] == ["best", "2020-02-03", "2020-02-03"]


def test_days_after_the_last_period_are_told(tmp_path: Path) -> None:
    periods_on_disk(tmp_path)
    month, week = Rolling(), Rolling(every="week")
    assert outdated(tmp_path, month, np.datetime64("2020-03-31T20:00", "ns")) is None
    assert outdated(tmp_path, month, np.datetime64("2020-01-31")) is None
    told = outdated(tmp_path, month, np.datetime64("2020-04-01"))
    assert told is not None
    assert "of the month from 2020-03-02, was trained on days up to 2020-02-26; 2020-04-01 is in a later month" in told
    assert outdated(tmp_path, week, np.datetime64("2020-03-06")) is None
    assert outdated(tmp_path, week, np.datetime64("2020-03-09")) is not None


def test_periods_that_are_not_all_trained_predict_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        weights_of(tmp_path, np.array(["2020-02-03"], dtype="datetime64[D]"))
    periods_on_disk(tmp_path, finished=False)
    with pytest.raises(RunError, match="has not the models of all periods yet; go on with"):
        weights_of(tmp_path, np.array(["2020-02-03"], dtype="datetime64[D]"))


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"rolling": {"every": "day"}}, "training.rolling.every"),
        ({"rolling": {"epochs": 0}}, "training.rolling.epochs"),
        ({"rolling": {"train_days": 0}}, "training.rolling.train_days"),
        ({"rolling": {"learning_rate": 0}}, "training.rolling.learning_rate"),
        (
            {"rolling": {"train_days": 19}, "order": "blocks", "days_per_step": 20},
            "rolling.train_days: expected at least the 20 days of a block",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(training: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config({"training": training})
