"""The positions of a day are those that the backtest of the run trades."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import mimstocr
from mimstocr.backtest import simulate
from mimstocr.cli.main import invoke
from mimstocr.config import Config, make_config, write_yaml
from mimstocr.errors import DataError, RunError

Make = Callable[..., Config]
TASKS: dict[str, Any] = {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return", "delay": 1}}
SHORTS: dict[str, Any] = {"strategy": "positions", "market": {"kind": "flat", "short": True}}
AGENT = {"kind": "a2c", "total_steps": 40, "eval_steps": 20, "layers": [8]}


@pytest.fixture(scope="module")
def made(prices: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a finished run of two seeds, made once: of a network, or of an agent."""
    out, done = tmp_path_factory.mktemp("runs"), {}

    def make(kind: str) -> Path:
        if kind == "agent" and importlib.util.find_spec("stable_baselines3") is None:
            pytest.skip("needs the extra rl (stable-baselines3, gymnasium)")
        if kind not in done:
            raw = {
                "name": kind,
                "out": str(out),
                "seeds": [0, 1],
                "data": {"source": f"parquet:{prices}"},
                "features": {"kind": "alpha360", "window": 8},
                "tasks": TASKS,
                "balancer": "stl",
                "backbone": {"kind": "gru", "hidden_size": 6},
                "agent": AGENT if kind == "agent" else None,
                "training": {"learning_rate": 0.01, "max_epochs": 2, "days_per_step": 4, "device": "cpu"},
                "evaluation": {"precision_at": [2], "ndcg_at": [3]},
                "backtest": SHORTS,
            }
            done[kind] = mimstocr.run(make_config(raw)).folder.path
        return done[kind]

    return make


def decisions(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[date, dict[str, float]]:
    """Day to symbol to weight: what the engine is given in a backtest of the run."""
    given: list[dict[int, Any]] = []

    def spy(terms: Any, plan: Any, **how: Any) -> Any:
        given.append({})
        rows = given[-1]

        def told(moment: Any) -> Any:
            rows[moment.day] = plan(moment)
            return rows[moment.day]

        return simulate(terms, told, **how)

    monkeypatch.setattr("mimstocr.backtest.run.simulate", spy)
    result = mimstocr.run_backtest(path)
    days = [day.item() for day in result.simulated_days]
    return {days[row]: dict(zip(result.symbols, said.weights, strict=True)) for row, said in given[0].items()}


@pytest.mark.parametrize("kind", ["network", "agent"])
def test_each_day_of_the_test_they_are_what_the_backtest_is_given(
    kind: str, made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(kind)
    decided = decisions(path, monkeypatch)
    assert len(decided) > 20
    asked_to_sell = 0
    for day, weights in decided.items():
        found = mimstocr.positions(path, day=day)
        *rows, cash = found.table.iter_rows(named=True)
        mine = {row["symbol"]: row["weight"] for row in rows}
        assert mine.keys() == weights.keys()  # all are members
        wanted = np.array(list(weights.values()))
        # a network reads days together, an agent one by one
        atol = 1e-6 if kind == "network" else 0.0
        np.testing.assert_allclose([mine[name] for name in weights], wanted, rtol=0, atol=atol)
        assert found.gross == pytest.approx(np.abs(wanted).sum(), abs=1e-5)
        assert found.net == pytest.approx(wanted.sum(), abs=1e-5)
        assert (cash["symbol"], cash["side"]) == (None, "cash")
        assert cash["weight"] == pytest.approx(1 - np.abs(wanted).sum(), abs=1e-5)
        absent = [name for name, weight in mine.items() if weight == 0]
        asked_to_sell += len(absent)
        assert any(
            note.startswith(f"not traded on the day, so weight 0: {len(absent)} of 12") for note in found.notes
        ) == (len(absent) > 0)
        assert all(name in " ".join(found.notes) for name in absent)
    assert asked_to_sell > 0  # the data have suspended days


def test_the_order_and_the_account_of_the_seeds(made: Callable[[str], Path]) -> None:
    """Longs, shorts, cash; the mean and the deviation of the seeds, worked out from the predictions."""
    path = made("network")
    found = mimstocr.positions(path)
    sides = found.table["side"].to_list()
    assert sides == sorted(sides, key=["long", "short", "none", "cash"].index)
    for side in ("long", "short"):
        sizes = found.table.filter(pl.col("side") == side)["weight"].abs().to_list()
        assert sizes == sorted(sizes, reverse=True)
    assert (found.task, found.delay, found.fill_day, found.price, found.seeds) == ("position", 1, None, "close", (0, 1))
    table = pl.read_parquet(path / "predictions.parquet")
    last = table.filter(pl.col("date") == table["date"].max())
    assert found.day == str(last["date"][0])
    of_seeds = last.group_by("symbol").agg(
        pl.col("position").mean().alias("mean"),
        pl.col("position").std().alias("std"),
        pl.col("position").sign().n_unique(),
    )
    both = found.table.join(of_seeds, on="symbol")
    np.testing.assert_allclose(both["weight"], both["mean"], atol=1e-6)
    np.testing.assert_allclose(both["spread"], both["std"], atol=1e-6)
    assert found.hold == pytest.approx(last["position.hold"].mean(), abs=1e-6)
    split = (of_seeds["position"] > 1).sum()
    assert any(note == f"the seeds disagree on the side of {split} of 12 stocks" for note in found.notes) == (split > 0)


def test_when_it_is_to_be_traded(made: Callable[[str], Path]) -> None:
    path = made("network")
    days = pl.read_parquet(path / "predictions.parquet")["date"].unique().sort().to_list()
    assert mimstocr.positions(path, day=days[-2]).fill_day == str(days[-1])
    assert mimstocr.positions(path, day=days[0]).fill_day == str(days[1])  # before the test: a network may be asked


def test_a_grown_source_changes_no_day_that_was(
    made: Callable[[str], Path], prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's account goes on through the new days, and what it decided before stays."""
    grown = tmp_path / "grown.parquet"
    table = pl.read_parquet(prices)
    last = table.filter(pl.col("date") == table["date"].max())
    pl.concat([table, last.with_columns(date=pl.lit(date(2020, 7, 1)))]).write_parquet(grown)
    for kind in ("network", "agent"):
        path = made(kind)
        before = mimstocr.positions(path)
        after = mimstocr.positions(path, day=date(2020, 6, 30), source=f"parquet:{grown}")
        assert after.table.equals(before.table)
        assert (before.fill_day, after.fill_day) == (None, "2020-07-01")
        assert mimstocr.positions(path, source=f"parquet:{grown}").day == "2020-07-01"


def test_the_strategys_settings_count_and_another_is_told(small: Make) -> None:
    half = {**SHORTS, "strategy": {"kind": "positions", "gross": 0.5}}
    training = {"max_epochs": 1, "days_per_step": 8, "device": "cpu"}
    path = mimstocr.run(small(tasks=TASKS, balancer="stl", backtest=half, training=training)).folder.path
    found = mimstocr.positions(path)
    assert 0 < found.gross < 0.5 + 1e-6
    assert found.cash == pytest.approx(1 - found.gross)
    assert "spread" not in found.table.columns
    tasks = dict(reversed(TASKS.items()))
    both = small(
        name="both", tasks=tasks, balancer="ew", training=training, backtest={"strategy": {"kind": "top_k", "k": 3}}
    )
    found = mimstocr.positions(mimstocr.run(both).folder.path)
    assert found.task == "position"
    assert found.gross + (found.hold or 0.0) == pytest.approx(1, abs=1e-5)
    assert any("trades top_k by the score, not these weights" in note for note in found.notes)
    shorts = (found.table["weight"] < 0).any()
    assert any("flat, sells nothing short" in note for note in found.notes) == shorts


def test_what_cannot_be_asked(made: Callable[[str], Path], small: Make, prices: Path, tmp_path: Path) -> None:
    path = made("network")
    with pytest.raises(DataError, match="2020-05-02 is not a trading day"):
        mimstocr.positions(path, day=date(2020, 5, 2))
    plain = small(training={"max_epochs": 1, "days_per_step": 8, "device": "cpu"})
    folder = mimstocr.run(plain).folder.path
    with pytest.raises(RunError, match=r"learned return \(return\), momentum \(momentum_line\).*`mimstocr recommend "):
        mimstocr.positions(folder)
    begun = small(name="begun", tasks=TASKS, balancer="stl", backtest=SHORTS)
    begun.folder.mkdir()
    write_yaml(begun.folder / "config.yaml", begun)
    with pytest.raises(RunError, match="the run has not finished"):
        mimstocr.positions(begun.folder)


def test_what_an_agent_cannot_be_asked(made: Callable[[str], Path], prices: Path, tmp_path: Path) -> None:
    path = made("agent")
    with pytest.raises(DataError, match="2020-05-15 lies before the agent's account began, on 2020-05-2"):
        mimstocr.positions(path, day=date(2020, 5, 15))
    table = pl.read_parquet(prices)
    fewer, late = tmp_path / "fewer.parquet", tmp_path / "late.parquet"
    table.filter(pl.col("symbol") != "S05").write_parquet(fewer)
    with pytest.raises(DataError, match=r"portfolio of 12 symbols, but those of the data differ: S05 missing"):
        mimstocr.positions(path, source=f"parquet:{fewer}")
    table.filter(pl.col("date") >= date(2020, 6, 10)).write_parquet(late)
    with pytest.raises(DataError, match=r"began on 2020-05-2., the first day of its test, which .* lacks"):
        mimstocr.positions(path, source=f"parquet:{late}")


def test_the_command(made: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(made("network"))
    found = mimstocr.positions(Path(path), day=date(2020, 6, 10))
    assert invoke(["positions", path, "--date", "2020-06-10"]) == 0
    shown = capsys.readouterr().out
    assert "network: positions at the close of 2020-06-10" in shown
    assert "to be traded at the close of the next trading day, 2020-06-11 (delay 1)" in shown
    assert f"gross {found.gross:.2%}, net {found.net:+.2%}, cash {found.cash:.2%} (Hold {found.hold:.2%})" in shown
    assert all(note in shown for note in found.notes)
    assert invoke(["positions", path, "--date", "2020-06-10", "--format", "csv"]) == 0
    assert pl.read_csv(capsys.readouterr().out.encode(), try_parse_dates=True).equals(found.table)
    assert invoke(["positions", path, "--date", "2020-06-10", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == found.plain()
    assert [row["weight"] for row in told["positions"]] == found.table["weight"].to_list()
    assert invoke(["positions", "nowhere"]) == 2
    assert "not a run folder" in capsys.readouterr().err
