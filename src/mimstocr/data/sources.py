"""Addresses: which source reads which kind of place."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mimstocr.components import Registry, near
from mimstocr.data.assets import merge_classes
from mimstocr.data.concepts import add_concepts, read_concepts
from mimstocr.data.extra import add_extra, read_extra
from mimstocr.data.panel import Days, Panel, days_of, within_day
from mimstocr.data.portfolio import choose
from mimstocr.data.settings import DataSettings
from mimstocr.errors import ConfigError, DataError


class Source(Protocol):
    """Reads the place of an address and gives a Panel that passed the door."""

    def __call__(self, place: str, settings: DataSettings) -> Panel:
        """place: what follows the colon. Raises a MimstocrError that says what to mend."""


UNEVEN = 0.01
"""Share of bars that may come sooner than the interval says, as on a day on which an exchange opens late."""

SOURCES: Registry[Source] = Registry("source", "mimstocr.data.source")


def load_panel(settings: DataSettings) -> Panel:
    """The Panel at `settings.source`, or of `settings.assets` side by side.

    With its concepts and the user's own columns, where `settings.concepts` and `settings.extra` name tables. Raises
    DataError when the address has no scheme, or the source or a table is refused; ConfigError on an unknown scheme, or
    an interval that the source does not have.
    """
    if settings.assets:
        panels = {name: load_panel(own) for name, own in settings.assets.items()}
        return merge_classes(panels) if len(panels) > 1 else next(iter(panels.values()))
    scheme, colon, place = settings.source.partition(":")
    if not colon or not place:
        raise DataError(
            f"expected an address scheme:place, got {settings.source!r}; "
            f"for a folder in Qlib's format write qlib:{settings.source}; {near(scheme, SOURCES.names())}"
        )
    panel = SOURCES.get(scheme)(place, settings)
    if settings.interval != "1d" and not within_day(days_of(panel)):
        raise ConfigError(f"data.interval: expected bars of {settings.interval}, but {scheme} has days; leave it at 1d")
    if settings.interval != "1d":
        _check_steps(days_of(panel), settings)
    if settings.concepts is not None:
        table = read_concepts(settings.concepts.expanduser())
        panel = add_concepts(panel, table, f"concept table {settings.concepts}")
    if settings.extra is not None:
        own = read_extra(settings.extra.expanduser(), times=settings.interval != "1d")
        panel = add_extra(panel, own, f"extra table {settings.extra}")
    return panel if settings.portfolio is None else choose(panel, settings.portfolio)


def _check_steps(days: Days, settings: DataSettings) -> None:
    """Raise DataError when bars are shorter than the interval says."""
    step = np.timedelta64(int(settings.interval.removesuffix("h")), "h")
    sooner = np.diff(days) < step
    if sooner.any() and sooner.mean() > UNEVEN:
        raise DataError(
            f"{settings.source}: expected bars of {settings.interval} (data.interval), but {sooner.mean():.0%} of them "
            "follow the one before sooner; bring them to that length"
        )
