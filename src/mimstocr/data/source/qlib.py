"""Qlib's binary provider format, read directly.

    calendars/day.txt                 one trading day a line
    instruments/<universe>.txt        symbol, first day, last day, tab separated
    features/<symbol>/<field>.day.bin little-endian float32: the calendar index of the first day, then values

Files are memory-mapped and only the days asked for are touched.
"""

from __future__ import annotations

import mmap
from datetime import date
from pathlib import Path

import numpy as np

from mimstocr.components import near
from mimstocr.data.panel import FIELDS, Days, Matrix, Panel, few, lacking, make_panel
from mimstocr.data.settings import USUAL_YEAR, DataSettings
from mimstocr.data.sources import SOURCES
from mimstocr.data.universe import Span, member_mask, read_spans
from mimstocr.errors import ConfigError, DataError


@SOURCES.register("qlib")
def load(place: str, settings: DataSettings) -> Panel:
    """A folder in Qlib's provider format (qlib:FOLDER), universe by name; no pyqlib needed."""
    if settings.columns:
        raise ConfigError("data.columns is for tables, but Qlib's format names its fields itself; leave it out")
    folder = Path(place).expanduser()
    calendar = _calendar(folder)
    window = _days_asked(calendar, settings, folder)
    days = calendar[window]
    spans = [
        span
        for span in read_spans(_universe_file(folder, settings.universe))
        if span.first <= days[-1] and span.last >= days[0]
    ]
    wanted = sorted({span.symbol for span in spans} - {settings.benchmark})
    symbols = [symbol for symbol in wanted if _symbol_folder(folder, symbol).is_dir()]
    if not symbols:
        raise DataError(
            f"{folder}: none of the {len(wanted)} symbols of universe {settings.universe or 'all'!r} between "
            f"{days[0]} and {days[-1]} has a folder under features/; choose other days or another universe"
        )
    notes = []
    if missing := sorted(set(wanted) - set(symbols)):
        notes.append(f"{len(missing)} symbols of the universe have no prices and are left out: {few(missing)}")

    fields, short = _read(folder, symbols, calendar, window)
    if "close" not in fields:
        raise DataError(f"{folder}: no close.day.bin under features/; expected Qlib's day fields")
    if short:
        notes.append(f"{len(short)} symbols lack days that their span in the universe promises: {few(short)}")
    notes += lacking(fields)

    benchmark = None
    if settings.benchmark is not None:
        benchmark = _benchmark(folder, settings.benchmark, calendar, window)
    return make_panel(
        fields,
        days,
        symbols,
        source=settings.source,
        days_per_year=settings.days_per_year or USUAL_YEAR,
        member=member_mask(spans, days, symbols),
        benchmark=benchmark,
        benchmark_name=settings.benchmark,
        notes=notes,
        max_dropped=settings.max_dropped,
    )


def _calendar(folder: Path) -> Days:
    if not folder.is_dir():
        raise DataError(f"qlib:{folder}: no such folder; expected one with calendars/, instruments/ and features/")
    if lacks := [name for name in ("calendars/day.txt", "instruments", "features") if not (folder / name).exists()]:
        raise DataError(f"qlib:{folder}: {', '.join(lacks)} missing; expected a folder in Qlib's provider format")
    lines = (folder / "calendars/day.txt").read_text().split()
    try:
        # strictly: numpy alone would read 20200102 as a year
        calendar = np.array([date.fromisoformat(line) for line in lines], dtype="datetime64[D]")
    except ValueError as error:
        raise DataError(f"{folder}/calendars/day.txt: expected one YYYY-MM-DD a line ({error})") from None
    if len(calendar) == 0:
        raise DataError(f"{folder}/calendars/day.txt is empty; expected one trading day a line")
    if (np.diff(calendar).astype(int) <= 0).any():
        raise DataError(f"{folder}/calendars/day.txt: days must increase without repeats; sort the file")
    return calendar


def _days_asked(calendar: Days, settings: DataSettings, folder: Path) -> slice:
    start = 0 if settings.start is None else int(np.searchsorted(calendar, np.datetime64(settings.start)))
    stop = (
        len(calendar) if settings.end is None else int(np.searchsorted(calendar, np.datetime64(settings.end), "right"))
    )
    if start >= stop:
        raise DataError(
            f"qlib:{folder}: no trading day between {settings.start or 'the start'} and {settings.end or 'the end'}; "
            f"the data goes from {calendar[0]} to {calendar[-1]}"
        )
    return slice(start, stop)


def _universe_file(folder: Path, universe: str | None) -> Path:
    name = universe or "all"
    listed = folder / "instruments" / f"{name}.txt"
    if listed.is_file():
        return listed
    if universe is not None and Path(universe).expanduser().is_file():
        return Path(universe).expanduser()
    known = [path.stem for path in (folder / "instruments").glob("*.txt")]
    raise DataError(f"qlib:{folder}: no universe {name!r} under instruments/, and no such file; {near(name, known)}")


def _symbol_folder(folder: Path, symbol: str) -> Path:
    return folder / "features" / symbol.lower()


def _read(folder: Path, symbols: list[str], calendar: Days, window: slice) -> tuple[dict[str, Matrix], list[str]]:
    """Fields to (days, symbols), and the symbols whose files stop before their span in instruments/all.txt does."""
    promised = _promised(folder)
    shape = (window.stop - window.start, len(symbols))
    fields: dict[str, Matrix] = {}
    short = []
    for column, symbol in enumerate(symbols):
        place = _symbol_folder(folder, symbol)
        lengths = {}
        for name in FIELDS:
            path = place / f"{name}.day.bin"
            try:
                first, values = _bin(path, len(calendar))
            except FileNotFoundError:
                continue
            lengths[name] = (first, len(values))
            low, high = max(first, window.start), min(first + len(values), window.stop)
            if low < high:
                matrix = fields.get(name)
                if matrix is None:
                    matrix = fields[name] = np.full(shape, np.nan, dtype=np.float32)
                matrix[low - window.start : high - window.start, column] = values[low - first : high - first]
        if len(set(lengths.values())) > 1:
            account = ", ".join(f"{name} {length} from day {first}" for name, (first, length) in lengths.items())
            raise DataError(
                f"{place}: the fields disagree on their days ({account}); a file is truncated, fetch it again"
            )
        if "close" in lengths and symbol in promised:
            first, length = lengths["close"]
            span = promised[symbol]
            last_promised = int(np.searchsorted(calendar, span.last, side="right"))
            if first + length < last_promised or first > np.searchsorted(calendar, span.first):
                short.append(symbol)
    return fields, short


def _promised(folder: Path) -> dict[str, Span]:
    listed = folder / "instruments" / "all.txt"
    return {span.symbol: span for span in read_spans(listed)} if listed.is_file() else {}


def _bin(path: Path, n_days: int) -> tuple[int, Matrix]:
    """The calendar index of the first day, and a view of the mapped values."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < 4 or size % 4:
            raise DataError(f"{path}: {size} bytes is not a whole number of float32 values; the file is truncated")
        values = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype="<f4")
    first = float(values[0])
    if not (first.is_integer() and first >= 0 and first + len(values) - 1 <= n_days):
        raise DataError(
            f"{path}: starts at day {first:g} with {len(values) - 1} values, but calendars/day.txt has {n_days} days; "
            "the calendar and the features are of different versions, fetch both again"
        )
    return int(first), values[1:]


def _benchmark(folder: Path, symbol: str, calendar: Days, window: slice) -> Matrix:
    try:
        first, values = _bin(_symbol_folder(folder, symbol) / "close.day.bin", len(calendar))
    except FileNotFoundError:
        raise DataError(
            f"qlib:{folder}: benchmark {symbol!r} has no close under features/; name an index of this source, or none"
        ) from None
    whole = np.full(len(calendar), np.nan, dtype=np.float32)
    whole[first : first + len(values)] = values
    return whole[window]
