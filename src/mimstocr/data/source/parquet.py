"""Parquet files, read with Polars; what is in a table and how it is recognised is told in `data/tables.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mimstocr.data.panel import Panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import SOURCES
from mimstocr.data.tables import Format, panel_from_files
from mimstocr.errors import DataError


@SOURCES.register("parquet")
def load(place: str, settings: DataSettings) -> Panel:
    """A Parquet file or a folder of them (parquet:PATH): long, wide, or one file a symbol."""
    return panel_from_files(place, settings, PARQUET)


def _names(path: Path) -> list[str]:
    try:
        return list(pl.read_parquet_schema(path))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: expected a Parquet file ({str(error).partition('.')[0]}); write it again") from None


def _read(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=[*texts, *numbers], glob=False, hive_partitioning=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: the Parquet file cannot be read ({reason}); write it again") from None


PARQUET = Format((".parquet", ".pq"), _names, _read)
