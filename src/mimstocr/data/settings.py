"""The settings that say which prices to read."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mimstocr.components import Settings
from mimstocr.data.portfolio import Portfolio


class DataSettings(Settings):
    """Which prices to read, over which universe and days."""

    source: str = "sample:us-large"
    """Address `scheme:place`: qlib:FOLDER, csv:PATH, parquet:PATH, a sample that needs no files, or online
    yahoo:AAPL,MSFT, bybit:BTCUSDT,ETHUSDT (spot), bybit:linear/BTCUSDT (perpetuals), each also as @FILE of symbols."""
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
    extra: Path | None = None
    """A table of date, symbol and columns of numbers of your own, each known at the close of its day, for the features
    `columns`; CSV or Parquet."""
    portfolio: Portfolio | None = None
    """The n largest members on a day instead of the universe, such as {day: 2016-12-31, n: 50}; none: the universe."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For tables: our field to your column, such as {close: px_last}; the rest is recognised by name."""
    days_per_year: Annotated[int, Field(gt=0)] | None = None
    """Bars a year, for annualising; none: 252, but what the source says where it knows better (crypto: 365 days)."""
    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of rows that the checks at the door may drop before the source is refused."""
    interval: Literal["1d", "4h", "1h"] = "1d"
    """Length of a bar. Sources have days; Bybit has hours too. All that is told in days then counts bars."""
    store: Path = Path("~/.mimstocr/store")
    """Folder in which what online sources gave is kept, and to which only what is missing is added."""
    refresh: bool = True
    """Fetch what the store lacks, up to now or `end`; false: the store alone, no network."""
    assets: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], DataSettings] = Field(default_factory=dict)
    """Asset classes by name, each with settings of data of its own: one panel, one model. All else here is then left
    out, such as {stocks: {source: "parquet:stocks.parquet"}, crypto: {source: "bybit:BTCUSDT,ETHUSDT"}}."""

    @model_validator(mode="before")
    @classmethod
    def _settle_year(cls, raw: Any) -> Any:
        # run folders of before hold the 252 that was the default; it must go on meaning the same
        if isinstance(raw, dict) and raw.get("days_per_year") == 252 and not _online(raw.get("source")):
            return {key: value for key, value in raw.items() if key != "days_per_year"}
        return raw

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError(f"end {self.end} is before start {self.start}; swap the days")
        return self

    @model_validator(mode="after")
    def _assets_alone(self) -> Self:
        if not self.assets:
            return self
        plain = DataSettings()
        besides = [
            name for name in type(self).model_fields if name != "assets" and getattr(self, name) != getattr(plain, name)
        ]
        if besides:
            raise ValueError(f"{', '.join(besides)} given beside assets; say it within each class it is meant for")
        for name, own in self.assets.items():
            if own.assets:
                raise ValueError(f"assets.{name}: a class cannot have classes itself; name them beside it")
            if own.benchmark is not None:
                raise ValueError(f"assets.{name}: a benchmark has the days of one class alone; leave it out")
        if len({own.interval for own in self.assets.values()}) > 1:
            told = ", ".join(f"{name} {own.interval}" for name, own in self.assets.items())
            raise ValueError(f"assets: expected one interval for all, got {told}")
        return self


USUAL_YEAR = 252
"""Trading days a year of stocks."""


def _online(source: Any) -> bool:
    return str(source).partition(":")[0] in ("yahoo", "bybit")
