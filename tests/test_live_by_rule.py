"""The positions of a day from other data, and in the formats: what stands in them adds up, and what lacks is told."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import mimstocr
from mimstocr.cli.main import invoke
from mimstocr.config import Config

Make = Callable[..., Config]
LAST = date(2020, 6, 30)
RUN: dict[str, Any] = {
    "tasks": {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return", "delay": 1}},
    "balancer": "stl",
    "seeds": [0, 1],
    "training": {"max_epochs": 1, "days_per_step": 16, "device": "cpu"},
    "backtest": {"strategy": "positions", "market": {"kind": "flat", "short": True}},
}
AGENT = {"kind": "a2c", "total_steps": 20, "eval_steps": 20, "layers": [8], "environment": {"window": 8}}


@pytest.fixture
def finished(small: Make) -> Callable[..., Path]:
    def make(kind: str, **changes: Any) -> Path:
        if kind == "agent" and importlib.util.find_spec("stable_baselines3") is None:
            pytest.skip("needs the extra rl (stable-baselines3, gymnasium)")
        agent = AGENT if kind == "agent" else None
        return mimstocr.run(small(**{**RUN, "agent": agent, **changes})).folder.path

    return make


@pytest.mark.parametrize("kind", ["network", "agent"])
def test_from_other_data(
    kind: str, finished: Callable[..., Path], prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stock suspended on the day, with and without a row; data that begin too late for the windows."""
    path, table = finished(kind), pl.read_parquet(prices)
    on_day = (pl.col("date") == LAST) & (pl.col("symbol") == "S03")
    files = {name: tmp_path / f"{name}.parquet" for name in ("quiet", "gone", "late")}
    before = table.filter(pl.col("symbol") == "S03")["close"][-2]
    repeated = dict.fromkeys(("open", "high", "low", "close"), before) | {"volume": 0.0}
    other = [pl.when(on_day).then(value).otherwise(pl.col(name)).alias(name) for name, value in repeated.items()]
    table.with_columns(other).write_parquet(files["quiet"])
    table.filter(~on_day).write_parquet(files["gone"])
    began = date.fromisoformat(json.loads((path / "data.json").read_text())["splits"]["test"]["first"])
    table.filter(pl.col("date") >= (began if kind == "agent" else date(2020, 6, 26))).write_parquet(files["late"])
    whole = mimstocr.positions(path)
    assert not [note for note in whole.notes if "window" in note]
    found = {name: mimstocr.positions(path, source=f"parquet:{file}") for name, file in files.items()}
    quiet = found["quiet"].table
    assert quiet.filter(pl.col("symbol") == "S03").row(0)[2:] == (0.0, "none", 0.0)
    assert "not traded on the day, so weight 0: 1 of 12 (S03); what is held" in " ".join(found["quiet"].notes)
    without = found["gone"].table.filter(pl.col("symbol") == "S03")
    assert without.is_empty() or without["weight"].to_list() == [0.0]  # no member without a price
    others = [each.filter(pl.col("symbol") != "S03").sort("symbol") for each in (quiet, found["gone"].table)]
    np.testing.assert_allclose(*(each["weight"] for each in others), atol=1e-6)
    day = began if kind == "agent" else LAST
    late, right = (
        mimstocr.positions(path, day=day, source=source).table.sort("symbol")["weight"]
        for source in (f"parquet:{files['late']}", None)
    )
    assert np.abs(late - right).max() > 1e-3
    short = [note for note in found["late"].notes if "fewer than a window" in note]
    known = 1 if kind == "agent" else 3
    assert short == [
        f"the data have {known} days up to {day}, fewer than a window of 8; what is missing is set to the training "
        "median, so give data that begin earlier"
    ]
    for each in (whole, *found.values()):
        assert each.table["weight"].abs().sum() == pytest.approx(1.0, abs=1e-9)
        assert each.table["weight"].sum() - each.cash == pytest.approx(each.net, abs=1e-9)
    for shape in ("csv", "json"):
        assert invoke(["positions", str(path), "--source", f"parquet:{files['quiet']}", "--format", shape]) == 0
        said = capsys.readouterr().out
        if shape == "csv":
            assert pl.read_csv(io.StringIO(said), try_parse_dates=True).equals(quiet)
        else:
            assert json.loads(said) == found["quiet"].plain()


def test_a_rolling_runs_positions_are_of_the_period_and_say_when_they_are_old(
    finished: Callable[..., Path], prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each day's weights are those of predictions.parquet; one in a later week than the last period is told."""
    path = finished("network", seeds=[0], training={**RUN["training"], "rolling": {"every": "week"}})
    table = pl.read_parquet(path / "predictions.parquet")
    for day in (date(2020, 5, 22), date(2020, 5, 26), date(2020, 6, 1), date(2020, 6, 5), LAST):
        found = mimstocr.positions(path, day=day)
        both = found.table.join(table.filter(pl.col("date") == day), on="symbol")
        assert both.height >= 10
        np.testing.assert_allclose(both["weight"], both["position"], atol=1e-6)
        assert not [note for note in found.notes if "rolling" in note]
    prices_now = pl.read_parquet(prices)
    new = [
        prices_now.filter(pl.col("date") == LAST).with_columns(date=pl.lit(day))
        for day in (date(2020, 7, 3), date(2020, 7, 6))
    ]
    grown = tmp_path / "grown.parquet"
    pl.concat([prices_now, *new]).write_parquet(grown)
    notes = {}
    for day in ("2020-07-03", "2020-07-06"):  # Friday of the last period's week, Monday of the next
        asked = ["positions", str(path), "--source", f"parquet:{grown}", "--date", day, "--format", "json"]
        assert invoke(asked) == 0
        notes[day] = json.loads(capsys.readouterr().out)["notes"]
    assert not [note for note in notes["2020-07-03"] if "rolling" in note]
    told = [note for note in notes["2020-07-06"] if "rolling" in note]
    assert len(told) == 1
    assert "of the week from 2020-06-29, was trained on days up to 2020-06-24" in told[0]
