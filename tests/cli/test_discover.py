"""`mimstocr discover` as a user types it, with real runs."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from mimstocr.cli.main import invoke
from mimstocr.config import load_config
from mimstocr.discovery.affinity import TABLE
from mimstocr.runs import RunFolder
from mimstocr.training.loop import Trainer

samples = pytest.mark.skipif(
    importlib.util.find_spec("fakestockdata") is None, reason="the small forms use the prices of the extra samples"
)


@samples
def test_the_whole_way_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ways; asked again the same is shown, and nothing is trained."""
    typed = ["discover", "smoke", f"out={tmp_path}", "training.max_epochs=1"]
    typed += ["--candidates", "momentum", "--epochs", "2", "--days", "4", "--jobs", "2"]
    assert invoke(typed) == 0
    shown = capsys.readouterr()
    assert "forward selection: at most 2 sets of tasks, 2 trainings in all" in shown.err
    assert "affinity to return on held-out days" in shown.out
    assert "forward selection" in shown.out
    assert "return + momentum" in shown.out

    folder = tmp_path / "smoke-discovery"
    assert f"all of it in {folder}" in shown.err
    told = json.loads((folder / "discovery.json").read_text())
    assert (told["main"], told["candidates"]) == ("return", ["momentum"])
    assert told["selection"]["finished"]
    assert "test" not in json.dumps(told["selection"])
    trials = [told["selection"]["start"], *told["selection"]["rounds"][0]["trials"]]
    assert [trial["tasks"] for trial in trials] == [["return"], ["return", "momentum"]]
    # the figure is that of the run's own evidence on the validation split
    runs = [RunFolder(path) for path in (tmp_path / "cells").iterdir() if path.is_dir()]
    assert len(runs) == 2
    for run in runs:
        learned = list(run.config().learned())
        figure = next(trial["figures"][0] for trial in trials if trial["tasks"] == learned)
        assert figure == pytest.approx(run.read_json("metrics.json")["mean"]["valid"]["rank_ic"], rel=1e-6)
        assert run.config().reach == load_config("smoke").reach
    gain = trials[1]["figures"][0] - trials[0]["figures"][0]
    assert told["selection"]["chosen"] == (["momentum"] if gain > 0 else [])
    assert np.shape(told["affinity"]["cosine"]["mean"]) == (2, 2)
    for name in ("affinity", "cosines", "lookaheads", "selection"):
        assert {f"{name}.md", f"{name}.csv"} <= {path.name for path in folder.iterdir()}
    rows = list(csv.DictReader(io.StringIO((folder / "selection.csv").read_text())))
    assert [float(row["rank_ic"]) for row in rows] == [trial["figures"][0] for trial in trials]

    def again(*_: object, **__: object) -> None:
        raise AssertionError("trained twice")

    monkeypatch.setattr(Trainer, "_step", again)
    monkeypatch.setattr("subprocess.Popen", again)
    assert invoke(typed) == 0
    assert capsys.readouterr().out == shown.out
    assert json.loads((folder / "discovery.json").read_text()) == told


@samples
def test_a_stop_is_saved_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the middle of the second epoch."""
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    step = Trainer._step
    asked: list[int] = []

    def interrupted(trainer: Trainer, days: list[int]) -> None:
        step(trainer, days)
        if trainer.at.epoch == 2 and not asked:
            asked.append(trainer.at.done)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    typed = ["discover", "smoke", f"out={tmp_path}", "--method", "affinity", "--epochs", "2", "--days", "3"]
    assert invoke(typed) == 130
    assert "stopped and saved; the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "smoke-discovery" / "discovery.json").exists()
    assert asked == [1]
    monkeypatch.setattr(Trainer, "_step", step)
    assert invoke(typed) == 0
    shown = capsys.readouterr()
    assert "epoch   2" in shown.err
    assert "epoch   1" not in shown.err
    assert "selection" not in shown.out
    assert len(list(tmp_path.rglob(TABLE))) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--candidates", "momentun"], "did you mean 'momentum'"),
        (["balancer=stl"], "balancer stl"),
        (["csi300"], "expected one config, got smoke and csi300"),
        (["--method", "guess"], "'guess' is not one of"),
        (["--max-tasks", "1"], "greater than or equal to 2"),
        (["--method", "forward", "training.monitor=loss"], "cannot be compared"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["discover", "smoke", f"out={tmp_path}", *arguments]) == 2
    error = capsys.readouterr().err.replace("\n", " ")
    assert said in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
