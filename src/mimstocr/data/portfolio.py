"""Portfolios chosen by a rule on one day, by what was known at its close."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mimstocr.components import Settings
from mimstocr.data.panel import Panel, day_text, days_of, few, symbols_of, traded_money
from mimstocr.errors import DataError


class Portfolio(Settings):
    """The n largest members on a day, and nothing else, over all days."""

    day: date
    """Day of the choice; on a day without trading, the last one before it."""
    n: Annotated[int, Field(ge=1)] = 50
    """How many stocks (profit-guided paper: 50 large ones, 30 of medium size)."""
    skip: Annotated[int, Field(ge=0)] = 0
    """How many larger ones are passed over, for stocks of medium size."""
    by: Literal["dollar_volume", "market_value"] = "dollar_volume"
    """What size is: mean money traded a day, or the mean market value, of the last `days` days."""
    days: Annotated[int, Field(ge=1)] = 60
    """Days up to `day` whose mean counts."""


def choose(panel: Panel, portfolio: Portfolio) -> Panel:
    """The panel of the chosen stocks alone. Each is a member wherever it has a price, whatever the universe says.

    Only members with a price on the day are ranked; ties go to the earlier symbol. Nothing after the day is looked at.
    Raises DataError when the day is not in the data, the size is not known, or there are too few stocks.
    """
    days, source = days_of(panel), panel.attrs["source"]
    at = int(np.searchsorted(days, np.datetime64(portfolio.day, "D") + 1)) - 1
    if at < 0 or np.datetime64(portfolio.day, "D") > days[-1]:
        raise DataError(
            f"data.portfolio.day: {portfolio.day} lies outside {source}, which has {day_text(days[0])} to "
            f"{day_text(days[-1])}; choose a day inside"
        )
    size = _size(panel, portfolio, at)
    size[~panel["member"].values[at]] = np.nan
    known = int((~np.isnan(size)).sum())
    if known < portfolio.skip + portfolio.n:
        raise DataError(
            f"data.portfolio: asks for {portfolio.n} stocks after {portfolio.skip}, but {known} members have a "
            f"{portfolio.by.replace('_', ' ')} on {day_text(days[at])}; lower n or skip, or choose a larger universe"
        )
    largest = np.argsort(-size, kind="stable")[portfolio.skip : portfolio.skip + portfolio.n]
    chosen = panel.isel(symbol=np.sort(largest))
    chosen = chosen.assign(member=(("date", "symbol"), ~np.isnan(chosen["close"].values)))
    names = np.array(symbols_of(panel))[largest].tolist()
    note = (
        f"portfolio of {portfolio.n} of {known} members, by mean {portfolio.by.replace('_', ' ')} of the "
        f"{portfolio.days} days up to {day_text(days[at])}"
        + (f", the {portfolio.skip} largest passed over" if portfolio.skip else "")
        + f": {few(names)}"
    )
    chosen.attrs = {**panel.attrs, "notes": [*panel.attrs["notes"], note]}
    for variable in chosen.variables.values():
        variable.values.flags.writeable = False
    return chosen


def _size(panel: Panel, portfolio: Portfolio, at: int) -> NDArray[np.float64]:
    """(symbols,) mean size of the known days up to `at`; NaN without one, or without a price on the day."""
    rows = slice(max(at - portfolio.days + 1, 0), at + 1)
    past = panel.isel(date=rows)
    if portfolio.by == "market_value":
        if "market_value" not in panel:
            raise DataError(f"data.portfolio.by: {panel.attrs['source']} has no market value; set it to dollar_volume")
        values = past["market_value"].values.astype(np.float64)
    else:
        # which kind of shares the volume counts is a property of the source, not of these days
        values = traded_money(panel)[rows]
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean = np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0))
    return np.where(np.isnan(panel["close"].values[at]), np.nan, mean)
