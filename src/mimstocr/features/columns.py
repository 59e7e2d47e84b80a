"""The user's own features: the columns of the table `data.extra`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mimstocr.components import near
from mimstocr.data.extra import column_names
from mimstocr.data.panel import Matrix, Panel, day_text, days_of, usable
from mimstocr.errors import DataError
from mimstocr.features._series import SeriesFeatures
from mimstocr.features.base import FEATURES


@FEATURES.register("columns")
class Columns(SeriesFeatures):
    """Columns of your own table (`data.extra`), each cell known at the close of its day.

    A cell that is missing is set to the training median like any other; nothing is carried forward from the day
    before. Numbers that come once a quarter belong into the table on every day on which they were the newest known.
    """

    lag: Annotated[int, Field(ge=0)] = 0
    """Trading days of the data by which all columns are delayed; 0: known at the close of their day."""

    @property
    def reads(self) -> frozenset[str]:
        """The table."""
        return frozenset({"extra"})

    def offered(self, panel: Panel) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All columns of the table. Raises DataError without one."""
        _check(panel, ())
        return tuple(column_names(panel)), ()

    def check_known(self, panel: Panel, day: int) -> None:
        """Raise DataError when the table has no number for any stock of the day: all would be the training median."""
        names = column_names(panel) if self.names is None else self.names
        _check(panel, names)
        known = ~np.isnan(panel["extra"].sel(column=list(names)).values)
        at = day - self.lag
        if at >= 0 and known[at, usable(panel)[day]].any():
            return
        days = days_of(panel)
        given = days[known.any(axis=(1, 2))]
        delayed = f" (lag {self.lag})" if self.lag else ""
        raise DataError(
            f"{panel.attrs['source']}: the table of data.extra has no number for the stocks of {day_text(days[day])}"
            f"{delayed}; it has numbers up to {day_text(given[-1]) if len(given) else 'no day'}. Bring it up to date, "
            "or ask for a day that it has"
        )

    def series(self, panel: Panel, names: Sequence[str]) -> Iterator[Matrix]:
        """Each named column in turn, delayed."""
        _check(panel, names)
        at = {name: i for i, name in enumerate(column_names(panel))}
        for name in names:
            series = np.full(panel["close"].shape, np.nan, dtype=np.float32)
            series[self.lag :] = panel["extra"].values[: max(len(series) - self.lag, 0), :, at[name]]
            yield series


def _check(panel: Panel, names: Sequence[str]) -> None:
    """Raise DataError when a column is not there."""
    if "extra" not in panel:
        raise DataError(
            f"{panel.attrs['source']}: the features `columns` read a table of your own, but there is none; name it in "
            "data.extra"
        )
    known = column_names(panel)
    for name in names:
        if name not in known:
            raise DataError(f"features.names: the table of data.extra has no column {name!r}; {near(name, known)}")
