"""A task curriculum: tasks enter the training one stage after the other, and all of them train at the end.

What trains in an epoch is a function of the validation losses of the epochs before it, which the history has; so a
resumed training needs no state of its own for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from mimstocr.components import Settings


class Stage(Settings):
    """Tasks that enter the training together, beside those that entered before."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    """The learned tasks that enter."""
    epochs: Annotated[int, Field(ge=1)]
    """Epochs at most until the next stage, or the joint phase, begins."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """The stage ends earlier when none of its tasks has had a lower validation loss for so many epochs; none: it
    does not."""


class Phase(NamedTuple):
    """What trains in an epoch."""

    stage: int
    """From 1; the joint phase is the one after the last stage."""
    active: tuple[str, ...]
    """The tasks that train, in the order of all tasks."""
    joint: bool
    """All tasks train, and from here on the best epoch counts."""


def phase_of(stages: Sequence[Stage], tasks: Sequence[str], history: Sequence[Mapping[str, Any]]) -> Phase:
    """The phase of the epoch that follows `history`, the rows of one seed's epochs from the first on.

    A row's `valid` has the validation loss of every task by name. Without stages every epoch is joint.
    """
    entered: set[str] = set()
    done = 0
    for number, stage in enumerate(stages, start=1):
        entered |= set(stage.tasks)
        length = _length(stage, history[done:])
        if length is None:
            return Phase(number, tuple(name for name in tasks if name in entered), joint=False)
        done += length
    return Phase(len(stages) + 1, tuple(tasks), joint=True)


def _length(stage: Stage, rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Epochs after which a stage that began with the first of `rows` ended; none: it goes on.

    A loss that is not a number is not a lower one.
    """
    lowest = dict.fromkeys(stage.tasks, math.inf)
    latest = 0
    for number, row in enumerate(rows[: stage.epochs], start=1):
        for name in stage.tasks:
            if row["valid"][name] < lowest[name]:
                lowest[name], latest = row["valid"][name], number
        converged = stage.patience is not None and number - latest >= stage.patience
        if converged or number == stage.epochs:
            return number
    return None
