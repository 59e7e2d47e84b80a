"""Any features over several asset classes: fitted and seen class by class, each on its own calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.data.assets import OwnCalendar, own_calendars
from mimstocr.data.panel import Panel
from mimstocr.errors import DataError
from mimstocr.features.base import Features, Fitted, WindowMaker

OF = "/"
"""Between a class and the name of a constant of it; classes have none in their names."""


def fit_by_class(features: Features, calendars: Sequence[OwnCalendar], rows: NDArray[np.bool_]) -> Fitted:
    """The features fitted on the true rows (days, symbols), each class by itself.

    Raises what the features raise, and DataError when classes come to different features.
    """
    if len(calendars) == 1:
        return features.fit(calendars[0].panel, rows)
    fitted = {own.name: features.fit(own.panel, own.part(rows)) for own in calendars}
    first_name, first = next(iter(fitted.items()))
    for name, other in fitted.items():
        if other.names != first.names:
            differ = sorted(set(other.names) ^ set(first.names))
            raise DataError(
                f"features: asset class {name} has other features than {first_name} ({', '.join(differ)}); name those "
                "that both have, or give both the same fields"
            )
    return _composed(fitted)


def restore_by_class(
    features: Features, names: tuple[str, ...], constants: Mapping[str, NDArray[np.float64]], classes: Sequence[str]
) -> Fitted:
    """The features of a checkpoint; classes: those that it was trained on, empty where there was one."""
    if not classes:
        return features.restore(names, constants)
    inner = {
        name: {key.removeprefix(name + OF): value for key, value in constants.items() if key.startswith(name + OF)}
        for name in classes
    }
    return _composed({name: features.restore(names, own) for name, own in inner.items()})


def _composed(fitted: Mapping[str, Fitted]) -> FittedByClass:
    first = next(iter(fitted.values()))
    notes = tuple(f"{name}: {note}" for name, own in fitted.items() for note in own.notes)
    return FittedByClass(first.names, first.window, fitted, notes)


@dataclass(frozen=True)
class FittedByClass(Fitted):
    """The same features with constants of each class's own."""

    names: tuple[str, ...]
    window: int
    classes: Mapping[str, Fitted]
    notes: tuple[str, ...] = ()

    def constants(self) -> dict[str, NDArray[np.float64]]:
        """Those of each class, under its name."""
        return {
            f"{name}{OF}{key}": value for name, own in self.classes.items() for key, value in own.constants().items()
        }

    def bind(self, panel: Panel, device: torch.device) -> WindowMaker:
        """Windows of `panel`: of each symbol over the days of its own class. Raises DataError on an unknown class."""
        calendars = own_calendars(panel)
        if unknown := [own.name for own in calendars if own.name not in self.classes]:
            raise DataError(
                f"{panel.attrs['source']}: the features were fitted on the asset classes {', '.join(self.classes)}, "
                f"not on {unknown[0] or 'a panel of one class'}; give the classes that the model was trained with"
            )
        return _Windows(calendars, [self.classes[own.name].bind(own.panel, device) for own in calendars], device)


class _Windows(WindowMaker):
    """Asks each class's own windows for its symbols, at the last own day up to the one asked for."""

    def __init__(self, calendars: Sequence[OwnCalendar], makers: Sequence[WindowMaker], device: torch.device) -> None:
        self.makers = makers
        n_symbols = sum(len(own.symbols) for own in calendars)
        of, place = np.zeros(n_symbols, dtype=np.int64), np.zeros(n_symbols, dtype=np.int64)
        for number, own in enumerate(calendars):
            of[own.symbols], place[own.symbols] = number, np.arange(len(own.symbols))
        self.of = torch.from_numpy(of).to(device)
        self.place = torch.from_numpy(place).to(device)
        # before the first own day no symbol of a class is in a cross-section
        self.last = torch.from_numpy(np.stack([np.maximum(own.last, 0) for own in calendars])).to(device)

    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        of = self.of[symbols]
        parts = [self._part(number, days, symbols, of == number) for number in range(len(self.makers))]
        rows, columns, windows = (torch.cat([part[i] for part in parts]) for i in range(3))
        whole = windows.new_empty(*symbols.shape, *windows.shape[1:])
        whole[rows, columns] = windows
        return whole

    def _part(self, number: int, days: Tensor, symbols: Tensor, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and columns (M,) of the symbols of one class, and their windows [M, L, F]."""
        # its symbols to the left, so that its own windows are asked for as few places as there can be
        order = mine.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(mine.sum(dim=1).max())]
        there = mine.gather(1, order)
        local = self.place[symbols.gather(1, order)].where(there, 0)
        windows = self.makers[number](self.last[number][days], local)
        rows, at = there.nonzero(as_tuple=True)
        return rows, order[rows, at], windows[there]
