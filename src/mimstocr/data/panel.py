"""The Panel: prices by day and symbol, checked once at the door and read-only after.

A Panel is an `xarray.Dataset` with dims (date, symbol); `values[t]` is what was known at the close of day t.

A row may also be a bar within the day, such as an hour: its date then has a time of day. All code says "day" for a row
of the panel, whatever its length; only where days of the calendar are meant (splits, universes, fees) a bar belongs to
the day of its date. `days_per_year` counts rows.

- float32 variables: `close` always; `open`, `high`, `low`, `volume`, `vwap`, `factor`, `market_value` where
  the source has them. Prices are adjusted for splits and dividends. NaN means that nothing is known.
- bool variables: `member`, in the universe that day; `tradable`, a price came about that day (methods: a
  suspended day arrives as a missing row or as a repeated price with volume 0, and is not tradable).
- bool `concepts` (symbol, concept), where there is a concept table.
- `benchmark` (date,), float32: the close of the index, where one was asked for.
- attributes: `source`, `days_per_year`, `benchmark_name`, `real_shares` (what the volume counts, see `make_panel`),
  `dropped` (reason to number of rows) and `notes` (what a reader of results must know about this data).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mimstocr.errors import DataError

Panel = xr.Dataset
Days = NDArray[np.datetime64]
When = date | np.datetime64
"""A day, or a time (`datetime` is a `date` too)."""
Matrix = NDArray[np.float32]
T = TypeVar("T", bound=np.floating)

PRICES = ("open", "high", "low", "close", "vwap")
FIELDS = (*PRICES, "volume", "factor", "market_value")

FIRST, LAST = np.datetime64("1700-01-01"), np.datetime64("2200-01-01")
"""Days beyond these are mistakes, and do not fit the nanoseconds of the date coordinate."""


def make_panel(
    fields: Mapping[str, NDArray[np.floating]],
    dates: Days,
    symbols: Sequence[str],
    *,
    source: str,
    days_per_year: int = 252,
    member: NDArray[np.bool_] | None = None,
    tradable: NDArray[np.bool_] | None = None,
    benchmark: NDArray[np.floating] | None = None,
    benchmark_name: str | None = None,
    dropped: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    real_shares: bool | None = None,
    max_dropped: float = 0.05,
) -> Panel:
    """Check prices at the door and make a Panel of them.

    fields: name to (days, symbols), names from `FIELDS`, `close` required; NaN where there is no row.
    dates: (days,), strictly increasing, days or times to the millisecond. symbols: unique names. member:
    (days, symbols), none: wherever there is a close. tradable: (days, symbols), false where the source knows that
    nothing could be traded; a day without a close, or without volume where the source has volume, is never tradable.
    benchmark: (days,) closes of an index that is none of the symbols. dropped: rows that the source itself left out,
    by reason. real_shares: whether the volume counts real shares beside adjusted prices (true) or was adjusted with
    them (false); none: the source does not know.

    A row (one symbol on one day) with an impossible value is dropped whole and counted by its reason: a price
    that is infinite or not above zero, a low above the high, a negative volume, prices without a close.
    Raises DataError on wrong shapes, unknown fields, no rows, unordered days, a benchmark without a close, or
    when more than `max_dropped` of the rows were dropped.
    """
    dates = _checked_dates(dates, source)
    shape = (len(dates), len(symbols))
    _check_axes(dates, symbols, source)
    _check_fields(fields, shape, source)
    for name, mask in (("member", member), ("tradable", tradable)):
        if mask is not None and np.shape(mask) != shape:
            raise DataError(f"{source}: {name} has shape {np.shape(mask)}, expected (days, symbols) = {shape}")

    values: dict[str, Matrix] = {name: np.array(fields[name], dtype=np.float32) for name in FIELDS if name in fields}
    present = np.zeros(shape, dtype=bool)
    for array in values.values():
        present |= ~np.isnan(array)
    n_rows = int(present.sum())
    counts = dict(dropped or {})
    for reason, bad in _impossible(values).items():
        bad &= present
        if bad.any():
            counts[reason] = counts.get(reason, 0) + int(bad.sum())
            present &= ~bad
            for array in values.values():
                array[bad] = np.nan
    _check_losses(counts, n_rows + sum((dropped or {}).values()), max_dropped, source)
    if not present.any():
        raise DataError(
            f"{source}: expected prices, but no usable row is left; check the fields and the days asked for"
        )

    known = ~np.isnan(values["close"])
    traded = known & (values["volume"] > 0) if "volume" in values else known.copy()
    if tradable is not None:
        traded &= np.asarray(tradable, dtype=bool)
    axes = ("date", "symbol")
    variables: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {name: (axes, array) for name, array in values.items()}
    variables["member"] = (axes, known.copy() if member is None else np.asarray(member, dtype=bool) & known)
    variables["tradable"] = (axes, traded)
    said = [*notes, *_bars(dates, days_per_year)]
    if benchmark is not None:
        closes = np.array(benchmark, dtype=np.float32)
        closes[~(np.isfinite(closes) & (closes > 0))] = np.nan
        said += _check_benchmark(closes, benchmark_name, symbols, dates, source)
        variables["benchmark"] = (("date",), closes)
    panel = xr.Dataset(
        variables,
        coords={"date": dates.astype("datetime64[ns]"), "symbol": np.asarray(symbols, dtype=np.str_)},
        attrs={
            "source": source,
            "days_per_year": days_per_year,
            "benchmark_name": benchmark_name,
            "real_shares": real_shares,
            "dropped": counts,
            "notes": said,
        },
    )
    for variable in panel.variables.values():
        variable.values.flags.writeable = False
    return panel


def lacking(fields: Iterable[str]) -> list[str]:
    """Notes on what cannot be known without the fields that are absent."""
    absent = [name for name in ("open", "high", "low", "vwap", "volume") if name not in set(fields)]
    notes = [f"fields the source lacks: {', '.join(absent)}"] if absent else []
    if "volume" in absent:
        notes.append("without volume a suspended day cannot be told: every day with a close counts as tradable")
    return notes


def few(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def resolved(dates: Days) -> Days:
    """Dates as datetime64[D] where none has a time of day, else as datetime64[ms], the same in a panel and a table."""
    days: Days = dates.astype("datetime64[D]")
    return days if (days == dates).all() else dates.astype("datetime64[ms]")


def days_of(panel: Panel) -> Days:
    """(days,) dates as datetime64[D], or as datetime64[ms] where the panel has bars within the day."""
    return resolved(panel["date"].values)


def within_day(days: Days) -> bool:
    """Whether `days`, as `days_of` gives them, are bars within the day."""
    return days.dtype != np.dtype("datetime64[D]")


def day_text(day: np.datetime64) -> str:
    """A day as YYYY-MM-DD, a time as YYYY-MM-DD HH:MM, with seconds where it has some."""
    text = str(day).replace("T", " ")
    return text.removesuffix(".000").removesuffix(":00") if " " in text else text


def span_of(days: Days, first: When, last: When) -> slice:
    """The places among `days` from `first` to `last`, both included; a day alone stands for all of its bars."""
    low, high = (_within(days, when) for when in (first, last))
    return slice(int(np.searchsorted(low[0], low[1])), int(np.searchsorted(high[0], high[1], side="right")))


def place_of(days: Days, when: When) -> int | None:
    """The place of a day or time among `days`; of a day alone the last of its bars. None where there is no such."""
    known, wanted = _within(days, when)
    at = int(np.searchsorted(known, wanted, side="right")) - 1
    return at if at >= 0 and known[at] == wanted else None


def _within(days: Days, when: When) -> tuple[Days, np.datetime64]:
    """`days` and `when` in the unit in which they are compared: times only where both have a time of day."""
    wanted = np.datetime64(when)
    by_day = not within_day(days) or np.datetime_data(wanted.dtype)[0] in ("Y", "M", "W", "D")
    return (days.astype("datetime64[D]"), wanted.astype("datetime64[D]")) if by_day else (days, wanted)


def symbols_of(panel: Panel) -> list[str]:
    """The symbols, in the panel's order."""
    return [str(symbol) for symbol in panel["symbol"].values]


def last_known(values: NDArray[T]) -> NDArray[T]:
    """(days, symbols) values with each gap at the value before it; NaN before the first.

    For marking what is held and for looking across a suspension, never for a label's first or last price.
    """
    seen = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(seen, axis=0), axis=0)


def traded_money(panel: Panel) -> NDArray[np.float64]:
    """(days, symbols) money traded on the day, price x volume; NaN where unknown.

    Beside adjusted prices the volume may be adjusted too (as Qlib's own data are), or count real shares, as most
    exports do, and is then priced at close / factor. Where the source does not know which, volumes that are whole
    numbers where the factor is not 1 are taken to be real.
    Raises DataError without a volume.
    """
    if "volume" not in panel:
        raise DataError("expected a volume to know the money traded, but the source has none")
    volume = panel["volume"].values.astype(np.float64)
    price = panel["close"].values.astype(np.float64)
    return price / panel["factor"].values * volume if counts_real_shares(panel) else price * volume


def counts_real_shares(panel: Panel) -> bool:
    """Whether the volume counts real shares beside adjusted prices; see `traded_money`."""
    if "volume" not in panel or "factor" not in panel:
        return False
    if (told := panel.attrs.get("real_shares")) is not None:
        return bool(told)
    volume, factor = panel["volume"].values, panel["factor"].values
    # above 2^23 every float32 is a whole number
    telling = (volume > 0) & (volume < 2**23) & (np.abs(factor - 1) > 0.01)
    return bool(telling.any()) and float((volume[telling] % 1 == 0).mean()) > 0.99


def usable(panel: Panel) -> NDArray[np.bool_]:
    """(days, symbols): the day's cross-section, members that could be traded that day."""
    mask: NDArray[np.bool_] = panel["member"].values & panel["tradable"].values
    return mask


def fingerprint(panel: Panel) -> str:
    """A short hash of everything a result depends on: days, symbols and every value."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(days_of(panel).astype(np.int64).tobytes())
    digest.update("\n".join(symbols_of(panel)).encode())
    for name in sorted(str(key) for key in panel.data_vars):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(panel[name].values).data)
    return digest.hexdigest()


def wrong_year(dates: Days, days_per_year: int) -> list[str]:
    """A note where there are far more or fewer rows a year than `days_per_year` says."""
    a_year = (len(dates) - 1) / float((dates[-1] - dates[0]) / np.timedelta64(1, "D")) * 365.25
    if 0.8 < a_year / days_per_year < 1.25:
        return []
    return [
        f"there are about {a_year:,.0f} bars a year, but data.days_per_year is {days_per_year}: annual figures are "
        "wrong until it is set to that"
    ]


def _checked_dates(dates: Days, source: str) -> Days:
    given = np.asarray(dates, dtype="datetime64")
    if len(given) == 0:
        return given.astype("datetime64[D]")
    if (finer := given.astype("datetime64[ms]") != given).any() and not np.isnat(given).any():
        raise DataError(f"{source}: expected times to the millisecond, got {given[finer][0]}; round them")
    return resolved(given)


def _bars(dates: Days, days_per_year: int) -> list[str]:
    """Notes on bars within the day: how long they are, and whether days_per_year can be their number a year."""
    if not within_day(dates) or len(dates) < 2:
        return []
    step = np.median(np.diff(dates) / np.timedelta64(1, "m"))
    told = f"bars within the day, {step:g} minutes from one to the next: every day that is counted is one such bar"
    return [told, *wrong_year(dates, days_per_year)]


def _check_axes(dates: Days, symbols: Sequence[str], source: str) -> None:
    if len(dates) == 0 or len(symbols) == 0:
        raise DataError(f"{source}: expected days and symbols, got {len(dates)} days and {len(symbols)} symbols")
    if np.isnat(dates).any():
        raise DataError(f"{source}: a date is missing; every row needs its day")
    if (outside := (dates < FIRST) | (dates > LAST)).any():
        raise DataError(f"{source}: expected days from {FIRST} to {LAST}, got {dates[outside][0]}; mend the date")
    steps = np.diff(dates).astype(np.int64)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0)) + 1
        raise DataError(
            f"{source}: days must increase, but {dates[at]} follows {dates[at - 1]}; sort, and drop repeats"
        )
    if twice := repeated(symbols):
        raise DataError(f"{source}: symbol {few(twice)} comes twice; each symbol must be one column")


def _check_fields(fields: Mapping[str, NDArray[np.floating]], shape: tuple[int, int], source: str) -> None:
    if "close" not in fields:
        raise DataError(f"{source}: expected a close, got fields {sorted(fields)}; name its column in data.columns")
    for name, array in fields.items():
        if name not in FIELDS:
            raise DataError(f"{source}: unknown field {name!r}; known: {', '.join(FIELDS)}")
        if np.shape(array) != shape:
            raise DataError(f"{source}: field {name!r} has shape {np.shape(array)}, expected (days, symbols) = {shape}")


def _check_benchmark(closes: Matrix, name: str | None, symbols: Sequence[str], dates: Days, source: str) -> list[str]:
    """Notes on the benchmark."""
    if closes.shape != dates.shape:
        raise DataError(f"{source}: the benchmark has shape {closes.shape}, expected (days,) = {dates.shape}")
    if name in symbols:
        raise DataError(f"{source}: benchmark {name!r} is also a stock of the panel; leave it out of the symbols")
    missing = int(np.isnan(closes).sum())
    if missing == len(closes):
        raise DataError(f"{source}: benchmark {name!r} has no close between {dates[0]} and {dates[-1]}; choose another")
    return [f"benchmark {name} has no close on {missing} of {len(dates)} days"] if missing else []


def _impossible(values: Mapping[str, Matrix]) -> dict[str, NDArray[np.bool_]]:
    """Reason to (days, symbols) rows that cannot be."""
    close = values["close"]
    no_price = np.zeros(close.shape, dtype=bool)
    for name in PRICES:
        if name in values:
            no_price |= np.isinf(values[name]) | (values[name] <= 0)
    reasons = {"price infinite or not above zero": no_price}
    if "high" in values and "low" in values:
        # adjusted prices carry rounding: only a gap that rounding cannot explain is an error
        reasons["low above high"] = values["low"] > values["high"] * np.float32(1 + 1e-4)
    if "volume" in values:
        reasons["volume infinite or negative"] = np.isinf(values["volume"]) | (values["volume"] < 0)
    reasons["no close"] = np.isnan(close)
    return reasons


def _check_losses(counts: Mapping[str, int], n_rows: int, max_dropped: float, source: str) -> None:
    lost = sum(counts.values())
    if n_rows and lost > max_dropped * n_rows:
        account = ", ".join(f"{reason}: {count}" for reason, count in counts.items())
        raise DataError(
            f"{source}: {lost} of {n_rows} rows ({lost / n_rows:.1%}) cannot be used ({account}); "
            f"mend the data, or raise data.max_dropped (now {max_dropped:.1%})"
        )
