"""The volume task: how much will be traded?"""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mimstocr.data.panel import Matrix, Panel, counts_real_shares
from mimstocr.errors import DataError
from mimstocr.losses import AnyLoss
from mimstocr.losses.mse import Mse
from mimstocr.tasks.base import TASKS, Ahead, shifted


@TASKS.register("volume")
class Volume(Ahead):
    """Log of the mean daily volume over the horizon against its mean over the last `window` days up to t.

    Means are over the days on which the stock traded; each needs half of its days to have been such. The label of a
    stock whose last day of the horizon had no trade is left out.
    """

    target = "value"

    window: Annotated[int, Field(ge=1)] = 20
    """Days up to t whose mean volume the change is against."""
    loss: AnyLoss = Mse()
    """What the task is trained on."""

    def labels(self, panel: Panel) -> Matrix:
        """(days, symbols) log change: 0.1 is about a tenth more than usual. Raises DataError without a volume."""
        if "volume" not in panel:
            raise DataError(f"task {self.kind}: {panel.attrs['source']} has no volume; leave the task out")
        _, horizon = self.span
        volume = np.where(panel["tradable"].values, panel["volume"].values, np.float32(np.nan)).astype(np.float64)
        if counts_real_shares(panel):  # so that a split is no change of volume
            volume /= panel["factor"].values
        after = shifted(_mean_of_traded(volume, horizon), self.reach)
        after[np.isnan(shifted(volume, self.reach))] = np.nan
        return np.log(after / _mean_of_traded(volume, self.window)).astype(np.float32)

    def score(self, output: Tensor) -> Tensor:
        """The log change: the largest rise of volume first."""
        return output


def _mean_of_traded(volume: NDArray[np.float64], days: int) -> NDArray[np.float64]:
    """(days, symbols) mean volume of those of the last days that had trade; NaN where they are fewer than half."""
    mean = np.full(volume.shape, np.nan)
    if len(volume) < days:
        return mean
    windows = np.lib.stride_tricks.sliding_window_view(volume, days, axis=0)
    known = (~np.isnan(windows)).sum(axis=-1)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a mean of nothing is NaN
        found = np.nanmean(windows, axis=-1)
    mean[days - 1 :] = np.where(2 * known >= days, found, np.nan)
    return mean
