"""What a report is made of, and the few questions that all its parts ask of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.report.risk import RiskInputs

Series = NDArray[np.float64]


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a run left behind, as plain values and tables. A value may be null wherever it is not known."""

    name: str
    config: dict[str, Any]
    """The whole tree of settings, `Config.plain()`."""
    environment: dict[str, Any]
    """mimstocr, python, torch, numpy, platform, device, device_name, data_fingerprint, started, seconds."""
    data: dict[str, Any]
    """inspection, splits, features, learned, main, tasks, delay, horizon, diagnostics: what the run looked at."""
    history: list[dict[str, Any]]
    """One row an epoch and seed, as the training loop writes them."""
    metrics: dict[str, Any]
    """seeds, mean, std, ensemble, backtest: the evidence."""
    daily: pl.DataFrame
    """Test days, of the mean score of the seeds: date, ic, rank_ic, spread, turnover and others."""
    quantiles: pl.DataFrame
    """Test days: date, q1 .. qn, the mean raw return of each quantile of the score, lowest first."""
    backtest: pl.DataFrame
    """Days of the backtest: date, net, gross, universe, index (absent or null: none), turnover, costs, n_held."""
    recommendations: pl.DataFrame
    """The list of the last day: date, rank, symbol, score, and a column per task output."""
    risk: RiskInputs | None = None
    """Risk, costs and capacity of the backtest; none: their sections are left out."""
    sharing: dict[str, Any] = field(default_factory=dict)
    """days, tables: what the sharing structure does with its parts; empty for one that has nothing to show."""

    @property
    def learned(self) -> list[str]:
        """The tasks that were learned, in the order of the balancer's telemetry."""
        return list(self.data.get("learned") or self.data.get("tasks") or [])

    @property
    def seeds(self) -> list[str]:
        """The seeds that were trained, as text."""
        return list(self.metrics.get("seeds") or {})

    @property
    def delay(self) -> int | None:
        """Trading days between a score and the first price of its label."""
        for delay in (self.data.get("delay"), dig(self.metrics, "backtest", "delay")):
            if delay is not None:
                return int(delay)
        return None

    @property
    def fill_delay(self) -> int | None:
        """Trading days between a score and the fill of its orders; those of the label unless the backtest says."""
        filled = dig(self.metrics, "backtest", "delay")
        return self.delay if filled is None else int(filled)

    @property
    def horizon(self) -> int:
        """Trading days that the return label spans; run folders made before several could be asked for lack it."""
        if self.data.get("horizon") is not None:
            return int(self.data["horizon"])
        tasks = self.config.get("tasks") or {}
        priced = (task for task in tasks.values() if isinstance(task, Mapping) and task.get("kind") == "return")
        return int(next(priced, {}).get("horizon") or 1)

    @property
    def inspection(self) -> dict[str, Any]:
        """The account of the source under the names of `mimstocr.data.inspect.Inspection`."""
        given = dig(self.data, "inspection") or {}
        return {SHORT_NAMES.get(key, key): value for key, value in given.items()}

    def loss(self, task: str) -> str | None:
        """The kind of a task's loss; older run folders have it in their config alone."""
        kind = dig(self.data, "tasks", task, "loss") or dig(self.config, "tasks", task, "loss", "kind")
        return None if kind is None else str(kind)

    @property
    def levels(self) -> dict[str, list[str]]:
        """The learned tasks that name levels, each with its levels, lowest first."""
        found = {name: dig(self.data, "tasks", name, "levels") for name in self.learned}
        return {name: list(levels) for name, levels in found.items() if levels}


SHORT_NAMES = {"first": "first_day", "last": "last_day", "fields": "missing", "extreme": "largest_changes"}
"""Shorter names under which an account of the source may give the same things."""


def dig(tree: Any, *keys: str) -> Any:
    """The value at a path of nested mappings, None where any step of it is missing."""
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def known(value: Any) -> float | None:
    """The value as a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if math.isfinite(value) else None


def column(frame: pl.DataFrame, name: str) -> Series | None:
    """A column as float64 with NaN for null; None where it is absent, empty or null throughout."""
    if name not in frame.columns:
        return None
    values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return values if np.isfinite(values).any() else None


def matrix(frame: pl.DataFrame, names: Sequence[str]) -> Series:
    """Columns side by side, (rows, names), float64 with NaN for null."""
    return frame.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def dates(frame: pl.DataFrame) -> list[str]:
    """The days of a table as YYYY-MM-DD, with HH:MM where there are bars within the day."""
    if "date" not in frame.columns:
        return []
    days = frame["date"]
    within = days.dtype == pl.Datetime and (days.dt.time() != time()).any()
    return [str(day)[: 16 if within else 10] for day in days]


def over_seeds(inputs: ReportInputs, *path: str) -> list[float]:
    """The known values at a path below each seed's metrics."""
    values = (known(dig(inputs.metrics, "seeds", seed, *path)) for seed in inputs.seeds)
    return [value for value in values if value is not None]


def confusion(inputs: ReportInputs, task: str, split: str) -> NDArray[np.float64] | None:
    """The confusion matrix of a task on a split, summed over the seeds; a row a true level. None without one."""
    matrices = [dig(inputs.metrics, "seeds", seed, "tasks", task, split, "confusion") for seed in inputs.seeds]
    counted = [np.asarray(matrix, dtype=np.float64) for matrix in matrices if matrix is not None]
    if not counted:
        return None
    total: NDArray[np.float64] = np.sum(counted, axis=0)
    return total if total.sum() > 0 else None


def spread_of(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 1) of values; None where there are too few."""
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
