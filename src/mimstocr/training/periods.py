"""The training of a rolling model: the one loop goes on after the best epoch, on other days in every period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mimstocr.data.panel import Days
from mimstocr.training.batches import DayBatches
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint
from mimstocr.training.curriculum import Phase
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Moment, Position, Setting, Trainer, Watcher
from mimstocr.training.model import Model
from mimstocr.training.rolling import FOLDER, Period, Rolling, period_file

APART = 500_000
"""Where the numbers of the periods' epochs begin among those that seed the random generators."""


class PeriodTrainer(Trainer):
    """Trains a model on from period to period; an epoch's number counts through all periods.

    It goes on from the end of the best epoch with the moments of the optimiser and the state of the balancer. All tasks
    train. The balancer is told of no epoch's end, as no day is left that would measure over-fitting: what it makes of
    these (V, beta and decay of cqb, the weights of dwa) stays, what it does from step to step goes on.
    """

    def __init__(
        self,
        setting: Setting,
        model: Model,
        seed: int,
        checkpoints: Path,
        rolling: Rolling,
        periods: Sequence[Period],
        batches: DayBatches,
    ) -> None:
        """checkpoints: the folder of the seed. batches: with all labels, wherever they end."""
        self.rolling = rolling
        self.periods = periods
        self.checkpoints = checkpoints
        super().__init__(replace(setting, batches=batches), model, seed, checkpoints / FOLDER)

    def begin(self, best_epoch: int) -> None:
        """Go back to where `last` was written if that began with the same best epoch, else begin with it."""
        if self.last.exists():
            _, header = load_checkpoint(self.last, torch.device("cpu"))
            if header["best_epoch"] == best_epoch:
                self.resume()
                return
        for path in [self.last, *self.folder.glob("*.safetensors")]:  # of another best epoch; `last` speaks for all
            path.unlink(missing_ok=True)
        tensors, _ = load_checkpoint(self.checkpoints / "best.safetensors", self.setting.device)
        self._restore(tensors)
        self.at = Position(best_epoch=best_epoch)

    @property
    def period(self) -> Period:
        """The one that is trained for now."""
        return self.periods[(self.at.epoch - 1) // self.rolling.epochs]

    @property
    def days(self) -> Sequence[int]:
        """The days known before the period."""
        return self.period.train

    @property
    def _first(self) -> str:
        return _text(self.setting.dates, self.period.first)

    @property
    def _epoch_of_period(self) -> int:
        """From 1."""
        return (self.at.epoch - 1) % self.rolling.epochs + 1

    def _epoch_seed(self) -> int:
        return super()._epoch_seed() + APART

    def _phase_after(self, history: Sequence[Mapping[str, Any]]) -> Phase:  # noqa: ARG002
        """The joint one, in which the best epoch was."""
        return Phase(len(self.setting.training.curriculum) + 1, tuple(self.setting.tasks), joint=True)

    def _set_rates(self) -> None:
        super()._set_rates()
        if self.rolling.learning_rate is not None:
            self.optimizer.param_groups[0]["lr"] = self.rolling.learning_rate

    def _is_over(self) -> bool:
        return self.at.epoch >= len(self.periods) * self.rolling.epochs

    def _go_longer(self) -> None:
        """Never: how many epochs there are is part of what a run is."""

    def _moment(self, step: int, steps: int, losses: dict[str, float]) -> Moment:
        number = self.periods.index(self.period) + 1
        whole = super()._moment(step, steps, losses)
        return whole._replace(epoch=self._epoch_of_period, period=self._first, periods=(number, len(self.periods)))

    def _where(self) -> str:
        return f"rolling period from {self._first}, epoch {self._epoch_of_period}"

    def _close_epoch(self, started: float) -> None:
        train = self.at.losses.double().cpu().mean(dim=0).tolist()
        about = {"days": len(self.days), "until": _text(self.setting.dates, self.days[-1])}
        row = {
            "seed": self.seed,
            "period": self._first,
            "epoch": self._epoch_of_period,
            **about,
            "train": dict(zip(self.phase.active, train, strict=True)),
            **self.setting.balancer.telemetry(self.balance),
            "best": False,
        }
        self.at.history.append(self._timed(row, started))
        if self._epoch_of_period == self.rolling.epochs:
            header = {**self._header(), "history": [], "period": {"first": self._first, **about}}
            save_checkpoint(period_file(self.checkpoints, self._first), self._weights(), header)


@dataclass(frozen=True)
class Whole:
    """Where a training and what follows it stand."""

    history: list[dict[str, Any]]


class RollingTrainer:
    """A training, and then its periods: one seed under training as `Trainer` is."""

    def __init__(self, trainer: Trainer, rolled: PeriodTrainer) -> None:
        """The two may have the model in common."""
        self.trainer = trainer
        self.rolled = rolled

    @property
    def at(self) -> Whole:
        """The epochs of the training, then those of the periods."""
        return Whole(self.trainer.at.history + self.rolled.at.history)

    @property
    def last(self) -> Path:
        """That of the training; the periods have their own."""
        return self.trainer.last

    def resume(self) -> None:
        """Go back to where the training was left; `fit` finds where the periods were."""
        self.trainer.resume()

    def fit(self, watcher: Watcher, stop: Stop) -> bool:
        """Train, then go through the periods; false when `stop` was raised first, with everything saved."""
        if not self.trainer.fit(watcher, stop):
            return False
        self.rolled.begin(self.trainer.at.best_epoch)
        return self.rolled.fit(watcher, stop)


def _text(dates: Days, day: int) -> str:
    """YYYY-MM-DD, also of a bar within the day."""
    return str(dates[day])[:10]
