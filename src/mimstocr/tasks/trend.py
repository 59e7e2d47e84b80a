"""The trend task: how straight will the stock's way be, and where to?"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel, last_known
from mimstocr.errors import ConfigError
from mimstocr.losses import AnyLoss
from mimstocr.losses.mse import Mse
from mimstocr.tasks.base import TASKS, Ahead, Task, shifted, traded_close
from mimstocr.tasks.volatility import trailing_mean


@TASKS.register("trend")
class Trend(Ahead):
    """Trend strength over the horizon: net log move over the sum of the sizes of its daily moves (Kaufman 1995).

    The efficiency ratio with the sign of the move: 1 is a rise without a step back, -1 such a fall, near 0 a way that
    leads nowhere. 0 where the price did not move at all.
    """

    target = "value"

    horizon: Annotated[int, Field(ge=2)] | None = 5
    """Trading days it asks about, at least 2: the way of one day is always straight; none: the main task's."""
    horizons: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Several horizons instead of one, as for every task; each at least 2."""
    loss: AnyLoss = Mse()
    """What the task is trained on."""

    def follow(self, main: Task) -> Self:
        """As every task; ConfigError where the horizon it takes from the main task is 1."""
        if self.horizon is None and getattr(main, "horizon", None) == 1:
            raise ConfigError(
                "task trend: the main task's horizon is 1, and the way of one day is always straight; set "
                "tasks.<name>.horizon to 2 or more"
            )
        return super().follow(main)

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) -1 .. 1."""
        delay, horizon = self.span
        log = np.log(last_known(panel["close"].values).astype(np.float64))
        steps = np.full(log.shape, np.nan)
        steps[1:] = np.diff(log, axis=0)
        way, net = trailing_mean(np.abs(steps), horizon), trailing_mean(steps, horizon)
        ratio = np.divide(net, way, out=np.where(np.isnan(way), np.nan, 0.0), where=way > 0)
        traded = traded_close(panel)
        ends = shifted(traded, delay) + shifted(traded, self.reach)
        strength: Matrix = np.where(np.isnan(ends), np.float32(np.nan), shifted(np.clip(ratio, -1, 1), self.reach))
        return strength

    def score(self, output: Tensor) -> Tensor:
        """The strength itself: the straightest rise first."""
        return output
