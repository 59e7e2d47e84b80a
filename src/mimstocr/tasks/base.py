"""The contract of a task."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from mimstocr.components import Component, Registry, component_field
from mimstocr.data.panel import Matrix, Panel
from mimstocr.losses import Loss


class Task(Component):
    """One question asked of every stock of the day.

    A concrete task has a field `loss`, whose kind of target must be the task's.
    """

    target: ClassVar[Literal["value", "level"]]
    levels: ClassVar[tuple[str, ...]] = ()
    """Names of the levels, lowest first; empty for a real value."""
    loss: Loss

    @property
    def width(self) -> int:
        """Outputs of the head: one a level, or one value."""
        return len(self.levels) or 1

    @property
    @abstractmethod
    def reach(self) -> int:
        """Trading days after t on which the label of day t is known; 0 or less: at t already."""

    @abstractmethod
    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) float32 in natural units: a fraction, or a level 0 .. width - 1. NaN: no label.

        No label starts or ends on a day on which the stock could not be traded (methods, section 1).
        """

    def follow(self, main: Task) -> Self:  # noqa: ARG002
        """This task with what it takes from the main task settled."""
        return self

    def targets(self, labels: Matrix, rows: NDArray[np.bool_]) -> Matrix:
        """What the loss is given: labels on the true rows (days, symbols) of each day's cross-section, else NaN."""
        return np.where(rows, labels, np.float32(np.nan))

    @abstractmethod
    def score(self, output: Tensor) -> Tensor:
        """One number a stock, higher is better: output (..., width) or (...) to (...)."""

    @model_validator(mode="after")
    def _loss_fits(self) -> Self:
        if self.target not in self.loss.targets:
            learns = " or a ".join(self.loss.targets)
            raise ValueError(
                f"loss {self.loss.kind!r} learns a {learns}, but task {self.kind!r} asks for a {self.target}"
            )
        return self


def shifted(values: NDArray[np.floating], days: int) -> Matrix:
    """values[t + days] at t, (days, symbols); NaN beyond either end."""
    moved = np.full(values.shape, np.nan, dtype=np.float32)
    if abs(days) >= len(values):
        return moved
    if days >= 0:
        moved[: len(values) - days] = values[days:]
    else:
        moved[-days:] = values[:days]
    return moved


def traded_close(panel: Panel) -> Matrix:
    """(days, symbols) closes of the days on which the stock could be traded, else NaN."""
    return np.where(panel["tradable"].values, panel["close"].values, np.float32(np.nan))


TASKS: Registry[type[Task]] = Registry("task", "mimstocr.tasks")

AnyTask = Annotated[Task, *component_field(TASKS)]
