"""What sets of daily indicators share: one number a stock, day and feature, scaled once, seen as windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from mimstocr.components import near
from mimstocr.data.panel import Matrix, Panel, repeated
from mimstocr.errors import DataError
from mimstocr.features._robust import median_and_mad
from mimstocr.features._traded import Array, TradedDays
from mimstocr.features.base import Features, Fitted, WindowMaker

ALIKE = 1e-6
"""Spreads below this part of the median are float32 rounding."""


class SeriesFeatures(Features):
    """Features that are a (days, symbols) series each.

    A value x becomes (x - median) / (1.4826 * MAD), cut to [-clip, clip]; what is missing becomes 0, the training
    median. Median and MAD are one a feature, of the training rows where it is known. Where at least half of these are
    the same (MAD 0, as of a flag), the root mean square distance from the median is divided by instead; where all are
    the same, or none is known, the fit is refused. So Qlib's 1e-12 beside the MAD is not needed, and the unit of a
    column is of no matter.
    """

    window: Annotated[int, Field(ge=1)] = 20
    """Days of indicators that the model sees, today included; 1: today's alone."""
    names: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Features to use, by name and in this order; none: those that the data make possible."""
    clip: Annotated[float, Field(gt=0)] = 3.0
    """Scaled values are cut to [-clip, clip] (Qlib: 3)."""

    @field_validator("names")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if twice := repeated(names or ()):
            raise ValueError(f"each name once, got {', '.join(twice)} again")
        return names

    @abstractmethod
    def offered(self, panel: Panel) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What `names: none` stands for on this panel, and notes on what had to be left out."""

    @abstractmethod
    def series(self, panel: Panel, names: Sequence[str]) -> Iterator[Matrix]:
        """Each named feature in turn, float32 (days, symbols), NaN where it is not known.

        values[t] may depend on days up to t alone. Raises DataError when the panel lacks what a name needs.
        """

    def fit(self, panel: Panel, rows: NDArray[np.bool_]) -> FittedSeries:
        """Median and spread of each feature over the true rows (days, symbols).

        Raises DataError when the panel lacks what a name needs, or a feature has no two different values in `rows`.
        """
        names, notes = (self.names, ()) if self.names is not None else self.offered(panel)
        constants, missing = [], {}
        for name, series in zip(names, self.series(panel, names), strict=True):
            values = series[rows]
            known = values[~np.isnan(values)]
            constants.append(self._scale(name, known))
            missing[name] = 1 - len(known) / len(values)
        center, scale = np.array(constants).T
        return FittedSeries(names, self.window, self, center, scale, (*notes, *self._account(missing)))

    def restore(self, names: tuple[str, ...], constants: Mapping[str, NDArray[np.float64]]) -> FittedSeries:
        """The fitted features of a checkpoint."""
        return FittedSeries(names, self.window, self, constants["center"], constants["scale"])

    def _scale(self, name: str, known: Matrix) -> tuple[float, float]:
        if len(known) == 0:
            raise DataError(
                f"{self.kind}: {name} has no value in the training split; start the data earlier, or leave it out by "
                "features.names"
            )
        center, mad = median_and_mad(known)
        if mad > ALIKE * abs(center):
            return center, 1.4826 * mad
        root = float(np.sqrt(np.mean((known.astype(np.float64) - center) ** 2)))
        if root > ALIKE * abs(center):
            return center, root
        raise DataError(
            f"{self.kind}: {name} is {center:g} all through the training split, so it can tell nothing; leave it out "
            "by features.names"
        )

    def _account(self, missing: Mapping[str, float]) -> list[str]:
        """A note on the share of training rows at which a feature is not known."""
        worst = max(missing, key=lambda name: missing[name])
        if missing[worst] == 0:
            return []
        return [
            f"{self.kind}: {np.mean([*missing.values()]):.1%} of the training values are missing, most of {worst} "
            f"({missing[worst]:.1%}); they are set to the training median"
        ]


@dataclass(frozen=True)
class FittedSeries(Fitted):
    """Daily features with their medians (`center`) and spreads (`scale`), each (features,)."""

    names: tuple[str, ...]
    window: int
    recipe: SeriesFeatures
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def constants(self) -> dict[str, NDArray[np.float64]]:
        """The fitted medians and scales."""
        return {"center": self.center, "scale": self.scale}

    def bind(self, panel: Panel, device: torch.device) -> WindowMaker:
        """Windows of `panel` on `device`."""
        days, symbols = panel["close"].shape
        scaled = np.zeros((symbols, self.window - 1 + days, len(self.names)), dtype=np.float32)
        for f, series in enumerate(self.recipe.series(panel, self.names)):
            scaled[:, self.window - 1 :, f] = self._scaled(series, f).T
        return _Windows(torch.from_numpy(scaled).to(device), self.window)

    def _scaled(self, series: Matrix, f: int) -> Matrix:
        """(days, symbols), finite."""
        clip = self.recipe.clip
        scaled = (series - float(self.center[f])) / float(self.scale[f])
        np.clip(scaled, -clip, clip, out=scaled)
        scaled[np.isnan(scaled)] = 0
        return scaled


class _Windows(WindowMaker):
    """Windows of a scaled series [symbols, window - 1 + days, features]."""

    def __init__(self, series: Tensor, window: int) -> None:
        self.windows = series.unfold(1, window, 1).transpose(2, 3)  # a view: symbols, days, lags, features

    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        return self.windows[symbols, days[:, None]].contiguous()


class Indicator(NamedTuple):
    """One feature of a set whose names are known beforehand."""

    compute: Callable[[TradedDays], Array]
    """(traded days, symbols), NaN where it is not known."""
    needs: tuple[str, ...] = ()
    """Fields of the panel besides close."""


class IndicatorFeatures(SeriesFeatures):
    """Features computed stock by stock over the days on which it traded; not known on the others."""

    indicators: ClassVar[Mapping[str, Indicator]]
    """All that can be named, in order."""

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in cls.indicators:
                raise ValueError(f"{cls.kind} has no feature {name!r}; {near(name, cls.indicators)}")
        return names

    def offered(self, panel: Panel) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All for which the panel has the fields."""
        lacks = {name: _lacks(panel, indicator) for name, indicator in self.indicators.items()}
        notes = [f"{name} (no {' and no '.join(fields)})" for name, fields in lacks.items() if fields]
        said = (f"{self.kind} features left out for what the source lacks: {', '.join(notes)}",) if notes else ()
        return tuple(name for name, fields in lacks.items() if not fields), said

    def series(self, panel: Panel, names: Sequence[str]) -> Iterator[Matrix]:
        """Each named feature in turn."""
        for name in names:
            if fields := _lacks(panel, self.indicators[name]):
                raise DataError(
                    f"{panel.attrs['source']} lacks {' and '.join(fields)}, which the feature {name} of {self.kind} "
                    "needs; give it, or leave the feature out by features.names and train anew"
                )
        days = TradedDays(panel)
        for name in names:
            yield days.unpack(self.indicators[name].compute(days))


def _lacks(panel: Panel, indicator: Indicator) -> list[str]:
    return [field for field in indicator.needs if field not in panel]
