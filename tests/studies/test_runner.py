"""Runs in processes of their own: what is missing, stopped and gone on with, killed, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from mimstocr.errors import RunError
from mimstocr.runs import RunFolder
from mimstocr.studies import runner
from mimstocr.studies.compare import comparisons
from mimstocr.studies.ledger import Ledger
from mimstocr.studies.results import collect, daily_series, failure_file
from mimstocr.studies.runner import Ending, Job, Outcome, default_jobs, row_of, run_study
from mimstocr.studies.study import Grid, config_hash, load_study


class Notes:
    """Writes down what it is told."""

    def __init__(self, at_step: Callable[[Job], None] | None = None) -> None:
        self.told: list[tuple[str, str]] = []
        self.counts = (0, 0)
        self.at_step = at_step

    def begin(self, n_runs: int, n_finished: int, jobs: list[Job]) -> None:
        self.counts = (n_runs, n_finished)

    def started(self, job: Job) -> None:
        self.told.append(("started", job.name))

    def step(self, job: Job, moment: Mapping[str, Any]) -> None:
        if self.at_step is not None:
            self.at_step(job)

    def epoch(self, job: Job, row: Mapping[str, Any]) -> None:
        self.told.append((f"epoch {row['epoch']}", job.name))

    def ended(self, job: Job, ending: Ending) -> None:
        self.told.append((ending.state, job.name))


@pytest.fixture
def grid(prices: Path, tmp_path: Path) -> Callable[..., Grid]:
    """A study of two methods on made prices; seconds a run."""

    def make(axes: Mapping[str, Any] | None = None, **settings: Any) -> Grid:
        base = {
            "data": {"source": f"parquet:{prices}"},
            "features": {"kind": "alpha360", "window": 8},
            "backbone": {"kind": "gru", "hidden_size": 4, "num_layers": 1},
            "training": {"max_epochs": 2, "days_per_step": 8, "device": "cpu"},
            "evaluation": {"precision_at": [2], "ndcg_at": [3]},
            "backtest": {"strategy": {"kind": "top_k", "k": 3}},
        }
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
        study = {
            "title": "made",
            "base": "base.yaml",
            "set": settings,
            "axes": axes or {"method": {"EW": {"balancer": "ew"}, "STL": {"balancer": "stl"}}},
            "seeds": [0],
            "show": [{"kind": "table", "rows": ["method"]}],
        }
        (tmp_path / "made.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        return load_study(tmp_path / "made.yaml")

    return make


def go(grid: Grid, folder: Path, watcher: Notes | None = None, jobs: int = 2) -> Outcome:
    return run_study(grid, folder, jobs=jobs, watcher=watcher or Notes(), ledger=Ledger(folder / "ledger.csv"))


def test_runs_what_is_missing_once_and_enters_it_in_the_ledger(grid: Callable[..., Grid], tmp_path: Path) -> None:
    made, notes = grid(), Notes()
    outcome = go(made, tmp_path, notes)
    assert sorted(job.name for job in outcome.finished) == ["EW seed 0", "STL seed 0"]
    assert notes.counts == (2, 0)
    assert {name for what, name in notes.told if what == "epoch 2"} == {"EW seed 0", "STL seed 0"}
    rows = {row.cell: row for row in Ledger(tmp_path / "ledger.csv").rows()}
    results = collect(made, tmp_path)
    for cell in made.cells:
        run = results.of(cell)[0]
        assert run.folder is not None
        metrics = run.folder.read_json("metrics.json")
        assert rows[cell.name].figures["test.rank_ic"] == pytest.approx(metrics["mean"]["test"]["rank_ic"], rel=1e-5)
        for split in ("valid", "test"):
            _, daily = daily_series(run, split)
            assert np.nanmean(daily["ic"]) == pytest.approx(metrics["mean"][split]["ic"])
        assert np.nanmean(daily_series(run)[1]["ic"]) == pytest.approx(metrics["mean"]["test"]["ic"])
        assert rows[cell.name].config == config_hash(cell.config)
        assert rows[cell.name].data == run.folder.read_json("environment.json")["data_fingerprint"]
    # a comparison is of the test days
    (table,) = comparisons(results, "EW")
    for row in table.rows:
        ew, stl = (
            daily_series(run, "test")[1][row[1].text.lower().replace("rankic", "rank_ic")] for run in results.runs
        )
        assert row[2].value == pytest.approx(float(np.nanmean(stl - ew)))
    assert [row[1].text for row in table.rows] == ["IC", "RankIC"]
    # the day is that of the end, not of the last start; rows that are there already keep theirs
    job = Job(made.cells[0], 0, made.cells[0].run(0, tmp_path))
    ended = datetime(2001, 2, 3, 12).timestamp()
    os.utime(job.config.folder / "metrics.json", (ended, ended))
    assert row_of(made, job).finished == "2001-02-03"
    again = Notes()
    assert go(made, tmp_path, again) == Outcome([], {}, False)
    assert {row.finished for row in Ledger(tmp_path / "ledger.csv").rows()} == {rows["EW"].finished}
    assert again.counts == (2, 2)
    assert again.told == []
    # without the folders the ledger still knows
    known = collect(made, tmp_path / "elsewhere", Ledger(tmp_path / "ledger.csv"))
    assert [run.state for run in known.runs] == ["finished", "finished"]
    assert known.runs[0].folder is None
    assert known.runs[0].figures["test.ic"] == pytest.approx(results.runs[0].figures["test.ic"], rel=1e-5)


def test_every_cell_has_its_first_seed_before_any_has_its_second(grid: Callable[..., Grid], tmp_path: Path) -> None:
    notes = Notes()
    go(grid().part({}, [4, 3]), tmp_path, notes, jobs=1)
    begun = [name for what, name in notes.told if what == "started"]
    assert begun == ["EW seed 4", "STL seed 4", "EW seed 3", "STL seed 3"]


def test_a_run_without_its_report_is_not_finished(grid: Callable[..., Grid], tmp_path: Path) -> None:
    made = grid().part({"method": ["EW"]})
    go(made, tmp_path)
    (made.cells[0].run(0, tmp_path).folder / "report.html").unlink()
    assert [run.state for run in collect(made, tmp_path).runs] == ["unfinished"]
    assert [job.name for job in go(made, tmp_path).finished] == ["EW seed 0"]


def test_rows_of_other_settings_are_counted_not_shown(grid: Callable[..., Grid], tmp_path: Path) -> None:
    go(grid(), tmp_path)
    other = collect(grid(**{"training.learning_rate": 0.5}), tmp_path / "elsewhere", Ledger(tmp_path / "ledger.csv"))
    assert [run.state for run in other.runs] == ["missing", "missing"]
    assert other.stale == 2


def test_a_run_that_fails_is_reported_and_the_rest_go_on(grid: Callable[..., Grid], tmp_path: Path) -> None:
    axes = {
        "method": {
            "no data": {"balancer": "ew", "data.source": "parquet:/nowhere.parquet"},
            "explodes": {"balancer": "ew", "training.learning_rate": 1e30},
            "fine": {"balancer": "stl"},
        }
    }
    made, notes = grid(axes), Notes()
    outcome = go(made, tmp_path, notes)
    assert [job.name for job in outcome.finished] == ["fine seed 0"]
    assert "/nowhere.parquet" in outcome.failed["no data seed 0"]
    assert "is not finite" in outcome.failed["explodes seed 0"]
    assert [run.state for run in collect(made, tmp_path).runs] == ["failed", "failed", "finished"]
    assert ("failed", "no data seed 0") in notes.told
    # asked again they are tried again, and what is mended is no longer failed
    assert set(go(made, tmp_path).failed) == {"no data seed 0", "explodes seed 0"}


def test_a_killed_process_is_a_failure_of_its_run_alone(grid: Callable[..., Grid], tmp_path: Path) -> None:
    def kill(job: Job) -> None:
        if job.name == "EW seed 0":
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    mine = (process / "stat").read_text().split()[3] == str(os.getpid())
                    if mine and b"mimstocr.studies.worker" in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)
                except OSError:
                    continue

    if not Path("/proc").is_dir():
        pytest.skip("finds the process by /proc")
    made = grid()
    outcome = go(made, tmp_path, Notes(kill), jobs=1)
    assert "the process ended with -9" in outcome.failed["EW seed 0"]
    assert [job.name for job in outcome.finished] == ["STL seed 0"]
    assert failure_file(made.cells[0].run(0, tmp_path)).is_file()
    # it goes on from its last checkpoint, or from the start
    assert [job.name for job in go(made, tmp_path).finished] == ["EW seed 0"]
    assert not failure_file(made.cells[0].run(0, tmp_path)).exists()


def history(grid: Grid, folder: Path) -> list[list[dict[str, Any]]]:
    runs = [RunFolder(cell.run(0, folder).folder).read_history() for cell in grid.cells]
    return [[{key: value for key, value in row.items() if key != "seconds"} for row in rows] for rows in runs]


def test_stopped_and_gone_on_with_equals_uninterrupted(grid: Callable[..., Grid], tmp_path: Path) -> None:
    made = grid(**{"training.max_epochs": 6})
    go(made, tmp_path / "whole")

    asked: list[str] = []

    def stop(job: Job) -> None:
        if not asked:
            asked.append(job.name)
            os.kill(os.getpid(), signal.SIGINT)

    outcome = go(made, tmp_path / "stopped", Notes(stop), jobs=1)
    assert outcome.stopped
    assert outcome.failed == {}
    states = [run.state for run in collect(made, tmp_path / "stopped").runs]
    assert states == ["unfinished", "missing"]
    assert go(made, tmp_path / "stopped").stopped is False
    assert history(made, tmp_path / "stopped") == history(made, tmp_path / "whole")
    scores = [
        [pl.read_parquet(cell.run(0, folder).folder / "predictions.parquet") for cell in made.cells]
        for folder in (tmp_path / "whole", tmp_path / "stopped")
    ]
    assert all(one.equals(other) for one, other in zip(*scores, strict=True))


def test_a_folder_in_use_is_not_touched(grid: Callable[..., Grid], tmp_path: Path) -> None:
    made, notes = grid(), Notes()
    config = made.cells[0].run(0, tmp_path)
    folder = RunFolder.create(config)
    with folder.locked():
        outcome = go(made, tmp_path, notes)
        assert f"another process is at work in {folder.path}" in outcome.in_use["EW seed 0"]
        assert ("in use", "EW seed 0") in notes.told
        assert [job.name for job in outcome.finished] == ["STL seed 0"]
        assert outcome.failed == {}  # the other process may well finish it
        assert not failure_file(config).exists()
        assert [run.state for run in collect(made, tmp_path).runs] == ["unfinished", "finished"]
        with pytest.raises(RunError, match="another process is at work"), RunFolder(folder.path).locked():
            pass
    assert [job.name for job in go(made, tmp_path).finished] == ["EW seed 0"]


def test_a_device_that_is_not_there_is_an_error_not_a_wait(grid: Callable[..., Grid], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    outcome = run_study(grid(**{"training.device": "cuda"}), tmp_path)
    assert all("CUDA devices" in failure for failure in outcome.failed.values())
    assert len(outcome.failed) == 2


def test_a_bad_ledger_is_refused_before_anything_runs(grid: Callable[..., Grid], tmp_path: Path) -> None:
    (tmp_path / "ledger.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="expected a ledger"):
        go(grid(), tmp_path)
    assert not (tmp_path / "cells").exists()


def test_an_empty_folder_that_a_kill_left_is_gone_over(grid: Callable[..., Grid], tmp_path: Path) -> None:
    made = grid()
    made.cells[0].run(0, tmp_path).folder.mkdir(parents=True)
    assert go(made, tmp_path).failed == {}
    assert sorted(path.name for path in (tmp_path / "cells").iterdir() if path.name.startswith(".")) == []


def test_as_many_at_once_as_there_are_cores(grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "usable_cores", lambda: 7)
    assert default_jobs(grid().cells[0].config) == 7
    assert default_jobs(grid(**{"training.threads": 3}).cells[0].config) == 2
    assert default_jobs(grid(**{"training.threads": 8}).cells[0].config) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_the_libraries_of_a_run_keep_to_its_threads(
    grid: Callable[..., Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Without it every one of several runs at once would take all cores for itself."""

    environments: list[Mapping[str, str]] = []
    popen = subprocess.Popen

    def begin(command: list[str], **settings: Any) -> subprocess.Popen[str]:
        environments.append(settings["env"])
        return popen([sys.executable, "-c", "pass"], **settings)

    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    monkeypatch.setenv("KEPT", "as it was")
    monkeypatch.setattr(runner.subprocess, "Popen", begin)
    assert len(go(grid(**{"training.threads": threads}), tmp_path).failed) == 2
    assert len(environments) == 2
    for environment in environments:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
            assert environment[name] == str(threads)
        assert environment["KEPT"] == "as it was"


def test_the_worker_ends_when_nobody_listens(grid: Callable[..., Grid], tmp_path: Path) -> None:
    """Its parent was killed: it saves and ends, and leaves the folder free."""
    config = (
        grid(**{"training.max_epochs": 10_000, "training.patience": 10_000, "training.days_per_step": 1})
        .cells[0]
        .run(0, tmp_path)
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "mimstocr.studies.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin:
        json.dump(config.plain(), stdin)
    assert "step" in json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=120) == 0  # asked to stop once, it saved and went its way
    assert RunFolder(config.folder).checkpoints(0).joinpath("last.safetensors").is_file()


ASKED_WHILE_IT_SAVES = """
import os
import signal

from mimstocr.studies import worker
from mimstocr.training.loop import Trainer

save = Trainer.save


def asked_again(self):
    os.kill(os.getpid(), signal.SIGTERM)
    save(self)
    os.kill(os.getpid(), signal.SIGTERM)


Trainer.save = asked_again
worker.main()
"""


def test_a_worker_that_is_asked_twice_saves_all_the_same(grid: Callable[..., Grid], tmp_path: Path) -> None:
    """Whoever ends a whole group of processes asks it, and so does the study above it."""
    config = grid(**{"training.max_epochs": 10_000, "training.patience": 10_000}).cells[0].run(0, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", ASKED_WHILE_IT_SAVES],
        input=json.dumps(config.plain()),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"finished": False}
    assert RunFolder(config.folder).checkpoints(0).joinpath("last.safetensors").is_file()
