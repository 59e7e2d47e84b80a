"""Real daily prices that two installed packages carry, for learning and for trying things out.

They need no download beyond `pip install 'mimstocr[samples]'`. Neither is fit for a claim about a market: their
weaknesses are in the panel's notes, and so in every run that uses them.
"""

from __future__ import annotations

import bz2
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from mimstocr.components import near
from mimstocr.data.concepts import add_concepts
from mimstocr.data.panel import Panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.source.csv import CSV
from mimstocr.data.sources import SOURCES
from mimstocr.data.tables import Grid, grid_of_fields, grid_of_frame, panel_of
from mimstocr.errors import ConfigError, DataError

US_LARGE_NOTES = (
    "sample us-large: 29 large US stocks, 1998-01-02 to 2013-08-09, old, and too few for a cross-section "
    "that means much",
    "survivors looked back at: chosen because they were large and listed in 2013, so returns are flattered",
    "prices are adjusted for splits and dividends; the volume is adjusted too, and so has fractions",
    "closes are not the exchange's official ones: daily returns differ from those of sample sp500 by 10 to 21 basis "
    "points on average where they overlap (AIG 39), which looks like short-term reversal that nobody can trade",
    "five stocks start late: EBAY 1998, MET 2000, ZMH 2001, GOOG 2004, NYX 2006; VRSN starts on 1998-01-30",
)
US_LARGE_SECTORS = {
    "technology": "AAPL CSCO HPQ IBM JBL VRSN",
    "internet": "AMZN EBAY GOOG YHOO",
    "health care": "ABC AMGN ESRX ZMH",
    "financials": "AIG JPM MET NYX USB",
    "industrials": "AA BWA EMR GE",
    "energy": "HAL HP",
    "utilities": "D GAS PCG",
    "staples": "COST",
}
"""Rough sectors by what the companies did in 2010, so that backbones that read concepts can be tried."""
SP500_NOTES = (
    "sample sp500: adjusted close and volume of 503 US stocks, 2006-08-31 to 2021-10-14; no open, high or low",
    "strongly survivorship-biased: the index's members of October 2021 looked back at, 423 of them in 2006, none "
    "that left or failed; returns, above all of small and distressed stocks, are flattered",
    "the adjusted close leaves some spin-offs and special dividends in: JCI 2007-07-02 (-53%), WY 2010-07-20 (-62%), "
    "EXPE 2011-12-21 (-34%) are no losses",
    "AMCR before 2019-06-11, CHTR in 2010 and HWM in November 2016 hardly traded: days are missing or without volume",
    "five companies come twice, as two classes of shares: GOOG/GOOGL, FOX/FOXA, NWS/NWSA, DISCA/DISCK, UA/UAA",
)


@SOURCES.register("sample")
def load(place: str, settings: DataSettings) -> Panel:
    """Real prices from an installed package (sample:us-large or sample:sp500), to learn and try things out."""
    if place not in SAMPLES:
        raise ConfigError(f"data.source: unknown sample {place!r}; {near(place, SAMPLES)}")
    if settings.columns:
        raise ConfigError("data.columns is for your own tables; leave it out with a sample")
    panel = panel_of(SAMPLES[place](settings), settings, settings.source)
    if place == "us-large" and settings.concepts is None:
        sectors = [(symbol, sector) for sector, symbols in US_LARGE_SECTORS.items() for symbol in symbols.split()]
        table = pl.DataFrame(sectors, schema=["symbol", "concept"], orient="row")
        panel = add_concepts(panel, table, "the sample's sectors")
    return panel


def _us_large(settings: DataSettings) -> Grid:
    tables = []
    for file in _us_large_files():
        table = pl.read_csv(
            bz2.decompress(file.read_bytes()),
            has_header=False,
            new_columns=["date", "time", "open", "high", "low", "close", "volume"],
            schema_overrides={"date": pl.String, "volume": pl.Float64},
        )
        ticker = file.name.removeprefix("table_").removesuffix(".csv.bz2").upper()
        tables.append(table.drop("time").with_columns(symbol=pl.lit(ticker)))
    grid = grid_of_frame(pl.concat(tables), settings, settings.source)
    grid.notes = list(US_LARGE_NOTES)
    return grid


def _us_large_files() -> list[Path]:
    """The package puts its files under the environment's prefix; its record says where that was."""
    try:
        listed = distribution("fakestockdata").files or []
    except PackageNotFoundError:
        raise _missing("us-large", "fakestockdata") from None
    files = [Path(str(file.locate())) for file in listed if file.name.endswith(".csv.bz2")]
    files = [file for file in files if file.is_file()] or list(
        (Path(sys.prefix) / "share/fakestockdata/daily").glob("table_*.csv.bz2")
    )
    if not files:
        raise _missing("us-large", "fakestockdata")
    return sorted(files)


def _sp500(settings: DataSettings) -> Grid:
    spec = find_spec("portfolio_backtester")  # found, not imported: importing it loads much that is not needed
    places = [Path(place) / "data" for place in (spec.submodule_search_locations or [])] if spec else []
    stem = "SP500 20060901-20211015"
    for place in places:
        files = {"close": place / f"{stem}.csv", "volume": place / f"{stem} volume.csv"}
        if all(file.is_file() for file in files.values()):
            grid = grid_of_fields(files, settings, CSV)
            grid.notes = [*SP500_NOTES, *grid.notes]
            return grid
    raise _missing("sp500", "portfolio-backtester")


def _missing(sample: str, package: str) -> DataError:
    return DataError(
        f"sample:{sample} comes with the package {package}, which is not installed (or lacks its files); "
        "pip install 'mimstocr[samples]'"
    )


SAMPLES: dict[str, Callable[[DataSettings], Grid]] = {"us-large": _us_large, "sp500": _sp500}
