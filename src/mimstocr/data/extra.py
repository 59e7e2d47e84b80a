"""A table of the user's own numbers by day and symbol, which features can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.data import cells
from mimstocr.data.panel import Days, Panel, day_text, days_of, few, resolved, symbols_of, within_day
from mimstocr.data.tables import find_columns
from mimstocr.errors import DataError

KEYS = ("date", "symbol")


def read_extra(path: Path, *, times: bool = False) -> pl.DataFrame:
    """Columns date, symbol, then numbers in the file's order, of a CSV or Parquet file with a row a day and symbol.

    Date and symbol are recognised as in tables of prices; every other column is a number, NaN where nothing is
    known. times: the time of day counts. Raises DataError when the file or a cell cannot be read, a column is
    missing, or a number is more than float32 can hold.
    """
    # these two register sources, and the sources use this module
    from mimstocr.data.source.csv import CSV
    from mimstocr.data.source.parquet import PARQUET

    where = f"extra table {path}"
    if not path.is_file():
        raise DataError(f"{where}: no such file; expected a CSV or Parquet file of date, symbol and columns of numbers")
    form = PARQUET if path.suffix.lower() in PARQUET.suffixes else CSV
    names = form.names(path)
    roles = find_columns(names, {}, where)
    if lacks := [key for key in KEYS if key not in roles.columns]:
        raise DataError(f"{where}: expected a column {lacks[0]}, got {few(names)}; rename the one that is it")
    date, symbol = (roles.columns[key] for key in KEYS)
    named = {*roles.unused, *roles.columns.values()} - {date, symbol}  # an unnamed column is an index
    numbers = [name for name in names if name in named]
    if not numbers:
        raise DataError(f"{where}: expected columns of numbers beside {date} and {symbol}, got none; add one")
    raw = form.read(path, [date, symbol], numbers)
    if raw.is_empty():
        raise DataError(f"{where}: expected rows, got a header alone")
    keys = [cells.dates(raw[date], where, times=times).alias("date"), cells.symbols(raw[symbol], where).alias("symbol")]
    if taken := [name for name in numbers if name in KEYS]:
        raise DataError(f"{where}: a column of numbers cannot be called {taken[0]}; rename it")
    return pl.DataFrame([*keys, *(_number(raw[name], where) for name in numbers)])


def add_extra(panel: Panel, table: pl.DataFrame, where: str) -> Panel:
    """The panel with `extra`, float32 (date, symbol, column), of a table as `read_extra` gives it.

    values[t] is what the table has for day t: by its contract, known at the close of t. A day or symbol without a row
    is NaN; rows of days and symbols that the panel has not are counted in its notes. Raises DataError when no row is
    of the panel, a day and symbol come twice, or the table has days and the panel bars within the day: at which bar a
    number of the day was known is not for us to guess.
    """
    _check_repeats(table.select(KEYS), where)
    days, stamps, symbols = days_of(panel), resolved(table["date"].to_numpy()), symbols_of(panel)
    if within_day(days) and not within_day(stamps):
        raise DataError(
            f"{where}: expected a time of day in each row, as the prices have bars within the day, got days alone; "
            "write the time of the bar at whose close the numbers were known"
        )
    row_day = _places(pl.Series(_milliseconds(stamps)), pl.Series(_milliseconds(days)))
    row_symbol = _places(table["symbol"], pl.Series(symbols))
    here = (row_day >= 0) & (row_symbol >= 0)
    if not here.any():
        has, have = (f"{day_text(some[0])} to {day_text(some[-1])}" for some in (np.sort(stamps), days))
        raise DataError(
            f"{where}: none of its rows is of {panel.attrs['source']} (it has {has}, "
            f"{few(sorted(set(table['symbol'])))}; the prices have {have}, {few(symbols)}); write both alike"
        )
    names = [name for name in table.columns if name not in KEYS]
    values = np.full((len(days), len(symbols), len(names)), np.nan, dtype=np.float32)
    for place, name in enumerate(names):
        values[row_day[here], row_symbol[here], place] = table[name].fill_null(np.nan).to_numpy()[here]
    values.flags.writeable = False
    priced = ~np.isnan(panel["close"].values)
    given = np.zeros(priced.shape, dtype=bool)
    given[row_day[here], row_symbol[here]] = True
    notes = [f"{where}: columns {few(names)}, {(given & priced).sum() / priced.sum():.1%} of the rows with a close"]
    if out := int((~here).sum()):
        notes.append(f"{where}: {out} of {len(table)} rows are of days or symbols that the prices have not")
    added = panel.drop_vars(["extra", "column"], errors="ignore").assign(extra=(("date", "symbol", "column"), values))
    added = added.assign_coords(column=np.array(names, dtype=np.str_))
    added.attrs = {**panel.attrs, "notes": [*panel.attrs["notes"], *notes]}
    return added


def column_names(panel: Panel) -> list[str]:
    """The columns of a panel's extra table, in order; empty without one."""
    return [str(name) for name in panel["column"].values] if "extra" in panel else []


def _milliseconds(days: Days) -> NDArray[np.int64]:
    return days.astype("datetime64[ms]").astype(np.int64)


def _places(values: pl.Series, known: pl.Series) -> NDArray[np.int64]:
    """The place of each value among the known values, -1 for the others."""
    places = values.replace_strict(known, pl.int_range(len(known), eager=True), default=-1, return_dtype=pl.Int64)
    return places.to_numpy()


def _check_repeats(keys: pl.DataFrame, where: str) -> None:
    again = keys.is_duplicated()
    if again.any():
        day, symbol = keys.row(int(again.arg_max() or 0))
        raise DataError(
            f"{where}: expected one row for a day and symbol, but {again.sum()} rows share theirs, the first {day} "
            f"{symbol}; drop the repeats"
        )


def _number(column: pl.Series, where: str) -> pl.Series:
    """Float64, NaN where nothing is known."""
    values = cells.numbers(column, where).fill_null(np.nan)
    beyond = values.is_not_nan() & (values.abs() > float(np.finfo(np.float32).max))
    if beyond.any():
        row = int(beyond.arg_max() or 0)
        raise DataError(
            f"{where}, row {row + 1}, column {column.name!r}: expected a number that float32 can hold, got "
            f"{values[row]:g}; mend the cell, or leave it empty where nothing is known"
        )
    return values
