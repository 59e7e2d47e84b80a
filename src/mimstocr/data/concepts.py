"""Concept tables: which stocks belong together, such as by industry, many to many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mimstocr.data.panel import Panel, few, symbols_of
from mimstocr.errors import DataError

COLUMNS = ("symbol", "concept")


def read_concepts(path: Path) -> pl.DataFrame:
    """Columns symbol and concept of a CSV or Parquet file with one membership a row, each once.

    The file has two columns, or names two of its columns so; a stock may have many concepts, and a concept many
    stocks. Rows without a symbol or a concept are an error, a repeated row counts once. Raises DataError.
    """
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        else:
            table = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"concept table {path}: cannot be read ({error}); expected a file of symbol,concept") from None
    if not set(COLUMNS) <= set(table.columns):
        if len(table.columns) != 2:
            raise DataError(
                f"concept table {path}: expected the columns symbol and concept, got {', '.join(table.columns)}"
            )
        table = table.rename(dict(zip(table.columns, COLUMNS, strict=True)))
    table = table.select(pl.col(COLUMNS).cast(pl.String).str.strip_chars())
    bad = table.with_row_index("line", offset=2).filter(
        pl.any_horizontal(pl.col(COLUMNS).is_null() | (pl.col(COLUMNS) == ""))
    )
    if len(bad):
        raise DataError(
            f"concept table {path}: {len(bad)} rows lack a symbol or a concept, the first on line {bad['line'][0]}; "
            "complete or remove them"
        )
    if table.is_empty():
        raise DataError(f"concept table {path}: no row in it; expected one symbol,concept a line")
    return table.unique(maintain_order=True)


def add_concepts(panel: Panel, table: pl.DataFrame, where: str) -> Panel:
    """The panel with `concepts`, bool (symbol, concept), of a table of symbol and concept.

    Symbols of the table that the panel has not, and symbols of the panel without a concept, are counted in the
    panel's notes; concepts without a symbol of the panel are left out. Raises DataError when no symbol is in both.
    """
    symbols = symbols_of(panel)
    here = table.filter(pl.col("symbol").is_in(symbols))
    if here.is_empty():
        raise DataError(
            f"{where}: none of its symbols is in {panel.attrs['source']} (it has {few(sorted(set(table['symbol'])))}; "
            f"the prices have {few(symbols)}); write the symbols alike"
        )
    names = sorted(set(here["concept"]))
    column = {name: i for i, name in enumerate(names)}
    row = {symbol: i for i, symbol in enumerate(symbols)}
    mask = np.zeros((len(symbols), len(names)), dtype=bool)
    mask[[row[symbol] for symbol in here["symbol"]], [column[name] for name in here["concept"]]] = True
    mask.flags.writeable = False
    lacking = [symbol for symbol, row_of in zip(symbols, mask, strict=True) if not row_of.any()]
    notes = [f"{where}: {len(names)} concepts of {len(symbols) - len(lacking)} of {len(symbols)} symbols"]
    if lacking:
        notes.append(f"{where}: {len(lacking)} symbols have no concept ({few(lacking)})")
    if unknown := sorted(set(table["symbol"]) - set(symbols)):
        notes.append(f"{where}: {len(unknown)} of its symbols are not among the prices ({few(unknown)})")
    added = panel.drop_vars(["concepts", "concept"], errors="ignore").assign(concepts=(("symbol", "concept"), mask))
    added = added.assign_coords(concept=np.array(names, dtype=np.str_))
    added.attrs = {**panel.attrs, "notes": [*panel.attrs["notes"], *notes]}
    return added


def concept_names(panel: Panel) -> list[str]:
    """The concepts of a panel, in its order; empty without a table."""
    return [str(name) for name in panel["concept"].values] if "concepts" in panel else []
