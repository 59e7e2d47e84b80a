"""Several asset classes in one panel, such as stocks and crypto, each on its own calendar.

The panel of several classes has the days of all of them and their symbols side by side. On a day that is none of its
own, a class is *closed*: no symbol of it has a price, none is a member or tradable. Whatever looks back or ahead in
days (features, labels) is worked out class by class on its own calendar and put back into the panel, so that it is what
it would be for the class alone.

Such a panel has `asset_class`, int8 (symbol,), the place of the symbol's class among `class_names`, and the attribute
`classes`, name to the attributes that the class's own panel had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mimstocr.data.concepts import concept_names
from mimstocr.data.extra import column_names
from mimstocr.data.panel import Days, Panel, day_text, days_of, few, symbols_of, within_day, wrong_year
from mimstocr.data.splits import HOLIDAYS
from mimstocr.errors import DataError


@dataclass(frozen=True, eq=False)
class OwnCalendar:
    """One class of a panel: its symbols on its own days. Of a panel of one class: the whole of it."""

    name: str
    """Empty for a panel of one class."""
    whole: Panel
    """The panel of all classes."""
    days: NDArray[np.int64]
    """(own days,) places in the whole panel."""
    symbols: NDArray[np.int64]
    """(own symbols,) places in the whole panel."""
    last: NDArray[np.int64]
    """(days of the whole panel,) place among the own days of the last one up to each; -1 before the first."""

    @cached_property
    def panel(self) -> Panel:
        """The class alone, as its own source gave it, but for fields that another class lacks."""
        if not self.name:
            return self.whole
        own = self.whole.drop_vars("asset_class").isel(date=self.days, symbol=self.symbols)
        own.attrs = dict(self.whole.attrs["classes"][self.name])
        for variable in own.variables.values():
            variable.values.flags.writeable = False
        return own

    @property
    def open(self) -> NDArray[np.bool_]:
        """(days of the whole panel,) whether it is an own day."""
        mask = np.zeros(len(self.last), dtype=bool)
        mask[self.days] = True
        return mask

    def part(self, values: NDArray[Any]) -> NDArray[Any]:
        """(days, symbols, ...) of the whole panel on the own days and symbols."""
        return values[np.ix_(self.days, self.symbols)] if self.name else values


def class_names(panel: Panel) -> list[str]:
    """The classes of a panel in its order; empty for a panel of one."""
    return list(panel.attrs["classes"]) if "asset_class" in panel else []


def class_of_symbols(panel: Panel) -> NDArray[np.str_]:
    """(symbols,) the name of each symbol's class."""
    names: NDArray[np.str_] = np.array(class_names(panel))[panel["asset_class"].values]
    return names


def own_calendars(panel: Panel) -> list[OwnCalendar]:
    """The classes of a panel, each with the days on which it has any price; of a panel of one class the whole."""
    if "asset_class" not in panel:
        everyday = np.arange(panel.sizes["date"])
        return [OwnCalendar("", panel, everyday, np.arange(panel.sizes["symbol"]), everyday)]
    known = ~np.isnan(panel["close"].values)
    found = []
    for place, name in enumerate(class_names(panel)):
        symbols = np.flatnonzero(panel["asset_class"].values == place)
        days = np.flatnonzero(known[:, symbols].any(axis=1))
        last = np.searchsorted(days, np.arange(panel.sizes["date"]), side="right") - 1
        found.append(OwnCalendar(name, panel, days, symbols, last))
    return found


def by_class(
    calendars: Sequence[OwnCalendar], compute: Callable[[OwnCalendar], NDArray[Any]], fill: float = np.nan
) -> NDArray[Any]:
    """(days, symbols, ...) of the whole panel from what `compute` gives for each class; `fill` where it is closed."""
    if len(calendars) == 1:
        return compute(calendars[0])
    parts = [compute(own) for own in calendars]
    shape = (len(calendars[0].last), sum(len(own.symbols) for own in calendars))
    whole = np.full(shape + parts[0].shape[2:], fill, dtype=parts[0].dtype)
    for own, part in zip(calendars, parts, strict=True):
        whole[np.ix_(own.days, own.symbols)] = part
    return whole


def standing(calendars: Sequence[OwnCalendar], values: NDArray[Any]) -> NDArray[Any]:
    """(days, symbols) with the values of each class's last own day on the days on which it is closed.

    Only days before are looked at; before a class's first own day its values are as they are. A symbol without a value
    on the last own day of its class has none while that is closed.
    """
    if len(calendars) == 1:
        return values
    stood = np.array(values)
    for own in calendars:
        closed = np.flatnonzero(~own.open & (own.last >= 0))
        stood[np.ix_(closed, own.symbols)] = values[np.ix_(own.days[own.last[closed]], own.symbols)]
    return stood


def merge_classes(panels: Mapping[str, Panel]) -> Panel:
    """One panel of several classes, by name, in their order.

    Fields that not all have are left out and named in the notes; notes and dropped rows carry the class before them.
    `days_per_year` is the largest of the classes: the days of a week of seven include those of a week of five. Raises
    DataError on a symbol in two classes, days beside bars within the day, or a benchmark, which is of one calendar.
    """
    _check_classes(panels)
    days = np.unique(np.concatenate([days_of(panel) for panel in panels.values()]))
    rows = {name: np.searchsorted(days, days_of(panel)) for name, panel in panels.items()}
    known = [{str(name) for name in panel.data_vars} for panel in panels.values()]
    common, notes = set.intersection(*known), _account(panels, rows, days)
    notes += wrong_year(days, _year(panels)) if len(days) > 1 else []
    if out := sorted(set.union(*known) - common - {"concepts"}):
        notes.append(f"fields that not every asset class has are left out: {few(out)}")
    first = next(iter(panels.values()))
    axes: dict[str, Any] = {"date": days.astype("datetime64[ns]")}
    axes["symbol"] = np.array([symbol for panel in panels.values() for symbol in symbols_of(panel)], dtype=np.str_)
    variables: dict[str, Any] = {}
    for field in [str(name) for name in first.data_vars if name in common and name not in ("concepts", "extra")]:
        parts = {name: panel[field].values for name, panel in panels.items()}
        variables[field] = (("date", "symbol"), _joined(parts, rows, len(days)))
    if "extra" in common:
        columns = [name for name in column_names(first) if all(name in column_names(p) for p in panels.values())]
        parts = {name: panel["extra"].sel(column=columns).values for name, panel in panels.items()}
        variables["extra"], axes["column"] = (("date", "symbol", "column"), _joined(parts, rows, len(days))), columns
        if fewer := sorted({name for panel in panels.values() for name in column_names(panel)} - set(columns)):
            notes.append(f"extra columns that not every asset class has are left out: {few(fewer)}")
    if concepts := sorted({name for panel in panels.values() for name in concept_names(panel)}):
        variables["concepts"] = (
            ("symbol", "concept"),
            np.concatenate([_concepts(p, concepts) for p in panels.values()]),
        )
        axes["concept"] = np.array(concepts, dtype=np.str_)
    of = np.repeat(np.arange(len(panels), dtype=np.int8), [panel.sizes["symbol"] for panel in panels.values()])
    variables["asset_class"] = (("symbol",), of)
    merged = xr.Dataset(variables, coords=axes, attrs=_attributes(panels, notes))
    for variable in merged.variables.values():
        variable.values.flags.writeable = False
    return merged


def _check_classes(panels: Mapping[str, Panel]) -> None:
    owners: dict[str, list[str]] = {}
    for name, panel in panels.items():
        for symbol in symbols_of(panel):
            owners.setdefault(symbol, []).append(name)
        if "benchmark" in panel:
            raise DataError(
                f"data.assets.{name}: a benchmark has the days of one class alone; leave it out, the mean of all "
                "classes is compared with"
            )
    if twice := {symbol: names for symbol, names in owners.items() if len(names) > 1}:
        symbol, names = next(iter(twice.items()))
        raise DataError(
            f"data.assets: {len(twice)} symbols come in two classes, the first {symbol} in {' and '.join(names)}; "
            "leave it out of one, or rename it"
        )
    bars = {name: within_day(days_of(panel)) for name, panel in panels.items()}
    if len(set(bars.values())) > 1:
        kinds = ", ".join(f"{name} has {'bars within the day' if inner else 'days'}" for name, inner in bars.items())
        raise DataError(f"data.assets: expected bars of one length in all classes, but {kinds}; say the same interval")


def _account(panels: Mapping[str, Panel], rows: Mapping[str, NDArray[np.int64]], days: Days) -> list[str]:
    """Notes on the calendars of the classes."""
    notes = []
    for name, panel in panels.items():
        own = days[rows[name]]
        notes.append(
            f"asset class {name}: {panel.sizes['symbol']} symbols on {len(own)} of {len(days)} days, from "
            f"{day_text(own[0])} to {day_text(own[-1])}"
        )
        if days[-1] - own[-1] > HOLIDAYS:
            notes.append(
                f"asset class {name} ends on {day_text(own[-1])}, before the others: nothing of it trades after"
            )
    return notes


def _joined(parts: Mapping[str, NDArray[Any]], rows: Mapping[str, NDArray[np.int64]], n_days: int) -> NDArray[Any]:
    """Matrices (own days, own symbols, ...) of the classes side by side over all days: NaN or false where closed."""
    kept = list(parts.values())
    width = sum(part.shape[1] for part in kept)
    fill = False if kept[0].dtype == bool else np.nan
    whole = np.full((n_days, width, *kept[0].shape[2:]), fill, dtype=kept[0].dtype)
    start = 0
    for name, part in parts.items():
        whole[rows[name], start : start + part.shape[1]] = part
        start += part.shape[1]
    return whole


def _concepts(panel: Panel, names: Sequence[str]) -> NDArray[np.bool_]:
    """(symbols, names) of one class."""
    mask = np.zeros((panel.sizes["symbol"], len(names)), dtype=bool)
    if "concepts" in panel:
        mask[:, [names.index(name) for name in concept_names(panel)]] = panel["concepts"].values
    return mask


def _year(panels: Mapping[str, Panel]) -> int:
    return max(int(panel.attrs["days_per_year"]) for panel in panels.values())


def _attributes(panels: Mapping[str, Panel], notes: Sequence[str]) -> dict[str, Any]:
    each = {name: panel.attrs for name, panel in panels.items()}
    shares = {attrs["real_shares"] for attrs in each.values()}
    told = [f"{_year(panels)} days a year annualise all figures, the most of any class"]
    return {
        "source": ", ".join(f"{name} {attrs['source']}" for name, attrs in each.items()),
        "days_per_year": _year(panels),
        "benchmark_name": None,
        "real_shares": shares.pop() if len(shares) == 1 else None,
        "dropped": {f"{name}: {why}": n for name, attrs in each.items() for why, n in attrs["dropped"].items()},
        "notes": [*notes, *told, *(f"{name}: {note}" for name, attrs in each.items() for note in attrs["notes"])],
        "classes": {name: dict(attrs) for name, attrs in each.items()},
    }
