"""Tables of prices, long and wide: what the CSV and Parquet sources and `panel_from_frame` share.

A *long* table has a row for each day and symbol: a date column, a symbol column, and columns of fields. A file
without a symbol column that has a close holds one symbol, which is the file's name. A *wide* table has a row
for each day and a column for each symbol; it holds one field. A folder holds

- wide tables, one a field, named by it (close.csv, volume.csv), when one of its files is called close or
  adj_close;
- else long tables, or tables of one symbol each; they are joined.

A single file with neither a symbol column nor a close is a wide table of closes.

Columns are recognised by the names in `NAMES`, without regard to case, spaces, hyphens or a leading "$", the
first name winning; `DataSettings.columns` overrides. What is not recognised is named in the panel's notes.

- `adjusted`, beside a `close`: every price is multiplied by adjusted / close, the volume divided by it, and the
  ratio becomes `factor`. A `factor` that the table brings is recorded and never applied.
- `member` and `tradable` are true or false; a day without volume is not tradable whatever the table says.
- Dates are dates, datetimes, ISO text, or whole numbers YYYYMMDD. The time of day is dropped, unless
  `DataSettings.interval` says that rows are bars within the day; times with a zone are then brought to UTC.
- Empty cells and the words in `cells.MISSING` are missing values; any other text where a number belongs is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from mimstocr.components import near
from mimstocr.data import cells
from mimstocr.data.cells import from_pandas
from mimstocr.data.panel import PRICES, Days, Matrix, Panel, few, lacking, make_panel, repeated, resolved
from mimstocr.data.settings import USUAL_YEAR, DataSettings
from mimstocr.data.universe import Span, member_mask, read_spans
from mimstocr.errors import ConfigError, DataError

NAMES: dict[str, tuple[str, ...]] = {
    "date": ("date", "datetime", "trade_date", "timestamp", "time", "day"),
    "symbol": ("symbol", "ticker", "instrument", "ts_code", "permno", "code", "asset"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "px_last", "price", "c"),
    "adjusted": ("adj_close", "adjclose", "adjusted_close", "adjusted"),
    "vwap": ("vwap",),
    "volume": ("volume", "vol", "v"),
    "factor": ("factor",),
    "market_value": ("market_value", "market_cap", "marketcap"),
    "member": ("member",),
    "tradable": ("tradable",),
}
"""What we call a column, and the names it is recognised by."""

FLAGS = ("member", "tradable")
NUMBERS = tuple(name for name in NAMES if name not in ("date", "symbol", *FLAGS))


class Format(NamedTuple):
    """How files of one kind are read."""

    suffixes: tuple[str, ...]
    """Endings of the files that are read when the place is a folder."""
    names: Callable[[Path], list[str]]
    """The columns of a file, unique."""
    read: Callable[[Path, Sequence[str], Sequence[str]], pl.DataFrame]
    """The columns asked for (other than numbers, numbers); a number may still come as text."""


class Roles(NamedTuple):
    """Which column plays which part."""

    columns: dict[str, str]
    unused: list[str]


@dataclass
class Grid:
    """Values by day and symbol, on their way to a panel; `fields` may hold `adjusted`."""

    days: Days
    symbols: list[str]
    fields: dict[str, Matrix]
    flags: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    benchmark: Matrix | None = None
    real_shares: bool | None = None
    """As `make_panel` has it."""
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(
        self, days: slice | NDArray[np.bool_] = slice(None), symbols: slice | NDArray[np.bool_] = slice(None)
    ) -> Grid:
        """The same grid on some of its days and symbols."""
        return Grid(
            self.days[days],
            np.array(self.symbols, dtype=object)[symbols].tolist(),
            {name: array[days][:, symbols] for name, array in self.fields.items()},
            {name: array[days][:, symbols] for name, array in self.flags.items()},
            None if self.benchmark is None else self.benchmark[days],
            self.real_shares,
            self.dropped,
            self.notes,
        )


def panel_from_frame(
    frame: pd.DataFrame | pl.DataFrame, settings: DataSettings | None = None, *, source: str = "frame"
) -> Panel:
    """A Panel of a table in memory, pandas or Polars, long, or wide when it holds closes alone.

    Date and symbol are columns or, in pandas, levels of the index. settings: as for any source, but for its
    address; none: the defaults. source: what the panel and the errors call the table.
    Raises DataError or ConfigError as the sources of files do.
    """
    settings = settings or DataSettings()
    table = frame if isinstance(frame, pl.DataFrame) else from_pandas(frame, source)
    return panel_of(grid_of_frame(table, settings, source), settings, source)


def grid_of_frame(table: pl.DataFrame, settings: DataSettings, source: str) -> Grid:
    """The grid of one table, long, or wide when it holds closes alone."""
    if table.is_empty():
        raise DataError(f"{source}: expected rows, got an empty table")
    roles = find_columns(table.columns, settings.columns, source)
    if "symbol" in roles.columns:
        _check_parts(roles, source)
        return _long_grid(_rows(table, roles, settings, source), roles.unused, source)
    if _has_close(roles):
        raise DataError(
            f"{source}: expected a symbol column, got columns {few(table.columns)}; name it in data.columns, such as "
            "{symbol: your_column}"
        )
    return _closes(_wide(table, _date_column(table.columns, settings.columns, source), settings, source))


def panel_from_files(place: str, settings: DataSettings, form: Format) -> Panel:
    """A Panel of a file or of the files of a folder.

    Raises DataError when there is nothing to read, a table has no date or no close, a cell cannot be read, a
    day and symbol come twice, or the days asked for are not there; ConfigError when a column or benchmark that
    the settings name is not there.
    """
    path = Path(place).expanduser()
    source = settings.source
    files = _files(path, source, form)
    if path.is_dir() and (fields := _files_of_fields(files)):
        grid = grid_of_fields(fields, settings, form)
        if others := [file.name for file in files if file not in fields.values()]:
            grid.notes.append(f"files not used: {few(others)}")
        return panel_of(grid, settings, source)

    tables, unused, alone = [], dict[str, None](), []
    for file in files:
        names = form.names(file)
        roles = find_columns(names, settings.columns, str(file))
        if "symbol" not in roles.columns and not _has_close(roles) and not path.is_dir():
            return panel_of(_closes(_read_wide(file, settings, form)), settings, source)
        tables.append(_read_rows(file, roles, settings, form))
        unused |= dict.fromkeys(roles.unused)
        if "symbol" not in roles.columns:
            alone.append(file.stem)
    grid = _long_grid(pl.concat(tables, how="diagonal"), list(unused), source, alone)
    return panel_of(grid, settings, source)


def panel_of(grid: Grid, settings: DataSettings, source: str) -> Panel:
    """The Panel of a grid: days asked for, adjustment, benchmark, universe, then the door."""
    grid = _days_asked(grid, settings, source)
    _adjust(grid)
    if settings.benchmark is not None:
        grid = _take_benchmark(grid, settings.benchmark, source)
    grid = _universe(grid, settings.universe, source)
    grid = _priced(grid, source)
    return make_panel(
        grid.fields,
        grid.days,
        grid.symbols,
        source=source,
        days_per_year=settings.days_per_year or USUAL_YEAR,
        member=grid.flags.get("member"),
        tradable=grid.flags.get("tradable"),
        benchmark=grid.benchmark,
        benchmark_name=settings.benchmark,
        real_shares=grid.real_shares,
        dropped=grid.dropped,
        notes=[*grid.notes, *lacking(grid.fields)],
        max_dropped=settings.max_dropped,
    )


# ---- which column is what


def find_columns(names: Sequence[str], mapping: Mapping[str, str], where: str) -> Roles:
    """The columns that `mapping` (ours to theirs) or their own name gives a part, and those left over.

    Raises ConfigError when the mapping names a part or a column that is not there, DataError when two columns
    have the same claim to a part.
    """
    for ours, theirs in mapping.items():
        if ours not in NAMES:
            raise ConfigError(f"data.columns: unknown field {ours!r}; {near(ours, NAMES)}")
        if theirs not in names:
            raise ConfigError(f"data.columns.{ours}: {where} has no column {theirs!r}; {near(theirs, names)}")
    columns = dict(mapping)
    free = [name for name in names if name not in mapping.values()]
    for part in [part for part in NAMES if part not in mapping]:
        for known in NAMES[part]:
            if claims := [name for name in free if _plain(name) == known]:
                if len(claims) > 1:
                    raise DataError(f"{where}: columns {claims} all read as {part}; name one in data.columns")
                columns[part] = claims[0]
                break
    if "date" not in columns and names and _unnamed(names[0]):
        columns["date"] = names[0]
    taken = set(columns.values())
    return Roles(columns, [name for name in names if name not in taken and not _unnamed(name)])


def _plain(name: str) -> str:
    return name.strip().lstrip("$").lower().replace(" ", "_").replace("-", "_")


def _unnamed(name: str) -> bool:
    return name == "" or name.startswith("Unnamed:")


def _has_close(roles: Roles) -> bool:
    """Whether a table without a symbol column holds fields. Tickers such as C and V read as fields too, so a
    short name counts only when no column is left over."""
    named = {part for part, name in roles.columns.items() if len(_plain(name)) > 1}
    return bool(named & {"close", "adjusted"}) or ("close" in roles.columns and not roles.unused)


def _date_column(names: Sequence[str], mapping: Mapping[str, str], where: str) -> str:
    """The date column of a wide table: mapped, recognised, or the first."""
    return find_columns(names, mapping, where).columns.get("date", names[0])


# ---- long tables


def _read_rows(file: Path, roles: Roles, settings: DataSettings, form: Format) -> pl.DataFrame:
    columns = roles.columns
    _check_parts(roles, str(file))
    numbers = [columns[part] for part in NUMBERS if part in columns]
    table = form.read(file, [name for name in columns.values() if name not in numbers], numbers)
    if table.is_empty():
        raise DataError(f"{file}: expected rows, got a header alone")
    return _rows(table, roles, settings, str(file), symbol=file.stem)


def _rows(table: pl.DataFrame, roles: Roles, settings: DataSettings, where: str, symbol: str = "") -> pl.DataFrame:
    """date (Date or Datetime), symbol (String), then the fields there are (Float64; flags Boolean)."""
    columns = roles.columns
    parts = [cells.dates(table[columns["date"]], where, times=settings.interval != "1d").alias("date")]
    if "symbol" in columns:
        parts.append(cells.symbols(table[columns["symbol"]], where).alias("symbol"))
    else:
        parts.append(pl.Series("symbol", [symbol], dtype=pl.String).new_from_index(0, len(table)))
    parts += [cells.numbers(table[columns[part]], where).alias(part) for part in NUMBERS if part in columns]
    parts += [cells.flags(table[columns[part]], where).alias(part) for part in FLAGS if part in columns]
    return pl.DataFrame(parts)


def _check_parts(roles: Roles, where: str) -> None:
    found = [*roles.columns.values(), *roles.unused]
    if "date" not in roles.columns:
        raise DataError(f"{where}: expected a date column, got columns {found}; name it in data.columns")
    if not roles.columns.keys() & {"close", "adjusted"}:
        raise DataError(f"{where}: expected a close, got columns {found}; name it in data.columns")


def _long_grid(rows: pl.DataFrame, unused: Sequence[str], source: str, alone: Sequence[str] = ()) -> Grid:
    """Rows to matrices. alone: the symbols that are the names of files without a symbol column."""
    days, day = _codes(rows["date"])
    symbols, symbol = _codes(rows["symbol"])
    shape = (len(days), len(symbols))
    cell = day.astype(np.int64) * shape[1] + symbol
    _check_repeats(cell, rows, source, alone)

    grid = Grid(resolved(days.to_numpy()), symbols.to_list(), {})
    for name in [name for name in rows.columns if name in NUMBERS]:
        matrix = np.full(shape, np.nan, dtype=np.float32)
        with np.errstate(over="ignore"):  # the door drops what float32 cannot hold
            matrix.ravel()[cell] = rows[name].fill_null(np.nan).to_numpy()
        grid.fields[name] = matrix
    for name in [name for name in FLAGS if name in rows.columns]:
        flags = np.zeros(shape, dtype=bool)
        flags.ravel()[cell] = rows[name].fill_null(True).to_numpy()  # null: the row's file has no such column
        grid.flags[name] = flags
    if unused:
        grid.notes.append(f"columns not used: {few(list(unused))}")
    if alone:
        grid.notes.append(f"no symbol column: the symbol is the name of the file ({few(list(alone))})")
    if "factor" in grid.fields and "adjusted" not in grid.fields:
        grid.notes.append("factor is recorded, not applied: the prices are taken to be adjusted already")
    return grid


def _codes(column: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """The distinct values, sorted, and the place of each row's value among them."""
    known = column.unique().sort()
    codes = column.replace_strict(known, pl.int_range(len(known), dtype=pl.Int32, eager=True))
    return known, codes.to_numpy()


def _check_repeats(cell: NDArray[np.int64], rows: pl.DataFrame, source: str, alone: Sequence[str]) -> None:
    seen = np.zeros(cell.max() + 1, dtype=bool)
    seen[cell] = True
    if np.count_nonzero(seen) == len(cell):
        return
    order = np.argsort(cell, kind="stable")
    again = order[1:][cell[order[1:]] == cell[order[:-1]]]
    first = int(again.min())
    day, symbol = rows["date"][first], rows["symbol"][first]
    hours = "bring intraday rows to days, or say data.interval"
    cause = "name the symbol column in data.columns" if symbol in alone else hours
    raise DataError(
        f"{source}: expected one row for a day and symbol, but {len(again)} come again, the first {day} "
        f"{symbol}; drop the repeats, or {cause}"
    )


# ---- wide tables


def _files_of_fields(files: Sequence[Path]) -> dict[str, Path]:
    """Field to file, where the files are wide tables named by their field; else nothing."""
    parts = {_plain(file.stem): file for file in files}
    fields = {part: parts[name] for part in NUMBERS for name in NAMES[part] if name in parts and len(name) > 1}
    return fields if {"close", "adjusted"} & fields.keys() else {}


def grid_of_fields(fields: Mapping[str, Path], settings: DataSettings, form: Format) -> Grid:
    """The grid of wide tables, one a field, over all their days and symbols."""
    wides = {part: _read_wide(file, settings, form) for part, file in fields.items()}
    days = np.unique(np.concatenate([wide.days for wide in wides.values()]))
    symbols = sorted({symbol for wide in wides.values() for symbol in wide.symbols})
    grid = Grid(days, symbols, {})
    closes = set(wides["close" if "close" in wides else "adjusted"].symbols)
    for part, wide in wides.items():
        matrix = np.full((len(days), len(symbols)), np.nan, dtype=np.float32)
        place = np.ix_(np.searchsorted(days, wide.days), np.searchsorted(symbols, wide.symbols))
        matrix[place] = wide.values
        grid.fields[part] = matrix
        if lacks := sorted(closes - set(wide.symbols)):
            grid.notes.append(f"{fields[part].name} lacks {len(lacks)} symbols that have a close: {few(lacks)}")
    return grid


class Wide(NamedTuple):
    """One field: (days,), symbols, (days, symbols)."""

    days: Days
    symbols: list[str]
    values: Matrix


def _read_wide(file: Path, settings: DataSettings, form: Format) -> Wide:
    names = form.names(file)
    day = _date_column(names, settings.columns, str(file))
    return _wide(form.read(file, [day], [name for name in names if name != day]), day, settings, str(file))


def _wide(table: pl.DataFrame, day: str, settings: DataSettings, where: str) -> Wide:
    if table.is_empty():
        raise DataError(f"{where}: expected rows, got a header alone")
    days = resolved(cells.dates(table[day], where, times=settings.interval != "1d").to_numpy())
    order = np.argsort(days, kind="stable")
    if (again := np.diff(days[order]).astype(np.int64) == 0).any():
        first = days[order][1:][again][0]
        raise DataError(f"{where}: {int(again.sum())} days come again, the first {first}; drop the repeats")
    names = [name for name in table.columns if name != day and not _unnamed(name)]
    symbols = [name.strip() for name in names]
    if not symbols:
        raise DataError(f"{where}: expected a column for each symbol beside {day!r}, got none")
    if twice := repeated(symbols):
        raise DataError(f"{where}: symbols {few(twice)} come twice but for blanks around them; rename the columns")
    with np.errstate(over="ignore"):
        values = np.column_stack(
            [cells.numbers(table[name], where).fill_null(np.nan).to_numpy().astype(np.float32) for name in names]
        )
    alphabetic = sorted(range(len(symbols)), key=symbols.__getitem__)
    return Wide(days[order], [symbols[index] for index in alphabetic], values[order][:, alphabetic])


def _closes(wide: Wide) -> Grid:
    note = f"no symbol column and no close: read as closes, one column for each of {len(wide.symbols)} symbols"
    return Grid(wide.days, wide.symbols, {"close": wide.values}, notes=[note])


# ---- from a grid to a panel


def _files(path: Path, source: str, form: Format) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{source}: no such file or folder; expected {' or '.join(form.suffixes)} files there")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in form.suffixes)
    if not files:
        found = sorted(file.name for file in path.iterdir())
        raise DataError(
            f"{source}: expected {' or '.join(form.suffixes)} files in the folder, got {few(found) or 'none'}"
        )
    return files


def _days_asked(grid: Grid, settings: DataSettings, source: str) -> Grid:
    days = grid.days.astype("datetime64[D]")
    start = 0 if settings.start is None else int(np.searchsorted(days, np.datetime64(settings.start)))
    stop = len(days) if settings.end is None else int(np.searchsorted(days, np.datetime64(settings.end), "right"))
    if start >= stop:
        raise DataError(
            f"{source}: no day between {settings.start or 'the start'} and {settings.end or 'the end'}; "
            f"the data goes from {days[0]} to {days[-1]}"
        )
    return grid.take(slice(start, stop))


def _adjust(grid: Grid) -> None:
    """Bring all prices and the volume to the adjusted close, where the table has one beside the close."""
    adjusted = grid.fields.pop("adjusted", None)
    if adjusted is None:
        return
    if "close" not in grid.fields:
        grid.fields["close"] = adjusted
        if set(grid.fields) & {"open", "high", "low", "vwap"}:
            grid.notes.append("an adjusted close and no raw one: the other prices are taken to be adjusted already")
        return
    if "factor" in grid.fields:
        grid.notes.append("the table's factor is replaced by adjusted close / close")
    close = grid.fields["close"]
    one_sided = np.isnan(close) != np.isnan(adjusted)
    known = np.isfinite(close) & (close > 0) & (adjusted > 0)
    ratio = np.divide(adjusted, close, out=np.full_like(close, np.nan), where=known)
    for name in [name for name in PRICES if name in grid.fields and name != "close"]:
        np.multiply(grid.fields[name], ratio, out=grid.fields[name], where=known)
    if "volume" in grid.fields:
        np.divide(grid.fields["volume"], ratio, out=grid.fields["volume"], where=known)
        grid.real_shares = False
    # where the raw close itself cannot be, it stays, and the door drops the row for it
    grid.fields["close"] = np.where(np.isfinite(close) & (close > 0), adjusted, close)
    grid.fields["factor"] = ratio
    if one_sided.any():
        grid.dropped["only one of close and adjusted close"] = int(one_sided.sum())
        for array in grid.fields.values():
            array[one_sided] = np.nan
    grid.notes.append("prices multiplied by adjusted close / close, volume divided by it; the ratio is factor")


def _take_benchmark(grid: Grid, benchmark: str, source: str) -> Grid:
    """The grid with the benchmark's closes beside the symbols instead of among them."""
    if benchmark not in grid.symbols:
        raise ConfigError(f"data.benchmark: {source} has no symbol {benchmark!r}; {_like(benchmark, grid.symbols)}")
    place = grid.symbols.index(benchmark)
    grid.benchmark = grid.fields["close"][:, place]
    return grid.take(symbols=np.arange(len(grid.symbols)) != place)


def _universe(grid: Grid, universe: str | None, source: str) -> Grid:
    """The symbols that are in the universe on some day; without a universe, all."""
    if universe is not None:
        spans = read_spans(Path(universe).expanduser())
        member = member_mask(spans, grid.days, grid.symbols)
        _check_universe(spans, member, grid, universe, source)
        grid.flags["member"] = member
    if "member" not in grid.flags:
        return grid
    member = grid.flags["member"]
    if not member.any():
        raise DataError(f"{source}: the column member is false everywhere; expected members on some days")
    keep = np.asarray(member.any(axis=0))
    if out := [symbol for symbol, kept in zip(grid.symbols, keep.tolist(), strict=True) if not kept]:
        grid.notes.append(f"{len(out)} symbols are never in the universe and are left out: {few(out)}")
    return grid.take(symbols=keep)


def _priced(grid: Grid, source: str) -> Grid:
    """The days and the symbols that have a value at all."""
    known = ~np.all([np.isnan(array) for array in grid.fields.values()], axis=0)
    if not known.any():
        raise DataError(f"{source}: expected prices, but no cell of the days and symbols asked for has one")
    days, symbols = np.asarray(known.any(axis=1)), np.asarray(known.any(axis=0))
    if not days.all():
        empty = [str(day) for day in grid.days[~days]]
        grid.notes.append(f"{len(empty)} days without any price are left out: {few(empty)}")
    if out := [symbol for symbol, kept in zip(grid.symbols, symbols.tolist(), strict=True) if not kept]:
        grid.notes.append(f"{len(out)} symbols have no price on these days and are left out: {few(out)}")
    return grid.take(days, symbols)


def _check_universe(spans: Sequence[Span], member: NDArray[np.bool_], grid: Grid, universe: str, source: str) -> None:
    first, last = grid.days[0], grid.days[-1]
    wanted = sorted({span.symbol for span in spans if span.first <= last and span.last >= first})
    missing = sorted(set(wanted) - set(grid.symbols))
    if not member.any():
        raise DataError(
            f"{source}: no symbol of universe {universe} has prices between {first} and {last}; it names "
            f"{few(wanted) or 'nobody'} there, the table {few(grid.symbols)}"
        )
    if missing:
        grid.notes.append(f"{len(missing)} symbols of the universe have no prices and are left out: {few(missing)}")
    if "member" in grid.flags:
        grid.notes.append(f"the table's column member is not used: the universe is {universe}")


def _like(name: str, symbols: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, symbols, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(symbol) for symbol in close)}? " if close else ""
    return f"{hint}it has {few(list(symbols))}"
