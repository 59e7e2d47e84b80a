"""The local store of online sources: one Parquet file for the bars of a symbol.

`STORE/source/category/interval/symbol.parquet` holds the rows, sorted and unique by `time` (milliseconds UTC at which
the bar starts; of a day bar midnight of its day, whatever the exchange's time zone), and a header in the metadata of
the file: a version, what the rows are of, and the span that is covered. Every finished bar that the source has in
that span is there, so what is missing before and after it is all that must be fetched.

A file is written whole or not at all, and read without a lock. Who fetches holds the lock of the symbol.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import polars as pl
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from mimstocr.errors import DataError

VERSION = 1
KEY = "mimstocr"
"""The header's name among the metadata of the file."""
WAIT = 600.0
"""Seconds to wait for another process that fetches the same symbol."""


class Header(BaseModel):
    """What the rows of a file are, and what they cover."""

    version: int = VERSION
    source: str
    category: str
    interval: str
    symbol: str
    start: int
    """Milliseconds; with `stop` the span [start, stop) that is covered."""
    stop: int
    about: dict[str, str] = {}
    """What the source says of the symbol, such as its currency."""


class Merged(NamedTuple):
    """Old rows with new ones on top."""

    rows: pl.DataFrame
    new: int
    """Rows at times that were not there."""
    revised: int
    """Rows that were there with another value."""


class History(NamedTuple):
    """The bars of one symbol."""

    header: Header
    rows: pl.DataFrame

    def covers(self, start: int, stop: int) -> bool:
        """Whether nothing of [start, stop), milliseconds, is missing."""
        return self.header.start <= start and stop <= self.header.stop

    def extended(self, rows: pl.DataFrame, start: int, stop: int) -> Self:
        """With other rows, covering [start, stop) too; the two spans must touch."""
        if start > self.header.stop or stop < self.header.start:
            raise ValueError(
                f"[{start}, {stop}) does not touch [{self.header.start}, {self.header.stop}): there would be a hole"
            )
        span = {"start": min(start, self.header.start), "stop": max(stop, self.header.stop)}
        return self._replace(header=self.header.model_copy(update=span), rows=rows)


def merged(old: pl.DataFrame, new: pl.DataFrame) -> Merged:
    """Rows of both, those of `new` where both have the time. Each is unique by time; NaN equals NaN."""
    both = old.join(new, on="time", how="inner", suffix=" new")
    changed = [pl.col(name).ne_missing(pl.col(f"{name} new")) for name in old.columns if name != "time"]
    rows = pl.concat([old.join(new, on="time", how="anti"), new.select(old.columns)]).sort("time")
    return Merged(rows, len(rows) - len(old), both.filter(pl.any_horizontal(changed)).height)


class Shelf:
    """The file of one symbol."""

    def __init__(self, folder: Path, symbol: str) -> None:
        self.symbol = symbol
        self.path = folder / f"{quote(symbol, safe='')}.parquet"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Alone among the processes that fetch this symbol. Raises DataError after `WAIT` seconds."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=WAIT):
                yield
        except Timeout:
            raise DataError(
                f"{self.path}: another process has been fetching it for {WAIT:.0f} s; wait for it"
            ) from None
        except OSError as error:
            raise DataError(f"data.store {self.path.parent}: cannot be written ({error.strerror or error})") from None

    def read(self) -> History | None:
        """What is stored; none: nothing. Raises DataError on a file that is not ours."""
        if not self.path.is_file():
            return None
        try:
            told = pl.read_parquet_metadata(self.path).get(KEY)
            header = None if told is None else Header.model_validate_json(told)
            rows = pl.read_parquet(self.path, glob=False, hive_partitioning=False)
        except (OSError, pl.exceptions.PolarsError, ValidationError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{self.path}: cannot be read ({reason}); {self._mend()}") from None
        if header is None or header.version != VERSION:
            found = "no version" if header is None else f"version {header.version}"
            raise DataError(f"{self.path}: expected version {VERSION} of the store, got {found}; {self._mend()}")
        return History(header, rows)

    def write(self, history: History) -> None:
        """Write the file whole or not at all; only under the lock."""
        unfinished = self.path.with_name(f".{self.path.name}.unfinished")
        content = BytesIO()  # so that a disk that is full is an OSError, which Polars has its own error for
        history.rows.write_parquet(content, metadata={KEY: history.header.model_dump_json()})
        try:
            with unfinished.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _mend(self) -> str:
        return "remove the file, and `mimstocr data update` fetches it again"


class Store:
    """All that was fetched, under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()

    def shelf(self, source: str, category: str, interval: str, symbol: str) -> Shelf:
        """The file of one symbol."""
        return Shelf(self.root / source / category / interval, symbol)
