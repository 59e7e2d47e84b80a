"""Metrics of a series of daily returns (docs/methods.md). The risk-free rate is 0 throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError

NAN = float("nan")


def drawdown(returns: NDArray[Any]) -> NDArray[np.float64]:
    """How far below its highest point the wealth stands, (days,): 0, or a negative fraction.

    returns: (days,). The highest point starts at the money before the first day, so a first loss counts.
    """
    wealth = np.cumprod(1.0 + np.asarray(returns, dtype=np.float64))
    below: NDArray[np.float64] = wealth / np.maximum.accumulate(np.maximum(wealth, 1.0)) - 1.0
    return below


def portfolio_metrics(
    returns: NDArray[Any], days_per_year: int, benchmark: NDArray[Any] | None = None
) -> dict[str, float]:
    """What a series of daily returns was worth; fractions, NaN where undefined.

    returns, benchmark: (days,), simple daily returns. days_per_year annualises (252 stocks, 365 crypto).

    - `cumulative_return`: product of (1 + r) - 1. `annual_return`: (1 + cumulative)^(days_per_year / days) - 1.
    - `annual_volatility`: standard deviation (ddof 1) x sqrt(days_per_year).
    - `sharpe`: mean / standard deviation (ddof 1), x sqrt(days_per_year).
    - `sortino`: mean / sqrt(mean(min(r, 0)^2)), over all days, x sqrt(days_per_year).
    - `max_drawdown`: lowest of `drawdown`, a negative fraction. `drawdown_days`: most days in a row below the
      highest point. `calmar`: annual_return / -max_drawdown.
    - `win_rate`: share of days with r > 0. `profit_factor`: sum of gains / sum of losses.
    - `days`: how many returns.

    With a benchmark b also, over the same days: `excess_return`: (1 + annual_return) / (1 + that of b) - 1, the
    geometric difference; `tracking_error`: standard deviation of r - b (ddof 1) x sqrt(days_per_year);
    `information_ratio`: mean of r - b x days_per_year / tracking_error; `beta`: covariance of r and b / variance
    of b; `alpha`: (mean of r - beta x mean of b) x days_per_year.

    Raises DataError on returns that are missing, not finite or below -1, or lengths that differ; ConfigError on
    days_per_year not above 0.
    """
    if days_per_year <= 0:
        raise ConfigError(f"days_per_year: expected a number above 0, got {days_per_year}; 252 stocks, 365 crypto")
    r = _checked(returns, "returns")
    annual = _annual(r, days_per_year)
    below = drawdown(r)
    deepest = float(below.min())
    losses = np.minimum(r, 0.0)
    metrics = {
        "cumulative_return": float(np.prod(1.0 + r) - 1.0),
        "annual_return": annual,
        "annual_volatility": _std(r) * days_per_year**0.5,
        "sharpe": _ratio(float(r.mean()), _std(r)) * days_per_year**0.5,
        "sortino": _ratio(float(r.mean()), float(np.sqrt((losses**2).mean()))) * days_per_year**0.5,
        "calmar": _ratio(annual, -deepest),
        "max_drawdown": deepest,
        "drawdown_days": float(_longest(below < 0)),
        "win_rate": float((r > 0).mean()),
        "profit_factor": _ratio(float(np.maximum(r, 0.0).sum()), -float(losses.sum())),
        "days": float(len(r)),
    }
    if benchmark is not None:
        b = _checked(benchmark, "benchmark")
        if len(b) != len(r):
            raise DataError(f"expected a benchmark of {len(r)} days, got {len(b)}; compare over exactly the same days")
        metrics |= _against(r, b, days_per_year)
    return metrics


def _against(r: NDArray[np.float64], b: NDArray[np.float64], days_per_year: int) -> dict[str, float]:
    error = _std(r - b)
    spread = b - b.mean()
    varied = len(b) > 1 and bool(b.min() < b.max())
    beta = float((spread * (r - r.mean())).sum() / (spread**2).sum()) if varied else NAN
    return {
        "excess_return": _ratio(1.0 + _annual(r, days_per_year), 1.0 + _annual(b, days_per_year)) - 1.0,
        "tracking_error": error * days_per_year**0.5,
        "information_ratio": _ratio(float((r - b).mean()), error) * days_per_year**0.5,
        "beta": beta,
        "alpha": float(r.mean() - beta * b.mean()) * days_per_year,
    }


def _checked(returns: NDArray[Any], name: str) -> NDArray[np.float64]:
    r = np.asarray(returns, dtype=np.float64)
    if r.ndim != 1 or len(r) == 0:
        raise DataError(f"{name}: expected daily returns, (days,), got shape {r.shape}; hand over one day at least")
    if bad := int((~np.isfinite(r)).sum()):
        raise DataError(f"{name}: expected a number on every day, got {bad} that are not; leave those days out of all")
    if r.min() < -1:
        raise DataError(f"{name}: expected fractions, no loss above 1, got {r.min():g}; divide percentages by 100")
    return r


def _annual(r: NDArray[np.float64], days_per_year: int) -> float:
    return float(np.prod(1.0 + r) ** (days_per_year / len(r)) - 1.0)


def _std(r: NDArray[np.float64]) -> float:
    """ddof 1; exactly 0 for equal returns, where rounding of the mean would leave something."""
    if len(r) < 2:
        return NAN
    return float(r.std(ddof=1)) if r.min() < r.max() else 0.0


def _ratio(above: float, below: float) -> float:
    return above / below if below != 0 else NAN


def _longest(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of true."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return int(lengths.max(initial=0))
