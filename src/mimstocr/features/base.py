"""The contract of features: fitted on training days, then windows on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.components import Component, Registry, component_field
from mimstocr.data.panel import Panel


class WindowMaker(ABC):
    """Windows of one panel on one device."""

    @abstractmethod
    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        """The windows [D, N, L, F], float32, finite, of the symbols (D, N) at the close of the days (D,).

        days and symbols are int64 positions in the panel. Lag L-1 comes first and the day itself last. Only
        values known at the close of each day are read.
        """


class Fitted(ABC):
    """Features whose constants were fitted on training days and are now fixed."""

    names: tuple[str, ...]
    """One name a feature, in the order of the last axis."""
    window: int
    """L: days a window covers, the day itself included."""
    notes: tuple[str, ...] = ()
    """What a reader of results must know of them: what was left out, what is missing."""

    @abstractmethod
    def constants(self) -> dict[str, NDArray[np.float64]]:
        """What was fitted; goes into checkpoints."""

    @abstractmethod
    def bind(self, panel: Panel, device: torch.device) -> WindowMaker:
        """Windows of `panel`. Raises DataError when the panel lacks a field that the fit used."""


class Features(Component):
    """A recipe for features."""

    @property
    def reads(self) -> frozenset[str]:
        """What it reads of a panel besides prices, volume and market value: `extra`, or nothing."""
        return frozenset()

    @abstractmethod
    def fit(self, panel: Panel, rows: NDArray[np.bool_]) -> Fitted:
        """Fit on the rows (days, symbols) that are true: members of training days. Nothing else is looked at."""

    def check_known(self, panel: Panel, day: int) -> None:
        """Raise DataError when what it reads besides prices has nothing for the cross-section of `day`, a position."""

    @abstractmethod
    def restore(self, names: tuple[str, ...], constants: Mapping[str, NDArray[np.float64]]) -> Fitted:
        """The features of a checkpoint."""


FEATURES: Registry[type[Features]] = Registry("features", "mimstocr.features")

AnyFeatures = Annotated[Features, *component_field(FEATURES)]
