"""Forward selection over made-up trainings: order, end, cost, what is read, and what is not trained again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mimstocr.config import Config, make_config
from mimstocr.discovery.forward import Selection, check_monitor, most_trials, select
from mimstocr.discovery.watch import Unwatched
from mimstocr.errors import ConfigError
from mimstocr.runs import RunFolder
from mimstocr.studies.runner import Ending, Job, Outcome, Silent, StudyWatcher
from mimstocr.studies.study import Grid

MAIN, TASKS = "return", ("a", "b", "c")
Figures = Mapping[str, float | Sequence[float]]


def config_of(out: Path, seeds: Sequence[int] = (0,), **training: Any) -> Config:
    tasks = {name: {"kind": "return", "horizon": i + 1} for i, name in enumerate((MAIN, *TASKS))}
    return make_config({"name": "trial", "out": str(out), "tasks": tasks, "seeds": seeds, "training": training})


class Runs:
    """In place of the runner: run folders with nothing but a config and a history; figures by the auxiliary tasks."""

    def __init__(self, figures: Figures, monitor: str = "rank_ic", fail: Sequence[str] = ()) -> None:
        self.figures = figures
        self.monitor = monitor
        self.fail = fail
        self.trained: list[str] = []
        self.asked: list[list[str]] = []
        self.stop_at: int | None = None

    def __call__(self, grid: Grid, out: Path, *, jobs: int | None, watcher: StudyWatcher) -> Outcome:
        outcome = Outcome([], {}, False)
        self.asked.append([cell.name for cell in grid.cells])
        watcher.begin(len(grid.cells) * len(grid.seeds), 0, [])
        for seed in grid.seeds:
            for cell in grid.cells:
                job = Job(cell, seed, cell.run(seed, out))
                if job.config.folder.exists():
                    continue
                if len(self.trained) == self.stop_at:
                    return Outcome(outcome.finished, outcome.failed, stopped=True)
                if cell.name in self.fail:
                    outcome.failed[job.name] = "first\nTrainingError: no"
                    continue
                self._train(job, seed)
                watcher.ended(job, Ending("finished"))
        return outcome

    def _train(self, job: Job, seed: int) -> None:
        learned = list(job.config.learned())
        self.trained.append(job.name)
        figure = self.figures["".join(name for name in learned if name != MAIN)]
        figure = figure[seed] if isinstance(figure, Sequence) else figure
        rows = []
        for epoch, (value, best) in enumerate([(figure - 1, True), (figure, True), (figure + 1, False)], start=1):
            valid = {name: value if self.monitor == f"loss.{name}" else 77.0 for name in learned}
            row = {"seed": seed, "epoch": epoch, "valid": valid, "ic": 55.0, "rank_ic": 66.0, "best": best}
            row |= {"seconds": 2.5, "test": dict.fromkeys(learned, -value)}
            rows.append(row if self.monitor.startswith("loss") else row | {self.monitor: value})
        RunFolder.create(job.config).write_history(rows)


class Spoken(Unwatched):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.rounds: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def trials(self, name: str) -> Iterator[StudyWatcher]:
        self.rounds.append(name)
        yield Silent()


Go = Callable[..., Selection]


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    def run(runs: Runs, seeds: Sequence[int] = (0,), watch: Unwatched | None = None, **settings: Any) -> Selection:
        monkeypatch.setattr("mimstocr.discovery.forward.run_study", runs)
        config = config_of(tmp_path, seeds, monitor=runs.monitor)
        how = {"min_gain": 0.0, "max_added": 9, "jobs": 3, **settings}
        return select(config, MAIN, TASKS, watch=watch or Unwatched(), **how)

    return run


FIGURES = {"": 0.10, "a": 0.11, "b": 0.14, "c": 0.09, "ab": 0.13, "bc": 0.15, "abc": 0.149}


def test_the_best_joins_until_none_gains(go: Go) -> None:
    """b; beside it c, which alone was the worst; then a would lose."""
    runs, spoken = Runs(FIGURES), Spoken()
    found = go(runs, watch=spoken)
    assert found.chosen == ["b", "c"]
    assert runs.asked == [
        ["return", "return + a", "return + b", "return + c"],
        ["return + b + a", "return + b + c"],
        ["return + b + c + a"],
    ]
    assert [one.taken for one in found.rounds] == ["b", "c", None]
    assert [trial.figure for trial in found.trials] == [0.10, 0.11, 0.14, 0.09, 0.13, 0.15, 0.149]
    assert [trial.gain for trial in found.trials[1:]] == pytest.approx([0.01, 0.04, -0.01, -0.01, 0.01, -0.001])
    assert math.isnan(found.trials[0].gain)
    assert found.finished
    assert len(found.trials) == most_trials(3, 9) == 7
    assert all((trial.epochs, trial.seconds) == (3, 7.5) for trial in found.trials)
    assert spoken.rounds == ["round 1", "round 2", "round 3"]
    assert spoken.said[1] == "round 2: c joins: rank_ic 0.1500, gain +0.0100"
    assert spoken.said[2].startswith("round 3: a is best, and does not join: rank_ic 0.1490, gain -0.0010")


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({"min_gain": 0.03}, ["b"]),
        ({"min_gain": 0.05}, []),
        ({"min_gain": -1.0}, ["b", "c", "a"]),
        ({"max_added": 1}, ["b"]),
        ({"max_added": 2}, ["b", "c"]),
    ],
)
def test_the_end(go: Go, settings: dict[str, Any], chosen: list[str]) -> None:
    runs = Runs(FIGURES)
    found = go(runs, **settings)
    assert found.chosen == chosen
    assert found.finished
    if "max_added" in settings:
        assert len(runs.asked) == settings["max_added"]
        assert len(found.trials) == most_trials(3, settings["max_added"])


def test_a_gain_of_just_the_least_is_not_enough(go: Go) -> None:
    figures = {"": 0.25, "a": 0.25, "b": 0.5, "c": 0.0}
    assert go(Runs(figures), min_gain=0.25, max_added=1).chosen == []


def test_of_equals_the_first_joins(go: Go) -> None:
    assert go(Runs({"": 0, "a": 1, "b": 1, "c": 1}), max_added=1).chosen == ["a"]


def test_of_losses_the_lower_is_better(go: Go) -> None:
    figures = {"": 1.0, "a": 0.9, "b": 1.2, "c": 0.8, "ac": 0.85, "bc": 0.7, "abc": 0.9}
    found = go(Runs(figures, "loss.return"))
    assert found.chosen == ["c", "b"]
    assert found.trials[3].gain == pytest.approx(0.2)


def test_means_over_seeds_decide(go: Go) -> None:
    """With the second seed alone it would be a, with the first c."""
    figures = {"": [0.1, 0.2], "a": [0.0, 0.5], "b": [0.3, 0.3], "c": [0.5, 0.0]}
    found = go(Runs(figures), seeds=(0, 1), max_added=1)
    assert found.chosen == ["b"]
    assert found.rounds[0].trials[1].figures == (0.3, 0.3)
    assert found.rounds[0].trials[1].gains == pytest.approx((0.2, 0.1))
    assert found.rounds[0].trials[1].epochs == 6


def test_what_is_not_a_number_is_never_best(go: Go) -> None:
    assert go(Runs({"": 0.1, "a": math.nan, "b": 0.2, "c": 0.0}), max_added=1).chosen == ["b"]


def test_without_a_figure_of_the_main_task_nothing_joins(go: Go) -> None:
    assert go(Runs({"": math.nan, "a": 0.1, "b": 0.2, "c": 0.0})).chosen == []


def test_nothing_is_trained_twice_and_a_stop_goes_on(go: Go) -> None:
    runs = Runs(FIGURES)
    for stop_at in (2, 5):
        runs.stop_at = stop_at
        found = go(runs)
        assert found.stopped
        assert not found.finished
        assert len(runs.trained) == stop_at
        assert found.chosen == ([] if stop_at == 2 else ["b"])
        assert len(found.rounds) == (0 if stop_at == 2 else 1)
    runs.stop_at = None
    assert go(runs).chosen == ["b", "c"]
    assert len(runs.trained) == len(set(runs.trained)) == 7
    assert go(runs).chosen == ["b", "c"]
    assert len(runs.trained) == 7


def test_a_round_with_a_run_that_failed_is_not_decided(go: Go) -> None:
    runs = Runs(FIGURES, fail=["return + b + a"])
    found = go(runs)
    assert found.chosen == ["b"]
    assert list(found.failed) == ["return + b + a seed 0"]
    assert not found.finished
    runs.fail = []
    assert go(runs).chosen == ["b", "c"]


def test_only_validation_is_read(go: Go, tmp_path: Path) -> None:
    """There is nothing else in these folders; and test losses in the history change nothing."""
    found = go(Runs(FIGURES))
    again = tmp_path / "cells"
    for path in again.glob("*/history.jsonl"):
        assert {file.name for file in path.parent.iterdir()} == {"config.yaml", "history.jsonl"}
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "test": {"return": 1e9}}) + "\n" for row in rows))
    assert go(Runs(FIGURES)) == found


def test_sets_are_learned_parts_of_one_config(go: Go, tmp_path: Path) -> None:
    """All tasks stay configured, so that the days are the same; the whole set is the plain run of the config."""
    go(Runs(FIGURES), min_gain=-1.0)
    configs = [RunFolder.open(path).config() for path in (tmp_path / "cells").iterdir()]
    plain = config_of(tmp_path)
    assert {config.training.learn for config in configs} == {
        ("return",),
        ("return", "a"),
        ("return", "b"),
        ("return", "c"),
        ("return", "a", "b"),
        ("return", "b", "c"),
        (),
    }
    for config in configs:
        assert config.tasks == plain.tasks
        assert config.reach == plain.reach
        assert next(iter(config.learned())) == MAIN


@pytest.mark.parametrize("monitor", ["loss", "loss.a"])
def test_figures_that_cannot_be_compared_are_refused(monitor: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"monitor={monitor} cannot be compared .* choose rank_ic, ic or loss.return"
    ):
        check_monitor(monitor, MAIN)


def test_how_many_there_are_at_most() -> None:
    assert [most_trials(k, k) for k in range(5)] == [1 + k * (k + 1) // 2 for k in range(5)]
    assert most_trials(4, 2) == 1 + 4 + 3
