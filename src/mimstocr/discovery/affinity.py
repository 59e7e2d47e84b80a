"""Affinity of tasks on held-out days: the angle between their gradients, and what a step of one does to another.

All tasks are trained together. After each epoch, on some validation days, the gradients of all task losses are taken
on the shared parameters, and for each task a step along its gradient is tried and the losses looked at anew (TAG,
Fifty et al. 2021, Eq. 2; there on training batches). No weight of the training is changed by it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.config import Config, write_yaml
from mimstocr.data.panel import Days
from mimstocr.discovery.watch import DiscoveryWatcher
from mimstocr.errors import ConfigError, RunError
from mimstocr.runs import RunFolder
from mimstocr.studies.study import config_hash
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatch, DayBatches
from mimstocr.training.interrupt import Stop, stop_on_signal
from mimstocr.training.loop import Moment, Trainer, Watcher
from mimstocr.training.machine import settle
from mimstocr.training.model import Model
from mimstocr.training.objective import daily_losses
from mimstocr.training.prepare import Prepared, prepare
from mimstocr.workflow import fresh_model, make_setting

Matrix = NDArray[np.float64]
TABLE, COST = "affinity.parquet", "cost.json"


@dataclass(frozen=True)
class Estimate:
    """One figure of every pair of tasks, (K, K): a row is the task whose gradient or step it is."""

    mean: Matrix
    """Over days, of the mean over epochs and seeds of each day."""
    error: Matrix
    """Its standard error over days; NaN for one day."""
    days: NDArray[np.int64]
    """Days on which both tasks have labels and the figure is defined."""


@dataclass(frozen=True)
class Affinity:
    """What the tasks are to one another on held-out days."""

    tasks: tuple[str, ...]
    """Main task first."""
    cosine: Estimate
    """Between the gradients on the shared parameters."""
    lookahead: Estimate
    """1 - L_j(theta - step g_i) / L_j(theta): the part of the loss of j (column) that a step of i (row) takes away."""
    step: float
    epochs: int
    seeds: tuple[int, ...]
    seconds: float = math.nan
    """Of training, all seeds together."""
    measuring: float = math.nan
    """Seconds of measuring after its epochs."""

    def ranked(self) -> list[int]:
        """Places of the candidates, first the one whose step takes most of the main task's loss; unknown ones last."""
        takes = self.lookahead.mean[:, 0]
        return sorted(range(1, len(self.tasks)), key=lambda k: math.inf if math.isnan(takes[k]) else -takes[k])


@dataclass(frozen=True)
class AffinityPlan:
    """How affinity is measured. Raises ConfigError for what measures nothing."""

    epochs: int = 5
    """Of training; it is measured after each."""
    days: int = 30
    """Validation days, spread evenly, on which it is measured."""
    step: float | None = None
    """Size of the step that is tried; none: training.learning_rate."""

    def __post_init__(self) -> None:
        for name in ("epochs", "days"):
            if getattr(self, name) < 1:
                raise ConfigError(f"affinity: expected at least 1 of {name}, got {getattr(self, name)}")
        if self.step is not None and not 0 < self.step < math.inf:
            raise ConfigError(f"affinity: expected a step above 0, got {self.step}; none is the learning rate")


def find_affinity(
    config: Config, plan: AffinityPlan, place: Path, watch: DiscoveryWatcher
) -> tuple[Affinity | None, bool]:
    """Train all tasks of a config together and measure; and whether a stop was asked for.

    Without affinity it was stopped on the way, saved, and the same call goes on.
    place: the folder in which it keeps its own, named by the settings. Raises ConfigError when no parameter is shared,
    RunError when the folder is of other data or in use, and what data and components raise.
    """
    training = {"max_epochs": plan.epochs, "patience": plan.epochs, "test_curve": 0}
    config = config.model_copy(update={"training": config.training.model_copy(update=training)})
    step = config.training.learning_rate if plan.step is None else plan.step
    settle(config.training.threads)
    prepared = prepare(config)
    if not fresh_model(prepared, config.seeds[0]).shared_parameters():
        raise ConfigError(
            f"affinity is measured on shared parameters, but sharing {config.sharing.kind} has none; choose another "
            "sharing, or the method forward"
        )
    folder = RunFolder(place / f"affinity-{config_hash(config)}-{plan.days}-{step:g}")
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.locked(), stop_on_signal() as stop, watch.training(config) as watcher:
        write_yaml(folder.path / "config.yaml", config)
        sample = spread(prepared.valid_days, plan.days)
        probes = []
        for seed in config.seeds:
            probes.append(_Probe(prepared, folder, seed, sample, step, watcher))
            if not probes[-1].run(stop):
                return None, True
        found = average(pl.concat([probe.table for probe in probes]), list(prepared.learned), step)
        seconds = sum(row["seconds"] for probe in probes for row in probe.trainer.at.history)
        found = replace(found, seconds=seconds, measuring=sum(probe.seconds for probe in probes))
        return found, bool(stop)


def spread(days: Sequence[int], n: int) -> list[int]:
    """At most n of the days, evenly spread, first and last among them."""
    places = np.linspace(0, len(days) - 1, min(n, len(days))).round().astype(int)
    return [days[place] for place in dict.fromkeys(places.tolist())]


# ---- training and measuring ------------------------------------------------------------------------------------------


class _Probe:
    """One seed's training, measured after each epoch; a watcher of its own trainer."""

    def __init__(
        self, prepared: Prepared, folder: RunFolder, seed: int, days: list[int], step: float, watcher: Watcher
    ) -> None:
        self.trainer = Trainer(make_setting(prepared), fresh_model(prepared, seed), seed, folder.checkpoints(seed))
        self.prepared = prepared
        self.kept = RunFolder(folder.checkpoints(seed))
        self.days = days
        self.size = step
        self.watcher = watcher
        self.table = pl.DataFrame()
        self.seconds = 0.0
        """Spent in measuring."""

    def run(self, stop: Stop) -> bool:
        """Train and measure to the end; false when stopped."""
        if self.trainer.last.exists():
            self.trainer.resume()
            self._catch_up()
        return self.trainer.fit(self, stop)

    def step(self, moment: Moment) -> None:
        """Pass it on."""
        self.watcher.step(moment)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Measure, and keep what was measured."""
        self.watcher.epoch(row)
        self._measure(row["epoch"])

    def _measure(self, epoch: int) -> None:
        started = time.perf_counter()
        found = measure(self.trainer.model, self.prepared.learned, self.prepared.batches, self.days, self.size)
        dates = self.prepared.days[self.days]
        new = long_table(found, list(self.prepared.learned), dates, self.trainer.seed, epoch)
        self.table = pl.concat([self.table, new]) if len(self.table) else new
        self.seconds += time.perf_counter() - started
        self.kept.write_json(COST, {"seconds": self.seconds})
        self.kept.write_frame(TABLE, self.table)

    def _catch_up(self) -> None:
        """Read what was measured; a kill may have come between an epoch's checkpoint and its measure."""
        done = len(self.trainer.at.history)
        if (self.kept.path / TABLE).is_file():
            self.table = self.kept.read_frame(TABLE)
        if (self.kept.path / COST).is_file():
            self.seconds = self.kept.read_json(COST)["seconds"]
        known = set(self.table["epoch"].to_list()) if len(self.table) else set()
        lacking = [epoch for epoch in range(1, done + 1) if epoch not in known]
        if lacking == [done] and self.trainer.at.done == 0:
            self._measure(done)
        elif lacking:
            raise RunError(
                f"{self.kept.path / TABLE} lacks epochs {lacking} of a training that is past them; remove "
                f"{self.kept.path}, and it is trained and measured anew"
            )


def measure(
    model: Model, tasks: Mapping[str, Task], batches: DayBatches, days: Sequence[int], step: float
) -> tuple[Matrix, Matrix]:
    """Cosines and lookahead affinities of all pairs of tasks, (days, K, K) each, with the model as it is.

    Without dropout and in float64: a step changes a loss by less than float32 resolves. NaN where one of the tasks
    has no label on the day, where a gradient is zero, and for a loss that is not above 0 its lookahead.
    """
    probe = copy.deepcopy(model).double().eval()
    # the recurrent layers of cuDNN have no gradient outside of training
    with torch.backends.cudnn.flags(enabled=False):
        found = [_measure_day(probe, tasks, _in_double(batches([day])), step) for day in days]
    cosines, lookaheads = zip(*found, strict=True)
    return torch.stack(cosines).cpu().numpy(), torch.stack(lookaheads).cpu().numpy()


def _measure_day(model: Model, tasks: Mapping[str, Task], batch: DayBatch, step: float) -> tuple[Tensor, Tensor]:
    """Cosines and lookahead affinities of one day, (K, K) each."""
    shared = model.shared_parameters()
    whole = _losses(model, tasks, batch)
    gradients = [torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True) for loss in whole]
    losses = whole.detach()
    flat = torch.stack([torch.cat([part.reshape(-1) for part in gradient]) for gradient in gradients])
    units = flat / flat.norm(dim=1, keepdim=True)  # NaN for a gradient of zero, such as that of a task without a label
    before = [parameter.detach().clone() for parameter in shared]
    rows = []
    with torch.no_grad():
        for gradient in gradients:
            for parameter, start, part in zip(shared, before, gradient, strict=True):
                parameter.copy_(start - step * part)
            rows.append(1 - _losses(model, tasks, batch) / losses.where(losses > 0, math.nan))
        for parameter, start in zip(shared, before, strict=True):
            parameter.copy_(start)
    lookahead = torch.stack(rows).masked_fill(losses.isnan()[:, None], math.nan)
    return units @ units.T, lookahead


def _losses(model: Model, tasks: Mapping[str, Task], batch: DayBatch) -> Tensor:
    """(K,) losses of one day, NaN where a task has no label."""
    losses, present = daily_losses(tasks, model(batch.x, batch.valid, batch.facts), batch)
    return losses.where(present, math.nan)[:, 0]


def _in_double(batch: DayBatch) -> DayBatch:
    """The same batch with its real values in float64."""

    def double(values: Tensor) -> Tensor:
        return values.double() if values.is_floating_point() else values

    return replace(
        batch,
        x=double(batch.x),
        facts={name: double(values) for name, values in batch.facts.items()},
        targets={name: double(values) for name, values in batch.targets.items()},
    )


# ---- from days to estimates ------------------------------------------------------------------------------------------


def long_table(found: tuple[Matrix, Matrix], tasks: Sequence[str], dates: Days, seed: int, epoch: int) -> pl.DataFrame:
    """What `measure` found as rows: seed, epoch, date, of, on, cosine, lookahead; null where it is not defined."""
    day, of, on = (index.ravel() for index in np.indices(found[0].shape))
    names = np.asarray(tasks, dtype=object)
    return pl.DataFrame(
        {
            "seed": np.full(len(day), seed),
            "epoch": np.full(len(day), epoch),
            "date": dates[day],
            "of": names[of].tolist(),
            "on": names[on].tolist(),
            "cosine": found[0].ravel(),
            "lookahead": found[1].ravel(),
        }
    ).with_columns(pl.col("cosine", "lookahead").fill_nan(None))


def average(table: pl.DataFrame, tasks: Sequence[str], step: float) -> Affinity:
    """Means over days, of each day's mean over epochs and seeds, with their standard errors over days.

    table: those of `long_table`, one below the other, all of the same days.
    """
    shape = (-1, table["date"].n_unique(), len(tasks), len(tasks))
    cosine, lookahead = (
        _estimate(table[name].cast(pl.Float64).to_numpy().reshape(shape)) for name in ("cosine", "lookahead")
    )
    seeds = tuple(table["seed"].unique(maintain_order=True).to_list())
    return Affinity(tuple(tasks), cosine, lookahead, step, table["epoch"].n_unique(), seeds)


def _estimate(values: Matrix) -> Estimate:
    """Of values (measures, days, K, K), NaN where there is none."""
    by_day, _ = _mean(values)
    mean, days = _mean(by_day)
    squares = np.where(np.isnan(by_day), 0.0, (by_day - mean) ** 2).sum(axis=0)
    error = np.sqrt(squares / np.maximum(days - 1, 1) / np.maximum(days, 1))
    return Estimate(mean, np.where(days > 1, error, np.nan), days)


def _mean(values: Matrix) -> tuple[Matrix, NDArray[np.int64]]:
    """Over the first axis, and of how many; NaN of none."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan), count
