"""Whole runs on bars within the day, and on two asset classes with calendars of their own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import mimstocr
from mimstocr.cli.main import invoke
from mimstocr.config import Config
from mimstocr.data.panel import days_of, resolved
from mimstocr.errors import ConfigError, DataError, RunError
from mimstocr.training.loop import Moment
from mimstocr.workflow import Quiet, explain_day, load_panel, write_report

Make = Callable[..., Config]
QUICK = {"learning_rate": 0.01, "max_epochs": 2, "days_per_step": 4, "device": "cpu"}
WEEK = np.datetime64("2023-01-02") + np.arange(140)
"""Monday to Sunday, twenty weeks."""


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, however it was wrapped."""
    return " ".join(capsys.readouterr().out.split())


def table(times: np.ndarray, names: list[str], seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    shape = (len(times), len(names))
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, shape), axis=0))
    keys = {"date": np.repeat(times, len(names)), "symbol": np.tile(names, len(times))}
    volume = rng.integers(1_000, 9_000, shape)
    return pl.DataFrame({**keys, "close": close.ravel(), "volume": volume.ravel().astype(float)})


@pytest.fixture
def hourly(small: Make, tmp_path: Path) -> Config:
    hours = np.arange("2024-03-01T00", "2024-03-08T12", dtype="datetime64[h]").astype("datetime64[ms]")
    path = tmp_path / "hours.csv"
    table(hours, [f"C{i}" for i in range(6)], 0).write_csv(path, datetime_format="%Y-%m-%d %H:%M")
    data = {"source": f"csv:{path}", "interval": "1h", "days_per_year": 8766}
    return small(name="hours", data=data, training=QUICK)


@pytest.fixture
def classes(small: Make, tmp_path: Path) -> Config:
    table(WEEK[np.is_busday(WEEK)], [f"S{i}" for i in range(6)], 1).write_parquet(tmp_path / "stocks.parquet")
    table(WEEK, [f"X{i}" for i in range(4)], 2).write_parquet(tmp_path / "crypto.parquet")
    assets = {
        "stocks": {"source": f"parquet:{tmp_path / 'stocks.parquet'}"},
        "crypto": {"source": f"parquet:{tmp_path / 'crypto.parquet'}", "days_per_year": 365},
    }
    return small(name="classes", data={"assets": assets}, training=QUICK, seeds=[0, 1])


def test_a_run_on_hours(hourly: Config, capsys: pytest.CaptureFixture[str]) -> None:
    folder = mimstocr.run(hourly).folder.path
    predictions = pl.read_parquet(folder / "predictions.parquet")
    assert predictions["date"].dtype == pl.Datetime("ms")
    panel = load_panel(hourly.data)
    days = days_of(panel)
    test = predictions.filter(pl.col("split") == "test")["date"].unique().sort()
    # 180 bars; 80 % of them are on the seventh day, which is the test's first
    assert test[0] == datetime(2024, 3, 7)
    assert test[-1] == datetime(2024, 3, 8, 11)
    assert len(test) == 36
    labels = predictions.filter((pl.col("symbol") == "C3") & (pl.col("split") == "test")).sort("date")
    close = panel["close"].values[:, 3]
    at = np.searchsorted(days, labels["date"].to_numpy())
    known = labels["label.return"].to_numpy()[:-2]
    assert np.allclose(known, close[at[:-2] + 2] / close[at[:-2] + 1] - 1, atol=1e-5)
    assert labels["label.return"][-2:].null_count() == 2

    result = mimstocr.run_backtest(folder)
    assert len(result.days) == 36 - 2
    assert result.days.dtype == "datetime64[ms]"
    page = (folder / "report.html").read_text()
    assert "2024-03-08 11:00" in page
    assert "bars within the day, 60 minutes from one to the next" in page
    splits = json.loads((folder / "data.json").read_text())["splits"]
    assert (splits["test"]["first"], splits["test"]["last"]) == ("2024-03-07", "2024-03-08")

    last = mimstocr.recommend(folder)
    assert last["date"].unique().to_list() == [datetime(2024, 3, 8, 11)]
    assert mimstocr.recommend(folder, day=date(2024, 3, 7))["date"][0] == datetime(2024, 3, 7, 23)
    assert mimstocr.recommend(folder, day=datetime(2024, 3, 7, 5))["date"][0] == datetime(2024, 3, 7, 5)
    with pytest.raises(DataError, match=r"2024-03-07 05:30:00 is not a trading day.*before it is 2024-03-07 05:00"):
        mimstocr.recommend(folder, day=datetime(2024, 3, 7, 5, 30))
    told = explain_day(folder, datetime(2024, 3, 7, 5))
    assert told.day == np.datetime64("2024-03-07T05")
    assert told.decided == np.datetime64("2024-03-07T04")
    assert explain_day(folder, date(2024, 3, 7)).day == np.datetime64("2024-03-07T23")

    capsys.readouterr()
    assert invoke(["recommend", str(folder), "--date", "2024-03-07T05:00"]) == 0
    assert "2024-03-07 05:00" in printed(capsys)
    assert invoke(["recommend", str(folder), "--date", "2024-03-07T06:00+01:00", "--top", "1"]) == 0
    assert "2024-03-07 05:00" in printed(capsys)
    assert invoke(["backtest", str(folder), "--explain", "2024-03-07 05:00"]) == 0
    assert "2024-03-07 05:00: decided by the scores of 2024-03-07 04:00" in printed(capsys)
    for wrong in ("noon", "2024-03-07T25:00", "2024-3-7"):
        assert invoke(["recommend", str(folder), "--date", wrong]) == 2
        assert "--date: expected YYYY-MM-DD" in capsys.readouterr().err


def test_a_stopped_run_keeps_to_the_bars_that_it_began_with(hourly: Config) -> None:
    whole = mimstocr.run(hourly.model_copy(update={"name": "whole"})).folder.path

    class Stopping(Quiet):
        def epoch(self, row: object) -> None:
            signal.raise_signal(signal.SIGTERM)

    assert not mimstocr.run(hourly, watcher=Stopping()).finished
    later = np.arange("2024-03-01T00", "2024-03-09T05", dtype="datetime64[h]").astype("datetime64[ms]")
    before = np.arange("2024-03-01T00", "2024-03-08T12", dtype="datetime64[h]").astype("datetime64[ms]")
    names = [f"C{i}" for i in range(6)]
    both = pl.concat([table(before, names, 0), table(later[len(before) :], names, 9)])
    both.write_csv(hourly.data.source.removeprefix("csv:"), datetime_format="%Y-%m-%d %H:%M")
    done = mimstocr.run(hourly, resume=True)
    assert done.finished
    ours, theirs = (pl.read_parquet(path / "predictions.parquet") for path in (done.folder.path, whole))
    assert ours.equals(theirs)
    said = "the data go on to 2024-03-09 04:00; the run keeps to what it began with, to 2024-03-08 11:00"
    assert said in done.folder.read_json("data.json")["inspection"]["notes"]
    assert mimstocr.recommend(done.folder.path)["date"][0] == datetime(2024, 3, 9, 4)
    # a span that is asked for is not cut
    with pytest.raises(RunError, match="other data"):
        mimstocr.run(
            hourly.model_copy(update={"data": hourly.data.model_copy(update={"end": date(2024, 3, 8)})}), resume=True
        )


def test_markets_whose_limits_are_of_a_day_refuse_bars(hourly: Config) -> None:
    with pytest.raises(
        ConfigError, match=r"backtest\.market\.price_limits: limits go from the close of the day before"
    ):
        mimstocr.run(hourly.model_copy(update={"backtest": hourly.traded(["market=cn_a_share"])}))
    assert not hourly.folder.exists()


def test_a_run_on_two_classes(classes: Config, capsys: pytest.CaptureFixture[str]) -> None:
    folder = mimstocr.run(classes).folder.path
    predictions = pl.read_parquet(folder / "predictions.parquet")
    of = dict(predictions.select("symbol", "asset_class").unique().iter_rows())
    assert of == {**{f"S{i}": "stocks" for i in range(6)}, **{f"X{i}": "crypto" for i in range(4)}}
    weekend = predictions.filter(pl.col("date").dt.weekday() > 5)
    assert set(weekend["asset_class"]) == {"crypto"}

    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["by_class"].keys() == {"stocks", "crypto"}
    test = predictions.filter((pl.col("split") == "test") & (pl.col("asset_class") == "stocks")).drop_nulls(
        "label.return"
    )
    means = test.group_by("date", "symbol").agg(pl.col("score", "label.return").mean())
    daily = [np.corrcoef(day["score"], day["label.return"])[0, 1] for _, day in means.group_by("date")]
    assert metrics["by_class"]["stocks"]["test"]["ic"] == pytest.approx(np.mean(daily), abs=1e-6)
    assert metrics["by_class"]["stocks"]["test"]["days"] == len(daily) < metrics["ensemble"]["test"]["days"]
    assert "Asset class by asset class" in (folder / "report.html").read_text()

    # the data end on a Sunday
    last = mimstocr.recommend(folder)
    assert last.columns[:5] == ["date", "rank", "symbol", "asset_class", "score"]
    dates = {name: rows["date"].unique().to_list() for (name,), rows in last.group_by("asset_class")}
    assert dates == {"stocks": [date(2023, 5, 19)], "crypto": [date(2023, 5, 21)]}
    listed = pl.read_csv(folder / "recommendations.csv", try_parse_dates=True)
    assert listed.select("date", "symbol", "rank").equals(
        last.select("date", "symbol", "rank").cast(listed.select("date", "symbol", "rank").schema)
    )
    assert np.allclose(listed["score"], last["score"], atol=1e-6)
    saved = predictions.group_by("date", "symbol").agg(pl.col("score").mean())
    joined = last.join(saved, on=["date", "symbol"])
    assert len(joined) == 10
    assert np.allclose(joined["score"], joined["score_right"], atol=1e-6)
    assert mimstocr.recommend(folder, day=date(2023, 5, 18))["date"].unique().to_list() == [date(2023, 5, 18)]
    with pytest.raises(DataError, match="2023-05-22 is not a trading day of stocks parquet:"):
        mimstocr.recommend(folder, day=date(2023, 5, 22))
    with pytest.raises(ConfigError, match="the run has the asset classes stocks, crypto"):
        mimstocr.recommend(folder, source="csv:other.csv")
    capsys.readouterr()
    assert invoke(["recommend", str(folder)]) == 0
    shown = printed(capsys)
    assert "asset class" in shown
    assert "2023-05-19" in shown

    result = mimstocr.run_backtest(folder)
    assert np.isfinite(result.universe_returns).all()
    assert write_report(folder).exists()


def test_a_list_leaves_out_a_class_that_ended() -> None:
    from mimstocr.predictions import ranked_list

    rows = {"date": [date(2024, 1, 2), date(2024, 1, 9), date(2024, 1, 12)], "symbol": ["A", "B", "C"]}
    frame = pl.DataFrame({**rows, "asset_class": ["old", "shut", "open"], "seed": 0, "score": [3.0, 2.0, 1.0]})
    assert ranked_list(frame)["symbol"].to_list() == ["A", "B", "C"]
    late = frame.with_columns(date=pl.when(pl.col("symbol") == "A").then(date(2024, 1, 1)).otherwise(pl.col("date")))
    assert ranked_list(late)["symbol"].to_list() == ["B", "C"]


def test_a_run_on_classes_resumes_with_the_same_numbers(classes: Config) -> None:
    whole = mimstocr.run(classes.model_copy(update={"name": "whole"})).folder.path

    class Stopping(Quiet):
        asked = False

        def step(self, moment: Moment) -> None:
            if moment.epoch == 2 and not self.asked:  # a second Ctrl-C would end this process
                self.asked = True
                os.kill(os.getpid(), signal.SIGINT)

    stopped = mimstocr.run(classes, watcher=Stopping())
    assert not stopped.finished
    done = mimstocr.run(classes, resume=True)
    assert done.finished
    ours, theirs = (pl.read_parquet(path / "predictions.parquet") for path in (done.folder.path, whole))
    assert ours.equals(theirs)


def test_the_order_of_the_classes_only_orders_the_columns(classes: Config, tmp_path: Path) -> None:
    folder = mimstocr.run(classes.model_copy(update={"seeds": (0,)})).folder
    turned = dict(reversed(list(classes.data.assets.items())))
    config = folder.config()
    swapped = config.model_copy(update={"data": config.data.model_copy(update={"assets": turned})})
    before = mimstocr.recommend(folder.path)
    from mimstocr.config import write_yaml

    write_yaml(folder.path / "config.yaml", swapped)
    assert mimstocr.recommend(folder.path).equals(before)


def test_dates_of_a_table_are_those_of_the_panel() -> None:
    times = np.array(["2024-03-01T00", "2024-03-01T01"], dtype="datetime64[ms]")
    assert pl.DataFrame({"date": resolved(times)})["date"].dtype == pl.Datetime("ms")
    assert pl.DataFrame({"date": resolved(times[:1])})["date"].dtype == pl.Date
