"""The settings of the training loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mimstocr.components import Settings
from mimstocr.data.panel import few, repeated
from mimstocr.errors import ConfigError
from mimstocr.training.curriculum import Stage
from mimstocr.training.rolling import Rolling


class TrainingSettings(Settings):
    """How long, how fast and where to train, and when to stop."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Adam's step size (paper: 2e-4)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Adam's coupled L2; a balancer that sets its own, such as cqb, overrides it."""
    days_per_step: Annotated[int, Field(ge=1)] = 1
    """Days whose stocks make one step (the papers: 1)."""
    order: Literal["shuffled", "blocks"] = "shuffled"
    """Which days make a step: any, shuffled, or blocks of consecutive days in random order, cut anew each epoch, for
    losses that follow an account from day to day (sharpe, sortino, log_wealth); an end shorter than half a block
    joins its neighbour."""
    max_epochs: Annotated[int, Field(ge=1)] = 100
    """Epochs at most (paper: 100)."""
    patience: Annotated[int, Field(ge=1)] = 20
    """Epochs without a better `monitor` after which training stops."""
    monitor: str = "rank_ic"
    """Validation figure that chooses the best epoch: rank_ic, ic (of the raw returns), loss (sum of the task
    losses), or loss.TASK."""
    learn: tuple[str, ...] = ()
    """The tasks that are learned, of all that are configured; none: all. The others still say how much is cut off the
    ends of the splits, so that runs of more and of fewer tasks are measured on the same days."""
    curriculum: tuple[Stage, ...] = ()
    """Stages in which tasks enter, such as [{tasks: [direction], epochs: 10, patience: 3}]; after the last one every
    learned task trains, and only then the best epoch and `patience` count. None: all tasks from the first epoch."""
    joint_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Adam's step size once all tasks of a curriculum train; none: unchanged."""
    rolling: Rolling | None = None
    """Training on through the test days and after, such as {every: month}; none: the best epoch's weights say all."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:N, or auto (CUDA where there is one)."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Torch threads; more than one rarely helps a model of this size, run seeds side by side instead."""
    test_curve: Annotated[int, Field(ge=0)] = 0
    """Every n-th test day enters the test losses that each epoch's line of the history then has, for curves to
    look at; it chooses nothing. 0: none."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between checkpoints within an epoch; one is also written at every epoch's end and stop."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if twice := repeated(self.learn):
            raise ValueError(f"learn: each task once, got {few(twice)} twice")
        entering = [name for stage in self.curriculum for name in stage.tasks]
        if twice := repeated(entering):
            raise ValueError(f"curriculum: a task enters once and stays, but {few(twice)} enters twice")
        epochs = sum(stage.epochs for stage in self.curriculum)
        if epochs >= self.max_epochs:
            raise ValueError(
                f"curriculum: its stages may take {epochs} epochs, which leaves none of max_epochs ({self.max_epochs}) "
                "in which all tasks train; shorten them, or raise max_epochs"
            )
        if self.joint_learning_rate is not None and not self.curriculum:
            raise ValueError("joint_learning_rate: it is of a curriculum, and there is none; set learning_rate")
        window = self.rolling.train_days if self.rolling else None
        if self.order == "blocks" and window is not None and window < self.days_per_step:
            raise ValueError(
                f"rolling.train_days: expected at least the {self.days_per_step} days of a block (days_per_step), got "
                f"{window}"
            )
        return self


def direction(monitor: str, tasks: Iterable[str]) -> int:
    """+1 when a higher figure is better, -1 when a lower is. Raises ConfigError when it is unknown."""
    known = ["rank_ic", "ic", "loss", *(f"loss.{name}" for name in tasks)]
    if monitor not in known:
        raise ConfigError(f"training.monitor: unknown figure {monitor!r}; known: {', '.join(known)}")
    return -1 if monitor.startswith("loss") else 1


class EvaluationSettings(Settings):
    """What the evidence counts."""

    precision_at: tuple[Annotated[int, Field(ge=1)], ...] = (10, 20, 30, 50)
    """N of Precision@N (paper: 10, 20, 30, 50)."""
    ndcg_at: tuple[Annotated[int, Field(ge=1)], ...] = (10, 50)
    """k of NDCG@k."""
    quantiles: Annotated[int, Field(ge=2)] = 5
    """Groups by score whose mean returns are shown."""
