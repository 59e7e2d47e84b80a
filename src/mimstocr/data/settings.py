"""The settings that say which prices to read."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mimstocr.components import Settings


class DataSettings(Settings):
    """Which prices to read, over which universe and days."""

    source: str = "sample:us-large"
    """Address `scheme:place`: qlib:FOLDER, csv:PATH, parquet:PATH, or a sample that needs no files."""
    universe: str | None = None
    """Who is in the cross-section: a list of the source (qlib: csi300) or a file of spans (symbol, first, last)."""
    start: date | None = None
    """First day to read; none: the first the source has."""
    end: date | None = None
    """Last day to read; none: the last the source has."""
    benchmark: str | None = None
    """Symbol of the source's index for comparisons, such as SH000300; none: the universe's mean alone."""
    concepts: Path | None = None
    """A table of symbol,concept, such as industries, many to many, for backbones that use them (hist, rsr); none:
    what the source itself has."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For tables: our field to your column, such as {close: px_last}; the rest is recognised by name."""
    days_per_year: Annotated[int, Field(gt=0)] = 252
    """Trading days a year, for annualising (252 stocks, 365 crypto)."""
    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of rows that the checks at the door may drop before the source is refused."""
