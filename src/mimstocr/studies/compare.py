"""Paired comparison of cells on the same test days (methods, section 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from mimstocr.components import near
from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation import (
    BootstrapTest,
    HacTest,
    benjamini_hochberg,
    mann_whitney,
    paired,
    sharpe_difference,
    sharpe_estimate,
)
from mimstocr.report.formats import counted
from mimstocr.studies.exhibits.base import Entry, Table
from mimstocr.studies.exhibits.table import TableExhibit
from mimstocr.studies.results import Money, Result, Results, Shown, daily_returns, daily_series
from mimstocr.studies.study import NO_LEVEL, slug

Series = Mapping[int, tuple[NDArray[np.datetime64], Mapping[str, NDArray[np.float64]]]]
"""Seed to days and daily metrics."""
SHARPES = {"backtest.net.sharpe": "net", "backtest.gross.sharpe": "gross"}
"""Figure to the daily returns that it is about."""


def comparisons(results: Results, against: str) -> list[Table]:
    """For each choice of figures in the study's tables: every cell against the one at level `against` in its place.

    Tables that show the same figures, such as those of the mean and of the best run, are one comparison, of all runs.
    The daily test metrics of the seeds that both have are averaged, day by day, and their differences tested: the
    mean by a HAC t-test and a stationary bootstrap, adjusted over the table by Benjamini and Hochberg; the seeds'
    means by Mann and Whitney. The Sharpe ratio of a backtest is compared by the accounts' daily returns
    (`sharpe_difference`). Raises ConfigError when no axis has the level, no shown cell is at it, or there is no table.
    """
    study = results.grid.study
    axis = next((axis for axis in study.shown_axes if against in results.levels(axis)), None)
    if axis is None:
        if away := next((axis for axis in study.shown_axes if against in study.levels(axis)), None):
            raise ConfigError(
                f"--against: no cell at level {against!r} of {away} is shown, as --only or the small form leaves it "
                "out; keep it"
            )
        known = [level for axis in study.shown_axes for level in results.levels(axis)]
        raise ConfigError(f"--against: no level {against!r} in study {results.grid.name}; {near(against, known)}")
    shown = [exhibit.metrics for exhibit in study.show if isinstance(exhibit, TableExhibit)]
    if not shown:
        raise ConfigError(f"--against: study {results.grid.name} shows no table, and so nothing to compare")
    distinct = [metrics for number, metrics in enumerate(shown) if metrics not in shown[:number]]
    return [_compare(results, metrics, axis, against, number) for number, metrics in enumerate(distinct)]


def _compare(results: Results, metrics: Mapping[str, str], axis: str, against: str, number: int) -> Table:
    @lru_cache
    def series(name: str) -> Series:
        return _series(results.of(cells[name]))

    @lru_cache
    def money(name: str) -> Mapping[int, Money]:
        return _money(results.of(cells[name]))

    cells = {shown.name: shown.cell for shown in results.shown}

    axes = [name for name in results.grid.study.shown_axes if len(results.levels(name)) > 1]  # those that tell apart
    lines: list[tuple[list[Entry], float]] = []
    notes = [
        f"differences of daily test metrics to {axis} = {against}, seeds that both have averaged day by day; t and p: "
        "HAC (Newey and West); 95 %, p boot: stationary bootstrap; p adj.: by Benjamini and Hochberg over this table; "
        "p seeds: Mann and Whitney on the seeds' means (in brackets the least that so few seeds can give). The daily "
        "tests are about these trained models; only seeds tell of the methods"
    ]
    passed_over: dict[str, None] = {}
    alone: list[str] = []
    for shown in results.shown:
        if shown.levels[axis] == against:
            continue
        base = partner(results, shown, axis, against)
        if base is None:
            alone.append(shown.name)
            continue
        ours, theirs = series(shown.name), series(base.name)
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            notes.append(f"{shown.name}: no seed of which both it and {base.name} have a run folder; not compared")
            continue
        levels = [shown.levels[name] for name in axes]
        for label, figure in metrics.items():
            metric = figure.removeprefix("test.")
            here = [some[seed][1] for some in (ours, theirs) for seed in seeds]
            try:
                if figure in SHARPES:
                    accounts = money(shown.name), money(base.name)
                    both = [seed for seed in seeds if all(seed in some for some in accounts)]
                    if len(both) < len(seeds):
                        passed_over[_without(shown.name, base.name, len(seeds) - len(both), len(seeds))] = None
                    if both:
                        lines.append(_sharpe_line(levels, label, SHARPES[figure], *accounts, both))
                        passed_over[_about(label, SHARPES[figure])] = None
                elif metric == figure or not all(metric in daily for daily in here):
                    passed_over[f"{label} is no daily figure of the test days, and is not compared"] = None
                else:
                    lines.append(_line(levels, label, metric, ours, theirs, seeds))
            except DataError as error:  # such as a seed whose scores are all equal
                notes.append(f"{shown.name}, {label}: cannot be compared ({error})")
    notes += passed_over
    if alone:
        notes.append(f"not compared, as no one cell of {against} stands in their place: {', '.join(alone)}")
    adjusted = benjamini_hochberg(np.array([p for _, p in lines], dtype=np.float64))
    body = [[*line, Entry(_p(p), value=float(p))] for (line, _), p in zip(lines, adjusted, strict=True)]
    header = [*axes, "metric", f"- {against}", "95 %", "t", "p", "p boot", "p seeds", "seeds", "days", "p adj."]
    name = f"{results.grid.name}-against-{slug(against)}" + (f"-{number + 1}" if number else "")
    return Table(name, f"Against {against}, on the same test days", header, body, len(axes) + 1, notes)


def _without(name: str, base: str, n: int, of: int) -> str:
    return (
        f"{name}: {n} of {counted(of, 'seed')} without the daily returns of both it and {base}, and so not in the "
        "comparison of Sharpe ratios; `mimstocr run FOLDER --resume` writes backtest.parquet where it is missing"
    )


def _about(label: str, returns: str) -> str:
    return (
        f"{label}: difference of the annual Sharpe ratios of the daily {returns} returns, mean over the seeds; t and "
        "p: Ledoit and Wolf's delta method with Newey-West errors; 95 %, p boot: the ratios of resampled days"
    )


def _line(
    levels: list[str], label: str, metric: str, ours: Series, theirs: Series, seeds: list[int]
) -> tuple[list[Entry], float]:
    days, left = _aligned(ours, metric, seeds)
    other_days, right = _aligned(theirs, metric, seeds)
    _, here, there = np.intersect1d(days, other_days, return_indices=True)
    test = paired(left[here], right[there])
    common = np.intersect1d(days, other_days)
    by_seed = [[_mean_on(common, some[seed], metric) for seed in seeds] for some in (ours, theirs)]
    return _entries(levels, label, test.hac, test.bootstrap, by_seed, 1.0)


def _sharpe_line(
    levels: list[str],
    label: str,
    returns: str,
    ours: Mapping[int, Money],
    theirs: Mapping[int, Money],
    seeds: list[int],
) -> tuple[list[Entry], float]:
    runs = [[some[seed] for seed in seeds] for some in (ours, theirs)]
    days = reduce(np.intersect1d, [run.days for some in runs for run in some])
    left, right = (np.stack([run.returns[returns][np.isin(run.days, days)] for run in some]) for some in runs)
    days_per_year = runs[0][0].days_per_year
    test = sharpe_difference(left, right, days_per_year=days_per_year)
    by_seed = [[sharpe_estimate(account).sharpe for account in accounts] for accounts in (left, right)]
    return _entries(levels, label, test.hac, test.bootstrap, by_seed, math.sqrt(days_per_year))


def _entries(
    levels: list[str], label: str, hac: HacTest, bootstrap: BootstrapTest, by_seed: list[list[float]], scale: float
) -> tuple[list[Entry], float]:
    """A line and its p; scale: by what the difference and its interval are multiplied to be shown."""
    n_seeds = len(by_seed[0])
    if n_seeds > 1:
        ranks = mann_whitney(np.array(by_seed[0]), np.array(by_seed[1]))
        over_seeds = Entry(f"{_p(ranks.p)} ({ranks.smallest_p:.2g})", value=ranks.p)
    else:
        over_seeds = Entry("\N{EN DASH}")
    difference, low, high = (scale * value for value in (hac.mean, bootstrap.low, bootstrap.high))
    entries = [
        *(Entry(level) for level in levels),
        Entry(label),
        Entry(f"{difference:+.4f}", value=difference),
        Entry(f"{low:+.4f} to {high:+.4f}"),
        Entry(f"{hac.t:+.2f}", value=hac.t),
        Entry(_p(hac.p), value=hac.p),
        Entry(_p(bootstrap.p), value=bootstrap.p),
        over_seeds,
        Entry(str(n_seeds), value=n_seeds),
        Entry(str(hac.n), value=hac.n),
    ]
    return entries, hac.p


def _series(runs: list[Result]) -> Series:
    """Of the runs that have their folder."""
    return {run.seed: daily_series(run) for run in runs if run.folder is not None}


def _money(runs: list[Result]) -> dict[int, Money]:
    """Of the runs whose folder has their daily returns."""
    found = {run.seed: daily_returns(run) for run in runs if run.folder is not None}
    return {seed: money for seed, money in found.items() if money is not None}


def _aligned(series: Series, metric: str, seeds: list[int]) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Days that all seeds have, and the mean over seeds of each; NaN where a seed has none."""
    days = series[seeds[0]][0]
    for seed in seeds[1:]:
        days = np.intersect1d(days, series[seed][0])
    values = [series[seed][1][metric][np.isin(series[seed][0], days)] for seed in seeds]
    return days, np.mean(values, axis=0)


def _mean_on(
    days: NDArray[np.datetime64], run: tuple[NDArray[np.datetime64], Mapping[str, NDArray[np.float64]]], metric: str
) -> float:
    return float(np.nanmean(run[1][metric][np.isin(run[0], days)]))


def partner(results: Results, shown: Shown, axis: str, level: str) -> Shown | None:
    """The cell that is alike but for the level of the axis, or has no level where this one has; none: there is none."""
    wanted = {**shown.levels, axis: level}
    return next(
        (
            other
            for other in results.shown
            if other.levels[axis] == level
            and all(found in (wanted[name], NO_LEVEL) for name, found in other.levels.items())
        ),
        None,
    )


def _p(p: float) -> str:
    if math.isnan(p):
        return "\N{EN DASH}"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
