"""What is known of the stocks besides their windows: their concepts and their market value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimstocr.data.assets import by_class, class_names, class_of_symbols, own_calendars
from mimstocr.data.concepts import concept_names
from mimstocr.data.panel import Matrix, Panel, few, traded_money, usable
from mimstocr.errors import DataError

DOLLAR_DAYS = 20
"""Days whose mean dollar volume stands for the market value where a source has none."""


@dataclass(frozen=True)
class Fact:
    """One fact of every symbol of a panel."""

    values: NDArray[Any]
    """(symbols, ...), or (days, symbols) where `daily`."""
    daily: bool
    notes: list[str] = field(default_factory=list)
    """What a reader of results must know of it."""


def gather_facts(
    names: Collection[str], panel: Panel, concepts: Sequence[str] | None = None, classes: Sequence[str] | None = None
) -> dict[str, Fact]:
    """The facts of a panel that a backbone reads, without those that the panel has not, and `asset_class` of several.

    concepts, classes: those that a model has learned, in its order; none: those of the panel. Raises DataError when
    the panel's differ from them.
    """
    facts = {}
    if "concepts" in names and (concepts or (concepts is None and concept_names(panel))):
        facts["concepts"] = Fact(_concepts(panel, concepts), daily=False)
    if "market_value" in names:
        facts["market_value"] = _by_class(panel)
    learned = class_names(panel) if classes is None else classes
    _check_learned(panel, learned)
    if learned:
        facts["asset_class"] = Fact(_classes(panel, learned), daily=False)
    return facts


def _by_class(panel: Panel) -> Fact:
    """The market value, of several asset classes each on its own calendar."""
    calendars = own_calendars(panel)
    found = {own.name: market_value(own.panel) for own in calendars}
    said = [f"{name}: {note}" if name else note for name, fact in found.items() for note in fact.notes]
    return Fact(by_class(calendars, lambda own: found[own.name].values, fill=1), daily=True, notes=said)


def _classes(panel: Panel, learned: Sequence[str]) -> NDArray[np.int64]:
    """(symbols,) place of the symbol's class among those that the model has learned."""
    places: NDArray[np.int64] = np.array([list(learned).index(name) for name in class_of_symbols(panel).tolist()])
    return places


def _check_learned(panel: Panel, learned: Sequence[str]) -> None:
    there = class_names(panel)
    if bool(there) != bool(learned) or set(there) - set(learned):
        raise DataError(
            f"the model has learned {few(list(learned)) or 'one asset class alone'}, but the data have "
            f"{few(there) or 'one class alone'}; give the classes that it was trained with in data.assets, by name"
        )


def market_value(panel: Panel) -> Fact:
    """(days, symbols) float32, above 0: the source's market value, or what stands for it.

    Without one in the source it is the mean money traded (`traded_money`) of those of the last 20 days on which the
    stock traded. A volume of 0 is a suspended day, as a missing row is, and no size. Without volume all stocks weigh
    alike. A stock of the cross-section whose value is not known, or not above 0, counts as the median of the others of
    that day's cross-section.
    """
    if "market_value" in panel:
        value, said = panel["market_value"].values, []
    elif "volume" in panel:
        dollars = traded_money(panel).astype(np.float32)
        value = _mean_of_last(np.where(dollars > 0, dollars, np.nan), DOLLAR_DAYS)
        said = [f"no market value in the source: stocks weigh by their {DOLLAR_DAYS}-day mean dollar volume"]
    else:
        value = np.ones(panel["close"].shape, dtype=np.float32)
        said = ["no market value and no volume in the source: all stocks weigh alike"]
    rows = usable(panel)
    known = np.isfinite(value) & (value > 0)
    missing = rows & ~known
    if missing.any():
        said.append(f"{int(missing.sum())} stock-days without a market value count as their day's median")
        shown = np.where(rows & known, value, np.nan)
        median = np.ones(len(value), dtype=np.float32)  # a day on which nobody's is known
        some = (rows & known).any(axis=1)
        median[some] = np.nanmedian(shown[some], axis=1)
        value = np.where(missing, median[:, None], value)
    return Fact(np.where(np.isfinite(value) & (value > 0), value, 1).astype(np.float32), daily=True, notes=said)


def _concepts(panel: Panel, learned: Sequence[str] | None) -> NDArray[np.bool_]:
    """(symbols, concepts)."""
    names = concept_names(panel)
    if learned and not names:
        raise DataError(
            f"the model reads {len(learned)} concepts ({few(list(learned))}), but the source has none; give it "
            "the table that it was trained with by data.concepts"
        )
    if learned is not None and (unknown := sorted(set(names) - set(learned))):
        raise DataError(
            f"the model has not learned {len(unknown)} concepts of the table ({few(unknown)}); give it the table that "
            "it was trained with by data.concepts, or train anew"
        )
    table: NDArray[np.bool_] = panel["concepts"].values.copy()
    if learned is None:
        return table
    column = {name: i for i, name in enumerate(names)}
    whole = np.zeros((len(table), len(learned)), dtype=bool)
    for i, name in enumerate(learned):
        if name in column:
            whole[:, i] = table[:, column[name]]
    return whole


def _mean_of_last(values: Matrix, n: int) -> Matrix:
    """(days, symbols) mean of the known values of the last n days; NaN without any."""
    known = np.isfinite(values)
    total = np.cumsum(np.where(known, values, 0), axis=0, dtype=np.float64)
    count = np.cumsum(known, axis=0)
    total[n:] -= total[:-n].copy()
    count[n:] -= count[:-n].copy()
    mean: Matrix = np.divide(total, count, out=np.full(values.shape, np.nan), where=count > 0).astype(np.float32)
    return mean
