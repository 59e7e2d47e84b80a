"""Equal weighting, and its case of one task."""

from __future__ import annotations

from collections.abc import Sequence

from mimstocr.balancing.base import BALANCERS, Balancer
from mimstocr.components import near
from mimstocr.errors import ConfigError


@BALANCERS.register("ew")
class EqualWeighting(Balancer):
    """EW: the plain sum of the task losses."""


@BALANCERS.register("stl")
class SingleTask(Balancer):
    """STL: one task alone; the other configured tasks are neither learned nor predicted."""

    task: str | None = None
    """The task to learn; none: the main task, which is the first."""

    def learned(self, tasks: Sequence[str]) -> list[str]:
        """The one task. Raises ConfigError when it is not configured."""
        if self.task is None:
            return [tasks[0]]
        if self.task not in tasks:
            raise ConfigError(f"balancer.task: no task {self.task!r}; {near(self.task, tasks)}")
        return [self.task]
