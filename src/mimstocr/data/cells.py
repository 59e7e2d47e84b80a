"""The cells of a table: days, symbols, numbers and flags, each from whatever type the table has them in.

Rows in errors are counted from 1, the first after the header.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from mimstocr.data.panel import few, repeated
from mimstocr.errors import DataError

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none")
"""Words, in lower case, that stand for a missing value."""


def dates(column: pl.Series, where: str, *, times: bool = False) -> pl.Series:
    """Days as Date, without the time of day; with `times` Datetime in milliseconds, in UTC where a zone is given."""
    if times:
        days = _times(column)
    else:
        stamped = column.dtype in (pl.Date, pl.Datetime)
        days = column.dt.date() if stamped else _by_word(column, _day, pl.Date)
    if days.null_count():
        row = int(days.is_null().arg_max() or 0)
        form = "a time as YYYY-MM-DD HH:MM" if times else "a day as YYYY-MM-DD or YYYYMMDD"
        raise DataError(
            f"{where}, row {row + 1}, column {column.name!r}: expected {form}, got {_shown(column, row)}; mend the cell"
        )
    return days


def _day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text.strip()).date()
    except ValueError:
        return None


def _times(column: pl.Series) -> pl.Series:
    if column.dtype not in (pl.Date, pl.Datetime):
        return _by_word(column, _time, pl.Datetime("ms"))
    stamps = column.cast(pl.Datetime("ms", column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None))
    return stamps.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _time(text: str) -> datetime | None:
    try:
        stamp = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return stamp if stamp.tzinfo is None else stamp.astimezone(UTC).replace(tzinfo=None)


def symbols(column: pl.Series, where: str) -> pl.Series:
    """Text without blanks around it; whole numbers become text."""
    if column.dtype.is_float():
        raise DataError(f"{where}, column {column.name!r}: expected symbols as text or whole numbers, got fractions")
    text = _by_word(column, lambda word: word.strip() or None, pl.String)
    if text.null_count():
        row = int(text.is_null().arg_max() or 0)
        raise DataError(f"{where}, row {row + 1}, column {column.name!r}: expected a symbol, got nothing; mend the row")
    return text


def numbers(column: pl.Series, where: str) -> pl.Series:
    """Float64, null or NaN where nothing is known."""
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column.cast(pl.Float64)
    text = column.cast(pl.String).str.strip_chars()
    values = text.cast(pl.Float64, strict=False)
    bad = values.is_null() & text.is_not_null() & ~text.str.to_lowercase().is_in(MISSING)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(
            f"{where}, row {row + 1}, column {column.name!r}: expected a number, got {_shown(column, row)}; "
            "mend the cell, or leave it empty where nothing is known"
        )
    return values


def flags(column: pl.Series, where: str) -> pl.Series:
    """Boolean, from true or false, or 1 and 0."""
    if column.dtype == pl.Boolean and not column.null_count():
        return column
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    flags = _by_word(column, lambda word: words.get(word.strip().lower()), pl.Boolean)
    if flags.null_count():
        row = int(flags.is_null().arg_max() or 0)
        raise DataError(
            f"{where}, row {row + 1}, column {column.name!r}: expected true or false, got {_shown(column, row)}; "
            "mend the cell, or rename the column if it means something else"
        )
    return flags


def _by_word(column: pl.Series, read: Callable[[str], object], kind: pl.DataType | type[pl.DataType]) -> pl.Series:
    """What `read` makes of each cell's text, once for each distinct text; null where it gives None."""
    text = column.cast(pl.String)
    known = text.drop_nulls().unique()
    return text.replace_strict(known, pl.Series([read(word) for word in known], dtype=kind), default=None)


def _shown(column: pl.Series, row: int) -> str:
    value = column[row]
    return "nothing" if value is None else repr(value)


def from_pandas(frame: pd.DataFrame, source: str) -> pl.DataFrame:
    """Index levels that carry something, then the columns. Goes through numpy: Polars' own way needs pyarrow."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{source}: expected a pandas or Polars DataFrame, got {type(frame).__name__}")
    if frame.columns.nlevels > 1:
        raise DataError(
            f"{source}: expected one level of columns, got {frame.columns.nlevels}; stack the symbols first"
        )
    parts: list[tuple[str, pd.Series[Any]]] = []
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        for level in range(frame.index.nlevels):
            values = pd.Series(frame.index.get_level_values(level))
            guess = "date" if pd.api.types.is_datetime64_any_dtype(values.dtype) else "symbol"
            name = frame.index.names[level]
            if name is not None or frame.index.nlevels > 1 or guess == "date":
                parts.append((guess if name is None else str(name), values))
    parts += [(str(frame.columns[place]), frame.iloc[:, place]) for place in range(frame.shape[1])]
    names = [name for name, _ in parts]
    if twice := repeated(names):
        raise DataError(f"{source}: expected each column once, but {few(twice)} come again, maybe in the index")
    return pl.DataFrame([_series(name, values) for name, values in parts])


def _series(name: str, values: pd.Series[Any]) -> pl.Series:
    kind = pd.api.types
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_localize(None)
    if kind.is_datetime64_any_dtype(values.dtype):
        return pl.Series(name, values.to_numpy().astype("datetime64[us]"))
    if kind.is_integer_dtype(values.dtype) and not values.hasnans:
        return pl.Series(name, values.to_numpy(dtype=np.int64))
    if kind.is_numeric_dtype(values.dtype) and not kind.is_bool_dtype(values.dtype):
        return pl.Series(name, values.to_numpy(dtype=np.float64, na_value=np.nan))
    codes, known = pd.factorize(values)  # text, categories, mixed: each distinct value is turned to text once
    words = pl.Series(name, [str(value) for value in known], dtype=pl.String)
    return words.gather(pl.Series(codes, dtype=pl.Int64).replace(-1, None))
