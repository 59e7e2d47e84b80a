"""A backtest of scores on a Panel: net, gross, universe and index over exactly the same days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from mimstocr.backtest.benchmark import index_returns, universe_mean
from mimstocr.backtest.engine import Simulation, simulate
from mimstocr.backtest.market import Terms, Values, make_terms
from mimstocr.backtest.orders import NO_LOT
from mimstocr.backtest.portfolio import portfolio_metrics
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategy import View, check_columns
from mimstocr.data.assets import own_calendars, standing
from mimstocr.data.concepts import concept_names
from mimstocr.data.panel import Days, Panel, When, day_text, days_of, resolved, span_of, symbols_of, usable
from mimstocr.errors import ConfigError, DataError

MANY = 0.2
"""From which share of orders below a lot on the capital is said to be too small."""


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """What the account earned, beside the universe and the index.

    All (days,) arrays are over `days`, the days compared: from the day after the first fill to the last. The
    entry costs money, and filled before the close it earns the rest of its day: what it cost, earned and turned over is
    counted on the first day compared, so that the net returns compound to the account's final value over its capital.
    """

    days: Days
    net_returns: Values
    gross_returns: Values
    """The same strategy in the same market, free of every cost."""
    universe_returns: Values
    """`universe_mean`; NaN on a day without one."""
    index_returns: Values | None
    """None where the panel has no benchmark; NaN on a day without one."""
    turnover: Values
    """One-way, of the net account."""
    costs: Values
    """Money paid by the net account."""
    n_held: NDArray[np.int64]
    simulated_days: Days
    """The days of `net` and `gross`: all the days asked for, those before the first fill included."""
    settings: BacktestSettings
    symbols: list[str]
    """The stocks, in the order of the columns of `net.shares`."""
    scores: NDArray[Any]
    """(simulated days, stocks) what decided."""
    outputs: Mapping[str, Values]
    """Columns of the predictions that the strategy read besides, each (simulated days, stocks)."""
    terms: Terms
    """What the market allowed and asked."""
    net: Simulation
    gross: Simulation
    metrics: dict[str, dict[str, float]]
    """`portfolio_metrics` of net, gross, universe and index, the first two with their mean daily `turnover`, net
    also with `costs`, all that was paid as a fraction of the capital. Net, gross and universe are measured
    against the benchmark named in `measured_against`. The universe or the index is left out where a day of it
    is missing."""
    measured_against: str | None
    """"index" where it is complete, else "universe" (which is then not measured against itself), else None."""
    counts: dict[str, int]
    """What a reader must know: days without a decision, decisions not filled by the end, members that could be traded
    but had no score on days with scores, scores that were infinite (and count as none), buys and sells that the market
    did not allow, marks at an old price, days that the universe and the index lack, and on how many days which
    constraint of the strategy gave way."""

    def costs_by_kind(self) -> dict[str, float]:
        """All that the net account paid, by kind, as fractions of the capital; kinds that cost nothing are left out."""
        total = self.net.cost_kinds.sum(axis=0) / self.settings.capital
        return {kind: float(paid) for kind, paid in zip(self.terms.kinds, total, strict=True) if paid != 0}

    def notes(self) -> list[str]:
        """What a reader must know of the terms, and whether the capital was too small for them."""
        told = list(self.terms.notes)
        reasons = self.net.orders.reason
        small = float((reasons == NO_LOT).mean()) if len(reasons) else 0.0
        if small > MANY:
            told.append(
                f"{small:.0%} of the orders come to less than a lot: a capital of {self.settings.capital:,.0f} is too "
                "small for this strategy"
            )
        if not self.net.orders.filled.any():
            told.append("no order was ever filled: the account is cash throughout")
        return told

    def table(self) -> pl.DataFrame:
        """One row a day compared: date, net, gross, universe, index (daily returns), turnover, costs, n_held.

        A return that is not known is null; without an index its column is null throughout.
        """
        index = np.full(len(self.days), np.nan) if self.index_returns is None else self.index_returns
        columns = {
            "date": self.days,
            "net": self.net_returns,
            "gross": self.gross_returns,
            "universe": self.universe_returns,
            "index": index,
            "turnover": self.turnover,
            "costs": self.costs,
            "n_held": self.n_held,
        }
        return pl.DataFrame(columns).fill_nan(None)


def backtest(
    panel: Panel,
    scores: NDArray[Any] | xr.DataArray,
    settings: BacktestSettings,
    *,
    first: When,
    last: When,
    outputs: Mapping[str, NDArray[Any] | xr.DataArray] | None = None,
) -> BacktestResult:
    """Follow a strategy from the scores of `first` to the closes of `last`, both days included.

    scores: (days, symbols) on the panel's own grid, NaN where there is none; or a DataArray with dims (date,
    symbol) of days and symbols that the panel has. Scores of other days than first .. last are not used; a day
    without any is no decision. settings: its delay must be a number; panel.attrs["days_per_year"] annualises. outputs:
    columns of the predictions by name, in one of the two forms of scores and known when they are; only those that the
    strategy reads are used.

    Raises ConfigError without a delay, or without a column that the strategy reads; DataError when the scores do not
    fit the panel, when no day lies between first and last, when no day is left after the first fill, and as the
    strategy and the engine do.
    """
    if settings.delay is None:
        raise ConfigError(
            "backtest.delay: expected trading days from the score to the fill, got none; a run has those "
            "of its label, scores by themselves have not: set it to 1 for the next close"
        )
    check_columns(settings.strategy.reads, outputs or {})
    window = _window(panel, first, last)
    terms = make_terms(settings.market, panel, window)
    grid = carried(panel, _on_grid(panel, scores)[window], window)
    read = {
        name: carried(panel, _on_grid(panel, (outputs or {})[name], name)[window], window)
        for name in settings.strategy.reads
    }
    plan = settings.strategy.plan(grid, view_of(panel, window, read))
    how: dict[str, Any] = {"delay": settings.delay, "every": settings.every, "capital": settings.capital}
    net = simulate(terms, plan, **how)
    gross = simulate(terms.free(), plan, **how)
    days = days_of(panel)[window]
    start = net.first_fill + 1
    if start == len(days):
        raise DataError(
            f"expected a day after the first fill, but that is on {day_text(days[-1])}, the last of {len(days)} days; "
            "give scores on earlier days, or a later last day"
        )
    market = panel.isel(date=window)
    everyday = own_calendars(panel)
    closes, tradable, member = (standing(everyday, panel[x].values)[window] for x in ("close", "tradable", "member"))
    universe = universe_mean(closes, tradable, member)[start:]
    index = index_returns(market["benchmark"].values)[start:] if "benchmark" in market else None
    net_returns, gross_returns = _with_entry(net, start), _with_entry(gross, start)
    metrics, measured_against = _metrics(
        {"net": net_returns, "gross": gross_returns, "universe": universe, "index": index},
        int(panel.attrs["days_per_year"]),
    )
    turnover, costs = _sum_with_entry(net.turnover, start), _sum_with_entry(net.costs, start)
    metrics["net"] |= {"turnover": float(turnover.mean()), "costs": float(costs.sum() / settings.capital)}
    metrics["gross"]["turnover"] = float(_sum_with_entry(gross.turnover, start).mean())
    return BacktestResult(
        days=days[start:],
        net_returns=net_returns,
        gross_returns=gross_returns,
        universe_returns=universe,
        index_returns=index,
        turnover=turnover,
        costs=costs,
        n_held=net.n_held[start:],
        simulated_days=days,
        settings=settings,
        symbols=symbols_of(panel),
        scores=grid,
        outputs=read,
        terms=terms,
        net=net,
        gross=gross,
        metrics=metrics,
        measured_against=measured_against,
        counts=_counts(net, grid, usable(market), settings, universe, index),
    )


def carried(panel: Panel, values: NDArray[Any], window: slice) -> NDArray[Any]:
    """Scores (days of the window, stocks) with those of each asset class standing while it is closed.

    So a day on which crypto alone trades does not sell the stocks. Only own days of the window are looked at: days at
    its start on which a class is closed have no score of any stock, and so no decision. With one class as they are.
    """
    calendars = own_calendars(panel)
    if len(calendars) == 1:
        return values
    whole = np.full(panel["close"].shape, np.nan)
    whole[window] = values
    stood = standing(calendars, whole)[window]
    for own in calendars:
        last = own.last[window]
        stood[(last >= 0) & (own.days[np.maximum(last, 0)] < window.start)] = np.nan
    return stood


def view_of(panel: Panel, window: slice, outputs: Mapping[str, Values] | None = None) -> View:
    """What a strategy may know of the days `window`: closes up to the day, and groups of stocks.

    outputs: columns of the predictions, each (days of the window, stocks). While an asset class is closed its closes
    and whether they could be traded are those of its own last day, a day without a move.
    """
    calendars = own_calendars(panel)
    return View(
        days=days_of(panel)[window],
        closes=standing(calendars, panel["close"].values)[: window.stop],
        before=window.start,
        days_per_year=int(panel.attrs["days_per_year"]),
        groups=panel["concepts"].values if "concepts" in panel else None,
        group_names=concept_names(panel),
        tradable=standing(calendars, panel["tradable"].values)[: window.stop],
        outputs=outputs or {},
    )


def _window(panel: Panel, first: When, last: When) -> slice:
    days = days_of(panel)
    window = span_of(days, first, last)
    if window.start >= window.stop:
        raise DataError(
            f"expected trading days from {first} to {last}, but there is none: the panel has {day_text(days[0])} to "
            f"{day_text(days[-1])}; choose among them"
        )
    return window


def _on_grid(panel: Panel, values: NDArray[Any] | xr.DataArray, what: str = "scores") -> NDArray[Any]:
    """(days, symbols) of the panel, NaN where there is none."""
    shape = panel["close"].shape
    if not isinstance(values, xr.DataArray):
        if np.shape(values) != shape:
            raise DataError(
                f"expected {what} on the panel's grid (days, symbols) = {shape}, got {np.shape(values)}; "
                "hand over a DataArray with dims (date, symbol) to have them aligned"
            )
        return np.asarray(values)
    if set(values.dims) != {"date", "symbol"}:
        raise DataError(f"expected {what} with dims (date, symbol), got {values.dims}; rename them")
    days, symbols = resolved(values["date"].values), values["symbol"].values.astype(np.str_)
    rows = _places(days, days_of(panel), f"{what} of days")
    columns = _places(symbols, np.asarray(symbols_of(panel)), f"{what} of symbols")
    grid = np.full(shape, np.nan)
    grid[np.ix_(rows, columns)] = values.transpose("date", "symbol").values
    return grid


def _places(wanted: NDArray[Any], known: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Where each of `wanted` stands in `known`."""
    if len(np.unique(wanted)) < len(wanted):
        raise DataError(f"expected {what} once, got some twice; keep one each")
    if len(strange := np.setdiff1d(wanted, known)):
        raise DataError(
            f"expected {what} that the panel has, got {len(strange)} others such as {strange[0]}; drop them"
        )
    order = np.argsort(known)
    return order[np.searchsorted(known, wanted, sorter=order)]


def _with_entry(account: Simulation, start: int) -> Values:
    """Returns of the days compared, the first with the cost of the entry on the day before."""
    returns = account.returns[start:].copy()
    returns[0] = (1.0 + account.returns[start - 1]) * (1.0 + returns[0]) - 1.0
    return returns


def _sum_with_entry(values: Values, start: int) -> Values:
    total = values[start:].copy()
    total[0] += values[start - 1]
    return total


def _metrics(series: dict[str, Values | None], days_per_year: int) -> tuple[dict[str, dict[str, float]], str | None]:
    """The metrics of each series that is complete, and which of them the others are measured against."""
    complete = {name: r for name, r in series.items() if r is not None and np.isfinite(r).all()}
    against = next((name for name in ("index", "universe") if name in complete), None)
    benchmark = None if against is None else complete[against]
    metrics = {
        name: portfolio_metrics(r, days_per_year, None if r is benchmark else benchmark) for name, r in complete.items()
    }
    return metrics, against


def _counts(
    account: Simulation,
    scores: NDArray[Any],
    rows: NDArray[np.bool_],
    settings: BacktestSettings,
    universe: Values,
    index: Values | None,
) -> dict[str, int]:
    scored = np.isfinite(scores).any(axis=-1)
    delay = settings.delay or 0
    return {
        "days_without_decision": int((~scored).sum()),
        "decisions_not_filled": int(scored[max(len(scored) - delay, 0) :].sum()),
        "members_without_score": int((rows & ~np.isfinite(scores))[scored].sum()),
        "infinite_scores": int(np.isinf(scores).sum()),
        "unfilled_buys": int(account.unfilled_buys.sum()),
        "stuck_sells": int(account.stuck_sells.sum()),
        "stale_marks": int(account.stale_marks.sum()),
        "universe_days_missing": int(np.isnan(universe).sum()),
        "index_days_missing": 0 if index is None else int(np.isnan(index).sum()),
        **{f"{name}_gave_way": n for name, n in account.gave_way.items()},
    }
