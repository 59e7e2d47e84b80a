"""The commands as a user types them: exit code, files, and the message for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from mimstocr.cli.main import invoke
from mimstocr.config import Config, write_yaml

Make = Callable[..., Config]


def typed(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The installed command in a process of its own."""
    command = Path(sys.executable).with_name("mimstocr")
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [str(command), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def config_file(small: Make, tmp_path: Path) -> Path:
    path = tmp_path / "first.yaml"
    write_yaml(path, small(name="first", training={"max_epochs": 2, "days_per_step": 4, "device": "cpu"}))
    return path


def test_the_whole_way(config_file: Path, tmp_path: Path) -> None:
    done = typed("run", str(config_file), "balancer=ew", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RankIC" in done.stdout
    assert "report.html" in done.stdout
    folder = tmp_path / "runs/first"
    assert yaml.safe_load((folder / "config.yaml").read_text())["balancer"] == {"kind": "ew"}

    again = typed("run", str(config_file), "balancer=ew", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "Traceback" not in again.stderr

    listed = typed("recommend", str(folder), "--top", "3", "-o", "list.csv", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert pl.read_csv(tmp_path / "list.csv")["rank"].to_list() == [1, 2, 3]


@pytest.fixture
def run_folder(config_file: Path, tmp_path: Path) -> Path:
    assert invoke(["run", str(config_file)]) == 0
    return tmp_path / "runs/first"


def test_commands_over_a_run(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert invoke(["evaluate", str(run_folder), "--json", "--split", "valid"]) == 0
    assert "rank_ic" in json.loads(capsys.readouterr().out)["mean"]
    assert invoke(["evaluate", str(run_folder)]) == 0
    assert "macro-F1" in capsys.readouterr().out
    assert (
        invoke(["backtest", str(run_folder), "strategy.k=2", "market.commission=0", "-o", str(tmp_path / "days.csv")])
        == 0
    )
    assert "Sharpe" in capsys.readouterr().out
    assert pl.read_csv(tmp_path / "days.csv").columns[:3] == ["date", "net", "gross"]
    explain = ["backtest", str(run_folder), "market=cn_a_share", "capital=1e4", "--explain", "2020-06-01"]
    assert invoke([*explain, "-o", str(tmp_path / "orders.csv")]) == 0
    shown = capsys.readouterr().out
    assert "2020-06-01: decided by the scores of" in shown
    assert "outcome" in shown
    orders = pl.read_csv(tmp_path / "orders.csv")
    assert {"symbol", "wanted", "filled", "stamp_duty", "outcome", "cash_after"} <= set(orders.columns)
    assert invoke([*explain, "-o", str(tmp_path / "orders.csv")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert invoke(["report", str(run_folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert invoke(["recommend", str(run_folder), "--date", "2020-06-01", "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2020-06-01" in shown
    assert "momentum" in shown  # the likeliest level, with its odds
    assert invoke(["run", str(run_folder), "--resume"]) == 0


def test_more_epochs_later(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", str(run_folder), "--resume", "training.max_epochs=3"]) == 0
    assert "epoch   3" in capsys.readouterr().out
    assert len((run_folder / "history.jsonl").read_text().splitlines()) == 3


def test_data_commands(prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["data", "inspect", f"parquet:{prices}", "start=2020-02-01"]) == 0
    assert "not tradable" in capsys.readouterr().out
    assert invoke(["data", "convert", f"parquet:{prices}", str(tmp_path / "out.csv")]) == 0
    assert invoke(["data", "inspect", f"csv:{tmp_path / 'out.csv'}"]) == 0
    assert invoke(["data", "convert", f"parquet:{prices}", str(tmp_path / "out.csv")]) == 2
    assert "not written over" in capsys.readouterr().err


def test_list_and_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "balancers"]) == 0
    assert "Quad-Balancing" in capsys.readouterr().out
    assert invoke(["config"]) == 0
    assert "learning_rate: 0.0002" in capsys.readouterr().out
    assert invoke(["config", "csi300", "tasks.return.delay=1"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["tasks"]["return"]["delay"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "no config file nowhere.yaml"),
        (["run", "demo", "csi300"], "expected one config, got demo and csi300"),
        (["run", "demo", "data.source=sample:us-larg"], "did you mean 'us-large'"),
        (["run", "demo", "data.source=qlb:x"], "did you mean 'qlib'"),
        (["run", "demo", "data.source=qlib:nowhere"], "no such folder"),
        (["run", "demo", "balancer=cbq"], "did you mean 'cqb'"),
        (["recommend", "nowhere"], "not a run folder"),
        (["evaluate", "nowhere"], "not a run folder"),
        (["backtest", "nowhere"], "not a run folder"),
        (["report", "nowhere"], "not a run folder"),
        (["list", "balancer"], "did you mean 'balancers'"),
        (["data", "inspect", "prices.csv"], "expected an address scheme:place"),
        (["data", "inspect", "csv:nowhere.csv", "universe"], "expected a setting as key.sub=value"),
        (["data", "inspect", "csv:nowhere.csv", "univers=x"], "did you mean 'universe'"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "splits={train: [1990-01-01, 1991-01-01], valid: [1992-01-01, 1993-01-01], test: [1994-01-01, 1995-01-01]}",
            "the data goes from",
        ),
        ("backtest.strategy.k=40", "40"),
        ("features.fields=[close, vwap]", "'vwap' is not in"),
        ("training.device=cuda:9", "CUDA devices"),
        ("data.start=2031-01-01", "2020"),
        ("data.benchmark=SPX", "SPX"),
    ],
)
def test_mistakes_that_only_the_data_shows(
    config_file: Path, change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", str(config_file), change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_recommend_before_the_run_has_trained(small: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = small()
    config.folder.mkdir(parents=True)
    write_yaml(config.folder / "config.yaml", config)
    assert invoke(["recommend", str(config.folder)]) == 2
    assert "has not trained yet" in capsys.readouterr().err


def test_a_defect_of_ours_exits_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mimstocr.config.load_config", broken)
    assert invoke(["config", "demo"]) == 1
    assert "defect of mimstocr" in capsys.readouterr().err


def test_wrong_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--resum"]) == 2
    assert "--resume" in capsys.readouterr().err
