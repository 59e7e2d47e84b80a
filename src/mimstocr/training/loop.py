"""The training loop: one for every model, task, balancer and device.

A run can be stopped between any two steps and goes on from there with the same numbers: everything the next
step depends on is in the checkpoint. The order of the days is a function of seed and epoch alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

import torch
from torch import Tensor

from mimstocr.balancing import Balancer, State
from mimstocr.config import differences
from mimstocr.data.panel import Days, few
from mimstocr.errors import RunError, TrainingError
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatch, DayBatches, in_blocks
from mimstocr.training.checkpoint import load_checkpoint, part, save_checkpoint
from mimstocr.training.curriculum import Phase, phase_of
from mimstocr.training.interrupt import Stop
from mimstocr.training.model import Model
from mimstocr.training.objective import backward, checked, daily_losses, look_back, mean_over_days
from mimstocr.training.predict import Predicted, predict
from mimstocr.training.settings import TrainingSettings, direction

LOOK_SECONDS = 0.25
"""Time between looks at the losses of an epoch, each of which waits for the device."""


class Moment(NamedTuple):
    """Where training stands within an epoch."""

    seed: int
    epoch: int
    """From 1, as `step` is."""
    step: int
    steps: int
    losses: dict[str, float]
    """Mean training loss of each task that trains, in the epoch so far."""
    telemetry: Mapping[str, list[float]]
    """What the balancer tells of the epoch, such as beta and decay."""
    stage: int = 0
    """Of the curriculum, from 1; the joint phase is the one after the last. 0: there is no curriculum."""
    period: str = ""
    """First day of the period that a rolling model is trained for, whose epochs `epoch` counts; empty: the training."""
    periods: tuple[int, int] = (0, 0)
    """The number of that period, from 1, and how many there are."""


class Watcher(Protocol):
    """Is told how training goes."""

    def step(self, moment: Moment) -> None:
        """A few times a second, after a step."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """After an epoch: its line of the history."""


@dataclass(frozen=True)
class Setting:
    """What one training works on: fixed for all its epochs."""

    tasks: Mapping[str, Task]
    balancer: Balancer
    training: TrainingSettings
    batches: DayBatches
    dates: Days
    symbols: Sequence[str]
    train_days: Sequence[int]
    valid_days: Sequence[int]
    indicator_days: Sequence[int] | None
    """Days the balancer's indicator is measured on; none: the validation days."""
    curve_days: Sequence[int]
    """Test days whose losses are recorded each epoch, for the eye alone; none: nothing is recorded."""
    figures: Callable[[Predicted], dict[str, float]]
    """The validation figures of predictions for `valid_days`: at least ic and rank_ic."""
    device: torch.device
    identity: Mapping[str, Any]
    """What a checkpoint must share with this training to go on from it."""
    features: Sequence[str]
    """Names of the fitted features, which a checkpoint carries."""
    concepts: Sequence[str]
    """The concepts that the backbone reads, which a checkpoint carries."""
    constants: Mapping[str, Tensor]
    """Fitted constants of the features, which a checkpoint carries."""
    classes: Sequence[str] = ()
    """The asset classes, where there are several, which a checkpoint carries."""
    portfolio: Sequence[str] = ()
    """The symbols, where the backbone is made for them, which a checkpoint carries."""


@dataclass
class Position:
    """Where training stands."""

    epoch: int = 1
    done: int = 0
    """Steps of the current epoch that are done."""
    losses: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    """Losses (steps, K) of the K tasks that train in the current epoch, zeros where a step is still to come."""
    seconds: float = 0.0
    """Time spent in the current epoch before the last stop."""
    best: float = math.nan
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False


class Trainer:
    """One model under training: `fit` brings it to the end or to a stop, from the beginning or a checkpoint."""

    def __init__(self, setting: Setting, model: Model, seed: int, folder: Path) -> None:
        self.setting = setting
        self.model = model.to(setting.device)
        self.seed = seed
        self.folder = folder
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=setting.training.learning_rate,
            weight_decay=setting.training.weight_decay,
        )
        self.at = Position()
        self.phase = self._phase_after([])
        self.balance = self._fresh_balance()
        self._sign = direction(setting.training.monitor, setting.tasks)

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "best.safetensors"

    def fit(self, watcher: Watcher, stop: Stop) -> bool:
        """Train until the end; false when `stop` was raised first, with everything saved."""
        while not self.at.finished:
            if not self._epoch(watcher, stop):
                return False
            self.at.finished = self._is_over()
            if not self.at.finished:
                self.at.epoch += 1
            self.at.done, self.at.seconds = 0, 0.0
            self.save()
            watcher.epoch(self.at.history[-1])
        return True

    @property
    def days(self) -> Sequence[int]:
        """The days of an epoch."""
        return self.setting.train_days

    def order(self) -> list[list[int]]:
        """The batches of days of the current epoch."""
        generator = torch.Generator().manual_seed(self._epoch_seed())
        size = self.setting.training.days_per_step
        if self.setting.training.order == "blocks":
            return in_blocks(self.days, size, generator)
        order = torch.randperm(len(self.days), generator=generator).tolist()
        return [[self.days[i] for i in order[at : at + size]] for at in range(0, len(order), size)]

    def _is_over(self) -> bool:
        """Whether the epoch just done is the last."""
        training = self.setting.training
        stale = self.phase.joint and self.at.epoch - self.at.best_epoch >= training.patience
        return self.at.epoch >= training.max_epochs or stale

    def _epoch_seed(self) -> int:
        return self.seed * 1_000_003 + self.at.epoch

    @property
    def _tasks(self) -> dict[str, Task]:
        """The tasks that train now."""
        return {name: self.setting.tasks[name] for name in self.phase.active}

    def _phase_after(self, history: Sequence[Mapping[str, Any]]) -> Phase:
        """What trains in the epoch that follows these."""
        return phase_of(self.setting.training.curriculum, list(self.setting.tasks), history)

    def _fresh_balance(self) -> State:
        """The balancer's first state, for the tasks that train now."""
        sizes = [parameter.numel() for parameter in self.model.shared_parameters()]
        return self.setting.balancer.init(len(self.phase.active), sizes, self.setting.device)

    def _enter(self) -> None:
        """Let the tasks of the current epoch in; to the balancer those that are new stand as at a training's start."""
        before, self.phase = self.phase, self._phase_after(self.at.history)
        if before.active != self.phase.active:
            known = [self.phase.active.index(name) for name in before.active]
            self.balance = self.setting.balancer.admit(self.balance, self._fresh_balance(), known)

    def _set_rates(self) -> None:
        """The optimiser's step size and weight decay in the current epoch."""
        training = self.setting.training
        decay = self.setting.balancer.weight_decay(self.balance)
        group = self.optimizer.param_groups[0]
        if decay is not None:
            group["weight_decay"] = decay
        if self.phase.joint and training.joint_learning_rate is not None:
            group["lr"] = training.joint_learning_rate

    def _epoch(self, watcher: Watcher, stop: Stop) -> bool:
        started = time.perf_counter() - self.at.seconds
        saved = looked = time.monotonic()
        batches = self.order()
        if self.at.done == 0:
            self._enter()
            self.at.losses = torch.zeros(len(batches), len(self.phase.active), device=self.setting.device)
            # dropout too depends on seed and epoch alone; within an epoch the checkpoint has it
            torch.manual_seed(self._epoch_seed())
        self._set_rates()
        self.model.train()
        for number in range(self.at.done, len(batches)):
            self._step(batches[number])
            now = time.monotonic()
            due = bool(stop) or now - saved > self.setting.training.checkpoint_seconds
            if due or now - looked > LOOK_SECONDS or number + 1 == len(batches):
                looked = now
                watcher.step(self._moment(number + 1, len(batches), self._losses_so_far(batches)))
            if due:
                self.at.seconds = time.perf_counter() - started
                self.save()
                saved = now
                if stop:
                    return False
        self._close_epoch(started)
        return True

    def _moment(self, step: int, steps: int, losses: dict[str, float]) -> Moment:
        """What the watcher is told."""
        telemetry = self.setting.balancer.telemetry(self.balance)
        stage = self.phase.stage if self.setting.training.curriculum else 0
        return Moment(self.seed, self.at.epoch, step, steps, losses, telemetry, stage)

    def _step(self, days: list[int]) -> None:
        setting, tasks = self.setting, self._tasks
        batch = setting.batches(days)
        outputs = self.model(batch.x, batch.valid, batch.facts)
        losses = mean_over_days(*daily_losses(tasks, outputs, batch))
        if setting.device.type == "cpu" and not losses.isfinite().all():  # a GPU is not made to wait at every step
            suspects = [("windows", batch.x), *self.model.named_parameters(), *outputs.items()]
            self._refuse(losses, days, self.at.done + 1, suspects, self._blamed(batch, outputs))
        self.balance = backward(self.model, losses, setting.balancer, self.balance, list(tasks))
        self.optimizer.step()
        self.balance = look_back(self.model, tasks, batch, setting.balancer, self.balance)
        self.at.losses[self.at.done] = losses.detach()
        self.at.done += 1

    def _losses_so_far(self, batches: list[list[int]]) -> dict[str, float]:
        """Mean losses of the epoch; TrainingError names the first day and task whose loss is not finite."""
        losses = self.at.losses[: self.at.done].double().cpu()
        bad = (~losses.isfinite().all(dim=1)).nonzero()
        if len(bad):
            number = int(bad[0])
            for before in losses[: number + 1]:  # on a GPU a refused loss shows by the NaN that came of it
                checked(before, self.phase.active, self.setting.balancer)
            self._refuse(losses[number], batches[number], number + 1, list(self.model.named_parameters()))
        return dict(zip(self.phase.active, losses.mean(dim=0).tolist(), strict=True))

    def _blamed(self, batch: DayBatch, outputs: Mapping[str, Tensor]) -> str:
        """The stocks whose windows or outputs are not finite, in words."""
        days, n = batch.valid.shape
        values = [batch.x.flatten(2), *(output[:, :n].reshape(days, n, -1) for output in outputs.values())]
        bad = ~torch.cat([part.isfinite().all(dim=-1, keepdim=True) for part in values], dim=-1).all(dim=-1)
        bad &= batch.valid
        if bool((bad == batch.valid).all()):
            return "; of all stocks"
        names = sorted({self.setting.symbols[i] for i in batch.symbols[bad].tolist()})
        return f"; of {few(names)}" if names else ""

    def _refuse(
        self, losses: Tensor, days: list[int], step: int, suspects: Sequence[tuple[str, Tensor]], blamed: str = ""
    ) -> NoReturn:
        task = next(name for name, loss in zip(self.phase.active, losses, strict=True) if not loss.isfinite())
        first = next((name for name, tensor in suspects if not tensor.isfinite().all()), "the loss itself")
        raise TrainingError(
            f"the loss of task {task!r} is not finite on {', '.join(str(self.setting.dates[day]) for day in days)} "
            f"(seed {self.seed}, {self._where()}, step {step}); first bad tensor: {first}{blamed}. Lower "
            "training.learning_rate, or look at that day's prices; the last checkpoint is whole"
        )

    def _where(self) -> str:
        """The current epoch in words."""
        return f"epoch {self.at.epoch}"

    def _close_epoch(self, started: float) -> None:
        setting = self.setting
        telemetry = setting.balancer.telemetry(self.balance)  # of this epoch: before the balancer closes it
        train = self.at.losses.double().cpu().mean(dim=0)
        predicted = predict(self.model, setting.tasks, setting.batches, setting.valid_days, len(setting.symbols))
        indicator = predicted.losses
        if setting.indicator_days is not None:
            indicator = predict(
                self.model, setting.tasks, setting.batches, setting.indicator_days, len(setting.symbols)
            ).losses
        names = list(setting.tasks)
        places = [names.index(name) for name in self.phase.active]
        self.balance = setting.balancer.end_epoch(train, torch.from_numpy(indicator[places]), self.balance)
        row: dict[str, Any] = {
            "seed": self.seed,
            "epoch": self.at.epoch,
            "train": dict.fromkeys(names, math.nan) | dict(zip(self.phase.active, train.tolist(), strict=True)),
            "valid": dict(zip(names, predicted.losses.tolist(), strict=True)),
            **setting.figures(predicted),
            **self._of_all(telemetry),
        }
        if setting.training.curriculum:
            row |= {"stage": self.phase.stage, "active": list(self.phase.active)}
        if setting.indicator_days is not None:
            row["indicator"] = dict(zip(names, indicator.tolist(), strict=True))
        if setting.curve_days:
            seen = predict(self.model, setting.tasks, setting.batches, setting.curve_days, len(setting.symbols))
            row["test"] = dict(zip(names, seen.losses.tolist(), strict=True))
        value = monitored(row, setting.training.monitor)
        better = math.isnan(self.at.best) or self._sign * (value - self.at.best) > 0
        row["best"] = self.phase.joint and better  # before, the main task's head may be untrained
        if row["best"]:
            self.at.best, self.at.best_epoch = value, self.at.epoch
        self.at.history.append(self._timed(row, started))
        if row["best"]:
            # what follows the training goes on as if from the end of this epoch
            state = self._state() if setting.training.rolling else {}
            save_checkpoint(self.best, self._weights() | state, self._header())

    def _timed(self, row: dict[str, Any], started: float) -> dict[str, Any]:
        """A line of the history with the time that its epoch took."""
        return {**row, "seconds": time.perf_counter() - started}

    def _of_all(self, telemetry: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Telemetry of the tasks that train, with NaN at the places of those that do not."""
        names, active = list(self.setting.tasks), self.phase.active
        if len(active) == len(names):
            return dict(telemetry)
        whole = self.setting.balancer.telemetry(self.setting.balancer.init(len(names), [1], torch.device("cpu")))
        told: dict[str, list[float]] = {}
        for key, values in telemetry.items():
            by_task = dict(zip(active, values, strict=False))
            one_a_task = len(whole[key]) == len(names)
            told[key] = [by_task.get(name, math.nan) for name in names] if one_a_task else values
        return told

    def _weights(self) -> dict[str, Tensor]:
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return {**model, **{f"features.{name}": tensor for name, tensor in self.setting.constants.items()}}

    def _header(self) -> dict[str, Any]:
        return {
            "identity": dict(self.setting.identity),
            "features": list(self.setting.features),
            "concepts": list(self.setting.concepts),
            "classes": list(self.setting.classes),
            "portfolio": list(self.setting.portfolio),
            "seed": self.seed,
            "epoch": self.at.epoch,
            "done": self.at.done,
            "seconds": self.at.seconds,
            "best": None if math.isnan(self.at.best) else self.at.best,
            "best_epoch": self.at.best_epoch,
            "history": self.at.history,
            "finished": self.at.finished,
        }

    def _state(self) -> dict[str, Tensor]:
        """What the optimiser and the balancer remember."""
        tensors = {f"balancer.{name}": tensor for name, tensor in self.balance.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors

    def save(self) -> None:
        """Write everything the next step depends on to `last`."""
        tensors = self._weights() | self._state()
        tensors["random.cpu"] = torch.get_rng_state()
        if self.setting.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.setting.device)
        tensors["losses"] = self.at.losses
        save_checkpoint(self.last, tensors, self._header())

    def resume(self) -> None:
        """Go back to where `last` was written. Raises RunError when it belongs to another config or other data."""
        tensors, header = load_checkpoint(self.last, self.setting.device)
        _check_identity(header["identity"], self.setting.identity, self.last)
        self._restore(tensors)
        torch.set_rng_state(tensors["random.cpu"].cpu())
        if "random.cuda" in tensors and self.setting.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), self.setting.device)
        self.at = Position(
            epoch=header["epoch"],
            done=header["done"],
            losses=tensors["losses"],
            seconds=header["seconds"],
            best=math.nan if header["best"] is None else header["best"],
            best_epoch=header["best_epoch"],
            history=header["history"],
            finished=header["finished"],
        )
        # between two epochs the balancer's state is still of the tasks of the one before
        rows = self.at.history if self.at.done else self.at.history[:-1]
        self.phase = self._phase_after(rows)
        self._go_longer()

    def _go_longer(self) -> None:
        """On to the next epoch where the training was at its end, and max_epochs or patience was raised since."""
        training = self.setting.training
        if (
            self.at.finished
            and self.at.epoch < training.max_epochs
            and self.at.epoch - self.at.best_epoch < training.patience
        ):
            self.at.epoch, self.at.finished = self.at.epoch + 1, False

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Weights, and what the optimiser and the balancer remember, of a checkpoint."""
        self.model.load_state_dict(part(tensors, "model."))
        self._restore_optimizer(part(tensors, "optimizer."))
        fresh = self.balance
        self.balance = {name: tensor.to(fresh[name].device) for name, tensor in part(tensors, "balancer.").items()}

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        if not tensors:
            return
        whole = self.optimizer.state_dict()
        whole["state"] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            whole["state"].setdefault(int(index), {})[key] = tensor.cpu() if key == "step" else tensor
        self.optimizer.load_state_dict(whole)


def monitored(row: Mapping[str, Any], monitor: str) -> float:
    """The validation figure of a row of the history; NaN where its file has null for what is not a number."""
    if monitor == "loss":
        return float(sum(row["valid"].values()))
    value = row["valid"][monitor.removeprefix("loss.")] if monitor.startswith("loss.") else row[monitor]
    return math.nan if value is None else float(value)


def _check_identity(saved: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    # what is empty is as if it were not said: a setting that the version before did not have
    said = [{key: value for key, value in each.items() if value not in (None, [], {})} for each in (saved, asked)]
    if account := differences(*said):
        raise RunError(
            f"{path} belongs to another config or other data ({account}); resume with the run's own config and data, "
            "or give the new run another name"
        )
