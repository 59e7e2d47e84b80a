"""What was discovered as tables."""

from __future__ import annotations

import math

import numpy as np

from mimstocr.discovery.affinity import Affinity
from mimstocr.discovery.forward import Selection, Trial
from mimstocr.report.formats import counted
from mimstocr.studies.exhibits.base import Entry, Table


def affinity_tables(found: Affinity) -> list[Table]:
    """What each candidate is to the main task, and the cosines and lookahead affinities of all pairs."""
    measured = (
        f"on up to {counted(int(found.cosine.days.max()), 'validation day')} after each of "
        f"{counted(found.epochs, 'epoch')}, {counted(len(found.seeds), 'seed')}; errors are standard errors over days"
    )
    main = found.tasks[0]
    own = found.lookahead.mean[0, 0]
    rows = [
        [
            Entry(name if k else f"{name} (its own)"),
            *_with_error(found.cosine.mean[k, 0], found.cosine.error[k, 0], ".3f"),
            *_with_error(found.lookahead.mean[k, 0], found.lookahead.error[k, 0], ".2e"),
            _number(found.lookahead.mean[k, 0] / own if own else math.nan, ".3f"),
            Entry(str(found.cosine.days[k, 0]), value=int(found.cosine.days[k, 0])),
        ]
        for k, name in [(0, main), *((k, found.tasks[k]) for k in found.ranked())]
    ]
    header = ["task", "cosine", "error", "lookahead", "error of it", "of its own", "days"]
    notes = [
        measured,
        f"cosine of the task's gradient with that of {main} on the shared parameters; lookahead: the part of the loss "
        f"of {main} that a step of {found.step:g} along the task's gradient takes away (1 - after / before); of its "
        f"own: over what a step of {main} itself takes away; candidates are ranked by lookahead",
        f"in all {counted(found.epochs * len(found.seeds), 'epoch')}, {found.seconds:.0f} seconds of training and "
        f"{found.measuring:.0f} of measuring, however many candidates there are",
    ]
    pairs = [
        _pairs("cosines", "cosines between the tasks' gradients", found, found.cosine.mean, ".3f", [measured]),
        _pairs(
            "lookaheads",
            "what a step of the row's task takes of the column's loss",
            found,
            found.lookahead.mean,
            ".2e",
            [measured],
        ),
    ]
    return [Table("affinity", f"affinity to {main} on held-out days", header, rows, 1, notes), *pairs]


def selection_table(found: Selection, main: str) -> Table:
    """Every trial of a forward selection, its gain and what it cost."""
    rows = [_trial(found.start, "0", "")] if found.start else []
    for number, one in enumerate(found.rounds, start=1):
        rows += [_trial(trial, str(number), "taken" if trial.added == one.taken else "") for trial in one.trials]
    epochs, seconds = (sum(getattr(trial, key) for trial in found.trials) for key in ("epochs", "seconds"))
    chosen = ", ".join(found.chosen) or "none"
    notes = [
        f"validation {found.monitor} of the best epoch, mean over {counted(len(found.seeds), 'seed')}; a task is taken "
        f"for a gain above {found.min_gain:g}",
        f"taken: {chosen}" if found.finished else f"taken so far: {chosen}; the selection has not ended",
        f"in all {counted(len(found.trials), 'set')} of tasks, {epochs} epochs, {seconds:.0f} seconds of training",
        "the best of several candidates on the days that chose it looks better than it is: compare the sets on the "
        "test days",
        *(f"{name}: {why.strip().splitlines()[-1]}" for name, why in found.failed.items()),
    ]
    header = ["round", "tasks", found.monitor, "std", "gain", "std of gain", "epochs", "seconds", "decision"]
    return Table("selection", f"tasks that help {main}: forward selection", header, rows, 2, notes)


def _trial(trial: Trial, number: str, decision: str) -> list[Entry]:
    return [
        Entry(number),
        Entry(" + ".join(trial.tasks)),
        _number(trial.figure, ".4f"),
        _number(_std(trial.figures), ".4f"),
        _number(trial.gain, "+.4f"),
        _number(_std(trial.gains), ".4f"),
        Entry(str(trial.epochs), value=trial.epochs),
        _number(trial.seconds, ".1f"),
        Entry(decision),
    ]


def _pairs(name: str, title: str, found: Affinity, values: np.ndarray, digits: str, notes: list[str]) -> Table:
    rows = [
        [Entry(task), *(_number(value, digits) for value in line)]
        for task, line in zip(found.tasks, values.tolist(), strict=True)
    ]
    return Table(name, title, ["task", *found.tasks], rows, 1, notes)


def _with_error(mean: float, error: float, digits: str) -> list[Entry]:
    return [_number(mean, digits), _number(error, digits)]


def _number(value: float, digits: str) -> Entry:
    known = not math.isnan(value)
    return Entry(format(value, digits) if known else "–", value=float(value) if known else None)


def _std(values: tuple[float, ...]) -> float:
    """Over seeds; NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
