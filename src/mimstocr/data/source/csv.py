"""CSV files, read with Polars; what is in a table and how it is recognised is told in `data/tables.py`.

The separator is the comma, semicolon or tab that comes most often in the header.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mimstocr.data.panel import Panel, few, repeated
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import SOURCES
from mimstocr.data.tables import Format, panel_from_files
from mimstocr.errors import DataError


@SOURCES.register("csv")
def load(place: str, settings: DataSettings) -> Panel:
    """A CSV file or a folder of them (csv:PATH): long, wide, or one file a symbol."""
    return panel_from_files(place, settings, CSV)


def _names(path: Path) -> list[str]:
    names = next(csv.reader([_header(path)], delimiter=_separator(path)))
    if twice := repeated(names):
        raise DataError(f"{path}: expected each column once, but {few(twice)} come again; rename them")
    return names


def _read(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pl.DataFrame:
    try:
        return _parse(path, texts, numbers)
    except pl.exceptions.PolarsError:
        # a cell that is no number: read text, so that the caller can tell a missing value from a mistake
        pass
    try:
        return _parse(path, [*texts, *numbers], [])
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: expected a CSV table, but it cannot be read as one ({reason})") from None


def _parse(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pl.DataFrame:
    return pl.read_csv(
        path,
        columns=[*texts, *numbers],
        schema_overrides={**dict.fromkeys(texts, pl.String), **dict.fromkeys(numbers, pl.Float64)},
        infer_schema=False,
        separator=_separator(path),
        glob=False,
    )


def _header(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected UTF-8 text; save it as UTF-8, and unpack it if it is compressed") from None
    if not line.strip():
        raise DataError(f"{path}: expected a header line, got an empty {'line' if path.stat().st_size else 'file'}")
    return line


def _separator(path: Path) -> str:
    return max(",;\t", key=_header(path).count)


CSV = Format((".csv",), _names, _read)
