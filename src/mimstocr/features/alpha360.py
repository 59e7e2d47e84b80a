"""Alpha360 with Qlib's robust z-score: the raw past of prices and volume, made stationary by today's value.

At (t, n), field f at lag j is f[t-j] / close[t], and volume[t-j] / (volume[t] + 1e-12) (methods, section 2).
The 6 x 60 columns are never stored: they are built for the windows asked for, from the (symbol, day, field)
array, and scaled there.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mimstocr.components import near
from mimstocr.data.panel import Matrix, Panel
from mimstocr.errors import ConfigError, DataError
from mimstocr.features._robust import TINY, robust
from mimstocr.features.base import FEATURES, Features, Fitted, WindowMaker

ORDER = ("close", "open", "high", "low", "vwap", "volume")


@FEATURES.register("alpha360")
class Alpha360(Features):
    """Prices and volume of the last `window` days over today's, robust z-scored (Qlib's Alpha360)."""

    window: Annotated[int, Field(ge=1)] = 60
    """Days a window covers, today included (Qlib: 60)."""
    fields: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Fields to use, of close, open, high, low, vwap, volume; none: those the source has."""
    clip: Annotated[float, Field(gt=0)] = 3.0
    """Scaled values are cut to [-clip, clip] (Qlib: 3)."""

    def fit(self, panel: Panel, rows: NDArray[np.bool_]) -> FittedAlpha360:
        """Median and MAD per (field, lag) over the true rows (days, symbols), as Qlib's RobustZScoreNorm.

        Raises ConfigError on a field the panel lacks, DataError when a (field, lag) has no value in `rows`.
        """
        names = tuple(name for name in ORDER if name in panel) if self.fields is None else self.fields
        if len(set(names)) < len(names):
            raise ConfigError(f"features.fields: each field once, got {', '.join(names)}")
        for name in names:
            if name not in ORDER or name not in panel:
                has = [known for known in ORDER if known in panel]
                raise ConfigError(f"features.fields: {name!r} is not in {panel.attrs['source']}; {near(name, has)}")
        center = np.empty((self.window, len(names)))
        scale = np.empty((self.window, len(names)))
        day, symbol = np.nonzero(rows)
        close = panel["close"].values[day, symbol]
        jobs = [(lag, f) for f in range(len(names)) for lag in range(self.window)]

        def one(job: tuple[int, int]) -> None:
            lag, f = job
            values = _ratios(panel[names[f]].values, names[f], close, day, symbol, lag)
            if len(values) == 0:
                raise DataError(
                    f"no training value of {names[f]} {lag} days back; the training split must end more than "
                    f"features.window ({self.window}) days after the start of the data, and {names[f]} must have "
                    "values there, or be left out of features.fields"
                )
            center[self.window - 1 - lag, f], scale[self.window - 1 - lag, f] = robust(values)

        with ThreadPoolExecutor(max_workers=2) as pool:  # numpy's partition releases the lock
            list(pool.map(one, jobs))
        return FittedAlpha360(names, self.window, self.clip, center, scale)

    def restore(self, names: tuple[str, ...], constants: Mapping[str, NDArray[np.float64]]) -> FittedAlpha360:
        """The fitted features of a checkpoint."""
        return FittedAlpha360(names, self.window, self.clip, constants["center"], constants["scale"])


@dataclass(frozen=True)
class FittedAlpha360(Fitted):
    """Alpha360 with its medians (`center`) and 1.4826 * (MAD + 1e-12) (`scale`), each (window, fields).

    Prices are centred as ratio - 1, where float32 is exact near zero: `center` is median - 1 for them.
    """

    names: tuple[str, ...]
    window: int
    clip: float
    center: NDArray[np.float64]
    scale: NDArray[np.float64]

    def constants(self) -> dict[str, NDArray[np.float64]]:
        """The fitted medians and scales."""
        return {"center": self.center, "scale": self.scale}

    def bind(self, panel: Panel, device: torch.device) -> WindowMaker:
        """Windows of `panel` on `device`."""
        if lacks := [name for name in self.names if name not in panel]:
            raise DataError(
                f"{panel.attrs['source']} lacks {', '.join(lacks)}, which the model was trained on; "
                "give the same fields"
            )
        return _Windows(self, panel, device)


class _Windows(WindowMaker):
    def __init__(self, fitted: FittedAlpha360, panel: Panel, device: torch.device) -> None:
        stacked = np.stack([panel[name].values.T for name in fitted.names], axis=-1)
        before = np.full((stacked.shape[0], fitted.window - 1, stacked.shape[2]), np.nan, dtype=np.float32)
        series = torch.from_numpy(np.concatenate([before, stacked], axis=1)).to(device)
        self.windows = series.unfold(1, fitted.window, 1)  # a view: symbols, days, fields, lags
        self.close = torch.from_numpy(panel["close"].values.T.copy()).to(device)  # symbols, days
        self.is_volume = torch.tensor([name == "volume" for name in fitted.names], device=device)
        self.center = torch.tensor(fitted.center.T, dtype=torch.float32, device=device)  # fields, lags
        self.inverse = torch.tensor(1 / fitted.scale.T, dtype=torch.float32, device=device)
        self.clip = fitted.clip

    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        at = days[:, None]
        window = self.windows[symbols, at]  # D, N, F, L
        close = self.close[symbols, at][..., None]  # D, N, 1
        zero = torch.zeros((), device=close.device)
        base = torch.where(self.is_volume, zero, close)[..., None]
        divisor = torch.where(self.is_volume, window[..., -1] + TINY, close)[..., None]
        scaled = ((window - base) / divisor - self.center) * self.inverse
        scaled = scaled.clamp_(-self.clip, self.clip).nan_to_num_(0.0)
        return scaled.transpose(2, 3).contiguous()  # D, N, L, F


def _ratios(
    field: Matrix, name: str, close: Matrix, day: NDArray[np.intp], symbol: NDArray[np.intp], lag: int
) -> Matrix:
    """The known values of one (field, lag) over the given rows, as ratio for volume and ratio - 1 for prices."""
    enough = slice(int(np.searchsorted(day, lag)), None)  # rows are in order of days
    past = field[day[enough] - lag, symbol[enough]]
    if name == "volume":
        ratio = past / (field[day[enough], symbol[enough]] + np.float32(TINY))
    else:
        ratio = (past - close[enough]) / close[enough]
    known: Matrix = ratio[~np.isnan(ratio)]
    return known
