"""What the report shows of a backtest's risk, costs and capacity, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from mimstocr.backtest.capacity import capacity, size_rules
from mimstocr.backtest.market import Mask, Values
from mimstocr.backtest.risk import (
    GroupExposure,
    SizeExposure,
    cost_breakdown,
    drawdowns,
    group_exposure,
    monthly_returns,
    order_outcomes,
    rolling_sharpe,
    size_exposure,
    sizes,
    weights_of,
)
from mimstocr.backtest.run import BacktestResult
from mimstocr.data.assets import own_calendars, standing
from mimstocr.data.concepts import concept_names
from mimstocr.data.panel import Days, Panel, days_of
from mimstocr.evaluation.decay import ic_decay


@dataclass(frozen=True, eq=False)
class RiskInputs:
    """Figures of the net account; what is left at its default is left out of the report."""

    days: Days = field(default_factory=lambda: np.empty(0, dtype="datetime64[D]"))
    """(days,) compared, those of the arrays."""
    drawdowns: pl.DataFrame = field(default_factory=pl.DataFrame)
    """As `backtest.risk.drawdowns` gives."""
    months: pl.DataFrame = field(default_factory=pl.DataFrame)
    """As `monthly_returns` gives."""
    sharpe: dict[str, Values] = field(default_factory=dict)
    """net, universe, index (those that are complete) to (days,) the Sharpe ratio of the last `sharpe_days`."""
    sharpe_days: int | None = None
    industries: GroupExposure | None = None
    size: dict[str, SizeExposure] = field(default_factory=dict)
    """held, and short where something was sold short."""
    size_is: str | None = None
    """What stands for the size of a stock."""
    orders: pl.DataFrame = field(default_factory=pl.DataFrame)
    """As `order_outcomes` gives."""
    costs: pl.DataFrame = field(default_factory=pl.DataFrame)
    """As `cost_breakdown` gives."""
    size_rules: list[str] | None = None
    """The rules of the market by which the amount of money matters."""
    capital: float | None = None
    """That of the backtest."""
    capacity: pl.DataFrame | None = None
    """As `capacity` gives; none where it was not asked for or every capital earns the same."""
    decay: pl.DataFrame = field(default_factory=pl.DataFrame)
    """As `ic_decay` gives."""
    delay: int = 0
    """Days from the score to the close from which the returns of `decay` count."""


def risk_inputs(panel: Panel, result: BacktestResult, *, capitals: Sequence[float] | None = None) -> RiskInputs:
    """The risk of a backtest of this panel.

    capitals: amounts of money for the capacity curve, each a simulation more; none: no curve, as in a market where the
    amount does not matter (`size_rules`). Prices after the last day of the backtest are not looked at. Raises
    ConfigError on capitals that are not above zero and different.
    """
    everyday = _rows(panel, result.simulated_days)
    compared = slice(everyday.stop - len(result.days), everyday.stop)
    member = standing(own_calendars(panel), panel["member"].values)[compared]
    weights = weights_of(result)
    measured = sizes(panel)
    rules = size_rules(result.settings.market, result.symbols)
    window = _sharpe_days(len(result.days), int(panel.attrs["days_per_year"]))
    delay = result.settings.delay or 0
    return RiskInputs(
        days=result.days,
        drawdowns=drawdowns(result.net_returns, result.days),
        months=monthly_returns(result.net_returns, result.days),
        sharpe={} if window is None else _sharpes(result, window, int(panel.attrs["days_per_year"])),
        sharpe_days=window,
        industries=group_exposure(weights, member, panel["concepts"].values, concept_names(panel))
        if concept_names(panel)
        else None,
        size={} if measured is None else _sizes(weights, measured[0][compared], member),
        size_is=None if measured is None else measured[1],
        orders=order_outcomes(result),
        costs=cost_breakdown(result),
        size_rules=rules,
        capital=result.settings.capital,
        capacity=capacity(panel, result, capitals) if capitals is not None and rules else None,
        decay=ic_decay(result.scores, panel["close"].values[everyday], panel["tradable"].values[everyday], delay=delay),
        delay=delay,
    )


def _rows(panel: Panel, days: Days) -> slice:
    first = int(np.searchsorted(days_of(panel), days[0]))
    return slice(first, first + len(days))


def _sharpe_days(n: int, days_per_year: int) -> int | None:
    """Half a year, or a quarter where there is less than a year; none where there is less than half of one."""
    return next((window for window in (days_per_year // 2, days_per_year // 4) if n >= 2 * window), None)


def _sharpes(result: BacktestResult, window: int, days_per_year: int) -> dict[str, Values]:
    series = {"net": result.net_returns, "universe": result.universe_returns, "index": result.index_returns}
    return {
        name: rolling_sharpe(returns, window, days_per_year)
        for name, returns in series.items()
        if returns is not None and np.isfinite(returns).all()
    }


def _sizes(weights: Values, size: Values, member: Mask) -> dict[str, SizeExposure]:
    sides = {"held": np.maximum(weights, 0.0), "short": np.minimum(weights, 0.0)}
    return {name: size_exposure(side, size, member) for name, side in sides.items() if side.any()}
