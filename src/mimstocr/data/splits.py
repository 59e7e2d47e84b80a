"""Which days train, validate and test.

Splits are by day, train < valid < test; bars within a day share its split. A day's label ends `reach` days later; it is
used only when it ends inside the day's own split, so no label overlaps the next split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mimstocr.components import Settings
from mimstocr.data.panel import Days
from mimstocr.errors import ConfigError

Range = tuple[date, date]

HOLIDAYS = np.timedelta64(10, "D")
"""Longest time without trading that a split may ask for beyond the ends of the data: the Spring Festival closes
the Chinese exchanges for up to ten days."""


class SplitSettings(Settings):
    """First and last day of each split, both included, or the year that tests; without: 60, 20 and 20 % of the days."""

    train: Range | None = None
    """Days that are learned from."""
    valid: Range | None = None
    """Days that choose when to stop, and between settings."""
    test: Range | None = None
    """Days that are looked at once, for the evidence."""
    test_year: Annotated[int, Field(ge=1700, le=2200)] | None = None
    """Calendar year that tests; the year before validates, all days before that train. For walking forward year by
    year (profit-guided paper, section 5)."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        asked = self.asked()
        if asked and self.test_year is not None:
            raise ValueError(f"test_year and {', '.join(asked)} are both given; give one of them")
        if asked and len(asked) < 3:
            lacks = [name for name in ("train", "valid", "test") if name not in asked]
            raise ValueError(f"{', '.join(asked)} given without {', '.join(lacks)}; give all three splits, or none")
        before: tuple[str, Range] | None = None
        for name, (first, last) in asked.items():
            if last < first:
                raise ValueError(f"{name} ends on {last}, before it starts on {first}; swap the days")
            if before is not None and first <= before[1][1]:
                raise ValueError(
                    f"{name} starts on {first}, but {before[0]} ends on {before[1][1]}; "
                    "expected train before valid before test, without overlap"
                )
            before = name, (first, last)
        return self

    def asked(self) -> dict[str, Range]:
        """Name to (first, last) of the splits given, in the order train, valid, test."""
        given = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: days for name, days in given.items() if days is not None}


@dataclass(frozen=True)
class Split:
    """Some consecutive days of a panel."""

    name: str
    first: date
    """The day of its first row in the panel."""
    last: date
    """The day of its last row."""
    days: slice
    """Its place among the panel's days."""
    labelled: slice
    """The same without the last `reach` days: the days whose labels end inside the split."""


@dataclass(frozen=True)
class Splits:
    """Train, valid and test, in the order of time."""

    train: Split
    valid: Split
    test: Split

    def __iter__(self) -> Iterator[Split]:
        return iter((self.train, self.valid, self.test))


def resolve_splits(settings: SplitSettings, days: Days, reach: int) -> Splits:
    """The splits as places among `days`, (days,) and increasing; a label is known `reach` days after its day.

    Without dates the first 60 % of the days train, the next 20 % validate, the rest tests (rounded down; of bars within
    the day, back to the first bar of that day).
    Raises ConfigError when a split asks for days more than `HOLIDAYS` before the first or after the last day
    of the data, or has no day whose label ends inside it.
    """
    days = np.asarray(days, dtype="datetime64[D]")
    asked = settings.asked()
    if settings.test_year is not None:
        places = _year(settings.test_year, days)
    elif asked:
        places = {name: _place(name, first, last, days) for name, (first, last) in asked.items()}
    else:
        cuts = [0, *(int(np.searchsorted(days, days[len(days) * cut // 100])) for cut in (60, 80)), len(days)]
        places = {name: slice(cuts[i], cuts[i + 1]) for i, name in enumerate(("train", "valid", "test"))}
    return Splits(**{name: _split(name, place, days, reach) for name, place in places.items()})


def labelled_days(splits: Splits, own: NDArray[np.int64], reach: int, who: str = "") -> NDArray[np.bool_]:
    """(own days,) whether a label of the day ends inside its own split, `reach` own days later.

    own: (own days,) places among the days of the splits, increasing; of one asset class on its own calendar. who: its
    name. Raises ConfigError when no label of it ends inside some split.
    """
    mask = np.zeros(len(own), dtype=bool)
    for split in splits:
        first, stop = np.searchsorted(own, [split.days.start, split.days.stop])
        if stop - first < reach + 1:
            raise ConfigError(
                f"splits.{split.name}: asset class {who} has {stop - first} days from {split.first} to {split.last}, "
                f"but a label ends {reach} of its days later, so at least {reach + 1} are needed; choose other days"
            )
        mask[first : stop - reach] = True
    return mask


def _year(year: int, days: Days) -> dict[str, slice]:
    """The year, the year before it, and all days before that."""
    cuts = [0, *(int(np.searchsorted(days, np.datetime64(f"{start}-01-01"))) for start in (year - 1, year, year + 1))]
    places = {name: slice(cuts[i], cuts[i + 1]) for i, name in enumerate(("train", "valid", "test"))}
    for name, place in places.items():
        if place.start == place.stop:
            raise ConfigError(
                f"splits.test_year: {year} needs days in {year}, in {year - 1} and before, but the data goes from "
                f"{days[0]} to {days[-1]} and leaves none to {name}; choose another year, or widen the data"
            )
    return places


def _place(name: str, first: date, last: date, days: Days) -> slice:
    low, high = np.datetime64(first), np.datetime64(last)
    if low < days[0] - HOLIDAYS or high > days[-1] + HOLIDAYS:
        raise ConfigError(
            f"splits.{name}: asks for {first} to {last}, but the data goes from {days[0]} to {days[-1]}; "
            "choose days inside, or widen data.start and data.end"
        )
    return slice(int(np.searchsorted(days, low)), int(np.searchsorted(days, high, side="right")))


def _split(name: str, place: slice, days: Days, reach: int) -> Split:
    count = place.stop - place.start
    if count < reach + 1:
        raise ConfigError(
            f"splits.{name}: {count} days, but a label ends {reach} days after its day, so at least {reach + 1} "
            f"are needed; the data has {len(days)} days from {days[0]} to {days[-1]}: choose more"
        )
    first, last = days[place.start].item(), days[place.stop - 1].item()
    return Split(name, first, last, place, slice(place.start, place.stop - reach))
