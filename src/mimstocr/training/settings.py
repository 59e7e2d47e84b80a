"""The settings of the training loop."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mimstocr.components import Settings


class TrainingSettings(Settings):
    """How long, how fast and where to train, and when to stop."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Adam's step size (paper: 2e-4)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Adam's coupled L2; a balancer that sets its own, such as cqb, overrides it."""
    days_per_step: Annotated[int, Field(ge=1)] = 1
    """Days whose stocks make one step (the papers: 1)."""
    max_epochs: Annotated[int, Field(ge=1)] = 100
    """Epochs at most (paper: 100)."""
    patience: Annotated[int, Field(ge=1)] = 20
    """Epochs without a better `monitor` after which training stops."""
    monitor: str = "rank_ic"
    """Validation figure that chooses the best epoch: rank_ic, ic (of the raw returns), loss (sum of the task
    losses), or loss.TASK."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:N, or auto (CUDA where there is one)."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Torch threads; more than one rarely helps a model of this size, run seeds side by side instead."""
    test_curve: Annotated[int, Field(ge=0)] = 0
    """Every n-th test day enters the test losses that each epoch's line of the history then has, for curves to
    look at; it chooses nothing. 0: none."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between checkpoints within an epoch; one is also written at every epoch's end and stop."""


class EvaluationSettings(Settings):
    """What the evidence counts."""

    precision_at: tuple[Annotated[int, Field(ge=1)], ...] = (10, 20, 30, 50)
    """N of Precision@N (paper: 10, 20, 30, 50)."""
    ndcg_at: tuple[Annotated[int, Field(ge=1)], ...] = (10, 50)
    """k of NDCG@k."""
    quantiles: Annotated[int, Field(ge=2)] = 5
    """Groups by score whose mean returns are shown."""
