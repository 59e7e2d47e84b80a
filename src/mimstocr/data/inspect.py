"""What is in a panel, in numbers; and a panel as a long table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.data.panel import FIELDS, Panel, day_text, days_of, fingerprint, symbols_of
from mimstocr.errors import DataError

EXTREME = 0.5
"""A change of the close beyond this fraction is worth a look: news, or a split that was not adjusted."""
GAP = 10
"""More calendar days than this between two trading days are a hole in most calendars."""


class Change(NamedTuple):
    """The close of `symbol` on `day` against its last tradable close before, on `since`, as a fraction."""

    symbol: str
    day: str
    change: float
    since: str


class Gap(NamedTuple):
    """No trading day between two days."""

    after: str
    before: str
    calendar_days: int


@dataclass(frozen=True)
class Inspection:
    """The account of a panel, in plain data. Days are ISO text, shares are fractions."""

    source: str
    first_day: str
    last_day: str
    days: int
    symbols: int
    members_min: int
    """Members on the day with the fewest; likewise the median and the most."""
    members_median: float
    members_max: int
    member_days: int
    """Pairs of a day and a member; the whole that the shares below are of."""
    missing: dict[str, float]
    """Field to the share of member-days on which it is not known."""
    untradable: int
    """Member-days that cannot be traded."""
    untradable_share: float
    dropped: dict[str, int]
    """Reason to rows that the door refused."""
    notes: list[str]
    extreme_changes: int
    """Changes beyond `EXTREME` between tradable days of a symbol, members or not."""
    largest_changes: list[Change]
    """The five largest of them by size."""
    gaps: list[Gap]
    """Neighbouring days more than `GAP` calendar days apart."""
    fingerprint: str


def inspect_panel(panel: Panel) -> Inspection:
    """Count what a reader of results must know about the data. Reads the panel once, changes nothing."""
    days = days_of(panel)
    member = panel["member"].values
    tradable = panel["tradable"].values
    members = member.sum(axis=1)
    member_days = int(members.sum())
    untradable = int((member & ~tradable).sum())
    n_extreme, largest = _changes(panel)
    return Inspection(
        source=str(panel.attrs["source"]),
        first_day=day_text(days[0]),
        last_day=day_text(days[-1]),
        days=len(days),
        symbols=panel.sizes["symbol"],
        members_min=int(members.min()),
        members_median=float(np.median(members)),
        members_max=int(members.max()),
        member_days=member_days,
        missing={
            name: _share(int((member & np.isnan(panel[name].values)).sum()), member_days) for name in _fields(panel)
        },
        untradable=untradable,
        untradable_share=_share(untradable, member_days),
        dropped=dict(panel.attrs["dropped"]),
        notes=list(panel.attrs["notes"]),
        extreme_changes=n_extreme,
        largest_changes=largest,
        gaps=_gaps(days),
        fingerprint=fingerprint(panel),
    )


def write_long(panel: Panel, path: Path) -> None:
    """Write the panel as a long table: date, symbol, fields, member, tradable; CSV or Parquet by the ending.

    One row for each day and symbol with a close. The benchmark's rows come under its name, as no member. Read
    back as csv:PATH or parquet:PATH, with the benchmark named, the table gives the same values; a symbol that is
    never a member and a day without any close are not in it.
    The file is written whole or not at all. Raises DataError when it exists already, its folder does not, or
    the ending is neither .csv nor .parquet.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{path}: expected a name that ends in .parquet or .csv, got {path.suffix or 'no ending'!r}")
    if path.exists():
        raise DataError(f"{path}: exists already and is not written over; name another file, or remove it")
    if not path.parent.is_dir():
        raise DataError(f"{path}: the folder {path.parent} does not exist; make it first")
    table = _long(panel)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        if path.suffix.lower() == ".csv":
            table.write_csv(unfinished)
        else:
            table.write_parquet(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _long(panel: Panel) -> pl.DataFrame:
    day, symbol = np.nonzero(~np.isnan(panel["close"].values))
    table = _rows(panel, day, pl.Series("symbol", symbols_of(panel)).gather(symbol))
    names = [*_fields(panel), "member", "tradable"]
    table = table.with_columns(pl.Series(name, panel[name].values[day, symbol], nan_to_null=True) for name in names)
    if "benchmark" not in panel:
        return table
    closes = panel["benchmark"].values
    day = np.flatnonzero(~np.isnan(closes))
    name = pl.Series("symbol", [panel.attrs["benchmark_name"]]).new_from_index(0, len(day))
    index = _rows(panel, day, name).with_columns(
        pl.Series("close", closes[day]), member=pl.lit(False), tradable=pl.lit(False)
    )
    return pl.concat([table, index], how="diagonal").sort("date", "symbol")


def _rows(panel: Panel, day: NDArray[np.intp], symbol: pl.Series) -> pl.DataFrame:
    dates = pl.Series("date", days_of(panel)[day])
    return pl.DataFrame([dates, symbol])


def _fields(panel: Panel) -> list[str]:
    return [name for name in FIELDS if name in panel]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _changes(panel: Panel) -> tuple[int, list[Change]]:
    """How many changes between neighbouring tradable closes of a symbol are extreme, and the five largest."""
    close = panel["close"].values.astype(np.float64)
    tradable = panel["tradable"].values
    place = np.where(tradable, np.arange(len(close))[:, None], -1)
    before = np.full_like(place, -1)
    before[1:] = np.maximum.accumulate(place, axis=0)[:-1]
    known = tradable & (before >= 0)
    last = np.take_along_axis(close, np.maximum(before, 0), axis=0)
    change = np.divide(close, last, out=np.ones_like(close), where=known) - 1
    extreme = np.argwhere(np.abs(change) > EXTREME)
    order = np.argsort(-np.abs(change[extreme[:, 0], extreme[:, 1]]), kind="stable")[:5]
    days, symbols = days_of(panel), symbols_of(panel)
    largest = [
        Change(symbols[n], day_text(days[t]), float(change[t, n]), day_text(days[before[t, n]]))
        for t, n in extreme[order]
    ]
    return len(extreme), largest


def _gaps(days: NDArray[np.datetime64]) -> list[Gap]:
    length = np.diff(days.astype("datetime64[D]")).astype(np.int64)
    return [Gap(day_text(days[i]), day_text(days[i + 1]), int(length[i])) for i in np.flatnonzero(length > GAP)]
