"""The contract of a task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from scipy.special import expit, softmax
from torch import Tensor

from mimstocr.components import Component, Registry, component_field
from mimstocr.data.panel import Matrix, Panel
from mimstocr.errors import ConfigError
from mimstocr.losses import Kind, Loss

FAR = 13.8
"""Logs of a scale beyond it are cut to it: scales go from a millionth to a million."""


class Task(Component):
    """One question asked of every stock of the day.

    A concrete task has a field `loss`, whose kind of target must be the task's.
    """

    target: ClassVar[Kind]
    """What is asked for: a real value, one of some levels, whether an event happens, the size of a scale, or what to
    hold."""
    levels: ClassVar[tuple[str, ...]] = ()
    """Names of the levels, lowest first; empty for all other kinds."""
    loss: Loss

    @property
    def width(self) -> int:
        """Outputs of the head a stock: one a level, or one value."""
        return len(self.levels) or 1

    @property
    def holds(self) -> bool:
        """Whether the model says one more number a day, last among its outputs: the money held back (Hold)."""
        return False

    @property
    @abstractmethod
    def reach(self) -> int:
        """Trading days after t on which the label of day t is known; 0 or less: at t already."""

    @abstractmethod
    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) float32 in natural units: a fraction, a level 0 .. width - 1, 0 or 1. NaN: no label.

        No label starts or ends on a day on which the stock could not be traded (methods, section 1).
        """

    def variants(self, name: str) -> Mapping[str, Task]:
        """Name to task of what is asked under `name`: this task, unless one entry stands for several."""
        return {name: self}

    def follow(self, main: Task) -> Self:  # noqa: ARG002
        """This task with what it takes from the main task settled."""
        return self

    def targets(self, labels: Matrix, rows: NDArray[np.bool_]) -> Matrix:
        """What the loss is given: labels on the true rows (days, symbols) of each day's cross-section, else NaN."""
        return np.where(rows, labels, np.float32(np.nan))

    def start(self, targets: Matrix) -> float:  # noqa: ARG002
        """Where the head's bias starts, from the targets of the training days; a new head's weights are small."""
        return 0.0

    def said(self, output: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        """What the model's outputs say, of the same shape, where a stock's answer depends on the others of its day.

        output: as the loss is given it. valid: bool (days, stocks). `natural` and `score` are of what comes out.
        """
        return output

    def natural(self, output: Matrix) -> Matrix:
        """What the head says, (...) or (..., width), in the unit of the labels: values, or odds of levels and events.

        A task whose targets are normalised gives its outputs as they are; see `in_units`.
        """
        values = output.astype(np.float64)
        if self.target == "event":
            values = expit(values)
        elif self.target == "scale":
            values = np.exp(np.clip(values, -FAR, FAR))
        elif self.target == "level":
            values = softmax(values, axis=-1)
        return values.astype(np.float32)

    @property
    def in_units(self) -> bool:
        """Whether `natural` has the unit of the labels, so that the size of an error means something."""
        return True

    def reference(self, panel: Panel) -> Matrix | None:  # noqa: ARG002
        """(days, symbols) what one would say without a model, in the unit of the labels; none: nothing is usual."""
        return None

    def notes(self) -> list[str]:
        """What a reader of results must know of the task as it is set."""
        return []

    @abstractmethod
    def score(self, output: Tensor) -> Tensor:
        """One number a stock, higher is better: output (..., width) or (...) to (...)."""

    @model_validator(mode="after")
    def _loss_fits(self) -> Self:
        # a log of a scale is a real value too
        fits = (self.target, "value") if self.target == "scale" else (self.target,)
        if not set(fits) & set(self.loss.targets):
            learns = " or ".join(_with_article(kind) for kind in self.loss.targets)
            asked = _with_article(self.target)
            raise ValueError(f"loss {self.loss.kind!r} learns {learns}, but task {self.kind!r} asks for {asked}")
        return self


class Ahead(Task):
    """A task about the `horizon` trading days that follow the close of day t + delay."""

    horizon: Annotated[int, Field(ge=1)] | None = None
    """Trading days it asks about; none: those of the main task."""
    delay: Annotated[int, Field(ge=0)] | None = None
    """Trading days between t and the first price of the label; none: those of the main task."""
    horizons: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Several horizons instead of one: the task is asked once for each, as NAME_1, NAME_5 and so on."""

    @field_validator("horizons")
    @classmethod
    def _each_once(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(horizons)) < len(horizons):
            raise ValueError(f"each horizon once, got {list(horizons)}")
        return horizons

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.horizons and self.horizon != type(self).model_fields["horizon"].default:
            raise ValueError(f"horizons {list(self.horizons)} stand instead of horizon {self.horizon}; set one of them")
        return self

    def variants(self, name: str) -> Mapping[str, Task]:
        """One task a horizon, where there are several."""
        if not self.horizons:
            return {name: self}
        return {f"{name}_{days}": self.changed(horizon=days, horizons=()) for days in self.horizons}

    def follow(self, main: Task) -> Self:
        """With the horizon and the delay of the main task where none is set. Raises ConfigError without either."""
        asked = {"horizon": self.horizon, "delay": self.delay}
        for key, value in asked.items():
            asked[key] = getattr(main, key, None) if value is None else value
            if asked[key] is None:
                raise ConfigError(
                    f"task {self.kind}: no {key}, and the main task ({main.kind}) has none to take; set "
                    f"tasks.<name>.{key}"
                )
        return self.changed(**asked)

    @property
    def span(self) -> tuple[int, int]:
        """Delay and horizon, settled. Raises ConfigError before `follow` where one is still open."""
        if self.delay is None or self.horizon is None:
            raise ConfigError(f"task {self.kind}: horizon and delay are not settled; call follow() with the main task")
        return self.delay, self.horizon

    @property
    def reach(self) -> int:
        """The label of day t is known at the close of t + delay + horizon."""
        return sum(self.span)


def _with_article(kind: Kind) -> str:
    return f"{'an' if kind == 'event' else 'a'} {kind}"


def gain(panel: Panel, delay: int, horizon: int) -> Matrix:
    """(days, symbols) close[t + delay + horizon] / close[t + delay] - 1, both of days with trade, else NaN."""
    close = traded_close(panel)
    ratio: Matrix = shifted(close, delay + horizon) / shifted(close, delay) - np.float32(1)
    return ratio


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
