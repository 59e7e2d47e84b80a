"""Forward selection of auxiliary tasks: each is tried beside those that are in, and the best one joins them.

A trial is a run folder a seed, found by the hash of its settings as the runs of a study are; so nothing is trained
twice, and what was decided is decided again in no time when the same selection is asked for. Decisions are read off
the histories, in which the validation split alone has a say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mimstocr.config import Config
from mimstocr.discovery.watch import DiscoveryWatcher
from mimstocr.errors import ConfigError
from mimstocr.runs import RunFolder
from mimstocr.studies.exhibits.table import TableExhibit
from mimstocr.studies.runner import run_study
from mimstocr.studies.study import Cell, Grid, Study
from mimstocr.training.loop import monitored
from mimstocr.training.settings import direction


@dataclass(frozen=True)
class Trial:
    """One set of tasks, trained with every seed."""

    tasks: tuple[str, ...]
    """Main task first."""
    added: str | None
    """The task that was tried; none: the main task alone."""
    figures: tuple[float, ...]
    """The validation figure of the best epoch of each seed."""
    epochs: int
    """Of all seeds together, as are the seconds."""
    seconds: float
    gains: tuple[float, ...] = ()
    """Against the set without the added task, seed by seed; above 0 is better whatever the figure's direction."""

    @property
    def figure(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.figures))

    @property
    def gain(self) -> float:
        """Mean over seeds; NaN for the main task alone."""
        return float(np.mean(self.gains)) if self.gains else math.nan


@dataclass(frozen=True)
class Round:
    """What was tried beside one set, and what was taken."""

    trials: tuple[Trial, ...]
    taken: str | None
    """None: no candidate gained enough, and the selection ends."""


@dataclass(frozen=True)
class Selection:
    """How forward selection went."""

    monitor: str
    seeds: tuple[int, ...]
    min_gain: float
    start: Trial | None = None
    """The main task alone; none: it has not been trained yet."""
    rounds: tuple[Round, ...] = ()
    """Those that are decided."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a run to why it failed or who has its folder; the round that needs it is not decided."""
    stopped: bool = False
    """A stop was asked for: all is saved, and the same selection goes on."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to try."""
        return not self.failed and not self.stopped

    @property
    def trials(self) -> list[Trial]:
        """All, in their order."""
        return [*([self.start] if self.start else []), *(trial for one in self.rounds for trial in one.trials)]

    @property
    def chosen(self) -> list[str]:
        """The auxiliary tasks in the order in which they were taken."""
        return [one.taken for one in self.rounds if one.taken is not None]


def most_trials(n_candidates: int, max_added: int) -> int:
    """Sets of tasks that forward selection trains at most: the main task alone, then k, k - 1, ... candidates."""
    return 1 + sum(n_candidates - taken for taken in range(min(n_candidates, max_added)))


def check_monitor(monitor: str, main: str) -> None:
    """Raise ConfigError for a figure that cannot be compared between sets of tasks, such as a sum of their losses."""
    if monitor not in ("rank_ic", "ic", f"loss.{main}"):
        raise ConfigError(
            f"training.monitor={monitor} cannot be compared between sets of tasks; choose rank_ic, ic or loss.{main}"
        )


def select(
    config: Config,
    main: str,
    candidates: Sequence[str],
    *,
    min_gain: float,
    max_added: int,
    jobs: int | None,
    watch: DiscoveryWatcher,
) -> Selection:
    """Add one candidate after the other to the main task, each time the one with the best validation figure.

    It ends when the best gain, a mean over the config's seeds, is not above `min_gain`, when `max_added` are in, or at
    a run that failed or was stopped. Of equal candidates the first is taken.
    """
    monitor = config.training.monitor
    trying = _Trying(config, jobs, watch)
    found, left = Selection(monitor, config.seeds, min_gain), list(candidates)
    inside: Trial | None = None
    while left and len(found.rounds) < max_added:
        number = len(found.rounds) + 1
        taken = (main,) if inside is None else inside.tasks
        sets = [(*taken, name) for name in left]
        found = trying.run(f"round {number}", [(main,), *sets] if inside is None else sets, found)
        if not found.finished:
            break
        if inside is None:
            inside = trying.read((main,), None)
            found = replace(found, start=inside)
        trials = tuple(trying.read(tasks, inside) for tasks in sets)
        best = max(trials, key=lambda trial: -math.inf if math.isnan(trial.gain) else trial.gain)
        better = best.gain > min_gain
        found = replace(found, rounds=(*found.rounds, Round(trials, best.added if better else None)))
        told = f"{best.added} {'joins' if better else 'is best, and does not join'}"
        watch.say(f"round {number}: {told}: {monitor} {best.figure:.4f}, gain {best.gain:+.4f}")
        if not better:
            break
        left.remove(best.tasks[-1])
        inside = best
    return found


class _Trying:
    """Trains sets of tasks and reads what came of it."""

    def __init__(self, config: Config, jobs: int | None, watch: DiscoveryWatcher) -> None:
        self.config = config
        self.jobs = jobs
        self.watch = watch
        self.sign = direction(config.training.monitor, [next(iter(config.learned()))])

    def cell(self, tasks: Sequence[str]) -> Cell:
        """The set as a cell of a study; all configured tasks together are the run that names none."""
        known = list(self.config.settled_tasks())
        learn = tuple(name for name in known if name in tasks)
        # rolling models predict the test, which has no say here
        changes = {"learn": learn if len(learn) < len(known) else (), "rolling": None}
        training = self.config.training.model_copy(update=changes)
        return Cell({"tasks": " + ".join(tasks)}, self.config.model_copy(update={"training": training}))

    def run(self, name: str, sets: Sequence[Sequence[str]], found: Selection) -> Selection:
        """Train what is missing of the sets; what failed, and whether it was stopped, is in what comes back."""
        cells = [self.cell(tasks) for tasks in sets]
        study = Study(
            title=f"tasks that help {sets[0][0]}",
            axes={"tasks": {cell.name: {"training.learn": list(cell.config.training.learn)} for cell in cells}},
            seeds=self.config.seeds,
            show=(TableExhibit(rows=("tasks",)),),
        )
        grid = Grid(f"{self.config.name}-discovery", study, cells, self.config.seeds, self.config.name)
        with self.watch.trials(name) as watcher:
            outcome = run_study(grid, self.config.out.expanduser(), jobs=self.jobs, watcher=watcher)
        return replace(found, failed={**outcome.failed, **outcome.in_use}, stopped=outcome.stopped)

    def read(self, tasks: tuple[str, ...], before: Trial | None) -> Trial:
        """A trained set, beside the one without its last task."""
        figures, seconds, epochs = [], 0.0, 0
        for seed in self.config.seeds:
            folder = RunFolder.open(self.cell(tasks).run(seed, self.config.out.expanduser()).folder)
            rows = [row for row in folder.read_history() if row["seed"] == seed]
            best = max((row for row in rows if row["best"]), key=lambda row: row["epoch"])
            figures.append(monitored(best, self.config.training.monitor))
            seconds += sum(row["seconds"] for row in rows)
            epochs += len(rows)
        if before is None:
            return Trial(tasks, None, tuple(figures), epochs, seconds)
        gains = tuple(self.sign * (figure - old) for figure, old in zip(figures, before.figures, strict=True))
        return Trial(tasks, tasks[-1], tuple(figures), epochs, seconds, gains)
