"""What the runs of a study came to, cell by cell and seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.components import near
from mimstocr.config import Config
from mimstocr.data.panel import resolved
from mimstocr.errors import ConfigError, RunError
from mimstocr.evaluation import daily_metrics
from mimstocr.evidence import split_of
from mimstocr.predictions import matrix_of
from mimstocr.report.formats import counted
from mimstocr.runs import RunFolder
from mimstocr.studies.exhibits.base import is_of_validation
from mimstocr.studies.ledger import Ledger
from mimstocr.studies.study import NO_LEVEL, Cell, Grid, cell_name, config_hash, otherwise

State = Literal["finished", "unfinished", "failed", "missing"]


@dataclass(frozen=True)
class Result:
    """One run of a cell."""

    cell: Cell
    seed: int
    state: State
    figures: Mapping[str, float]
    """Flat, such as test.rank_ic, valid.ic, tasks.momentum.test.accuracy, backtest.net.sharpe; empty unless
    finished."""
    folder: RunFolder | None
    """None when there is no run folder: nothing was run, or the ledger alone knows of it."""
    data: str = ""
    """Fingerprint of its data; empty unless finished."""


@dataclass(frozen=True)
class Figure:
    """One figure of a cell over its seeds."""

    mean: float
    std: float
    """Sample standard deviation (n - 1); NaN for one seed."""
    seeds: int


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown: without the axis that validation chose, if one did."""

    levels: Mapping[str, str]
    cell: Cell
    chosen: str | None
    """The chosen level."""

    @property
    def name(self) -> str:
        """Its levels."""
        return cell_name(self.levels)


@dataclass(frozen=True)
class Results:
    """All runs of a grid."""

    grid: Grid
    runs: Sequence[Result]
    stale: int = 0
    """Rows of the ledger of the same study, cell and seed that were made with other settings, and left out."""
    gone: int = 0
    """Rows of the ledger of the same study, but of cells that it no longer has, and left out."""

    def of(self, cell: Cell) -> list[Result]:
        """The finished runs of a cell."""
        return [run for run in self.runs if run.cell is cell and run.state == "finished"]

    def figure(self, cell: Cell, name: str) -> Figure | None:
        """Mean and spread over the seeds that have the figure; none: no seed has it."""
        values = [run.figures[name] for run in self.of(cell) if name in run.figures]
        if not values:
            return None
        std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return Figure(float(np.mean(values)), std, len(values))

    def best(self, cell: Cell, by: str) -> Result | None:
        """The finished run with the highest figure `by`, which is one of validation; the first of equal ones.

        None: no run has the figure. Raises ConfigError when there are finished runs and none of any cell has it.
        """
        self._check_known(by, "by")
        runs = [run for run in self.of(cell) if by in run.figures]
        return max(runs, key=lambda run: run.figures[by], default=None)

    def _check_known(self, by: str, setting: str) -> None:
        """Raise ConfigError when there are finished runs and none has a figure of validation."""
        finished = [run for run in self.runs if run.state == "finished"]
        if finished and not any(by in run.figures for run in finished):
            known = sorted(name for name in finished[0].figures if is_of_validation(name))
            raise ConfigError(f"{setting}: no finished run has the figure {by!r}; {near(by, known)}")

    @cached_property
    def shown(self) -> list[Shown]:
        """The cells to show; where an axis is chosen, the level with the best mean on the validation split.

        A combination without any finished run is shown at the first of its levels, as missing. Raises ConfigError
        when there are finished runs and none has the figure that chooses.
        """
        choose = self.grid.study.choose
        if choose is None:
            return [Shown(cell.levels, cell, None) for cell in self.grid.cells]
        groups: dict[tuple[str, ...], list[Cell]] = {}
        axes = self.grid.study.shown_axes
        for cell in self.grid.cells:
            groups.setdefault(tuple(cell.levels[axis] for axis in axes), []).append(cell)
        shown = []
        self._check_known(choose.by, "choose.by")
        for levels, cells in groups.items():
            best = max(cells, key=lambda cell: self._merit(cell, choose.by))
            some = best.levels[choose.axis] != NO_LEVEL and self.figure(best, choose.by) is not None
            shown.append(Shown(dict(zip(axes, levels, strict=True)), best, best.levels[choose.axis] if some else None))
        return shown

    def doubts(self) -> list[str]:
        """What a reader must know: choices among too few levels or unequal seeds, and runs on different data."""
        notes = []
        choose = self.grid.study.choose
        for shown in self.shown:
            if choose is None:
                break
            rivals = [cell for cell in self.grid.cells if shown.levels.items() <= cell.levels.items()]
            means = [self.figure(cell, choose.by) for cell in rivals]
            seeds = [0 if mean is None else mean.seeds for mean in means]
            if len(set(seeds)) > 1:
                told = ", ".join(f"{cell.levels[choose.axis]}: {n}" for cell, n in zip(rivals, seeds, strict=True))
                notes.append(f"{shown.name}: chosen among levels with unequal numbers of seeds ({told})")
        if choose is not None:
            notes += self.lacking(choose.by, [cell for cell in self.grid.cells if cell.levels[choose.axis] != NO_LEVEL])
        for cell in self.grid.cells:
            data = {run.data for run in self.of(cell)}
            if len(data) > 1:
                notes.append(f"{cell.name}: its seeds ran on different data ({', '.join(sorted(data))})")
        return notes + self.left_out()

    def left_out(self) -> list[str]:
        """What of the ledger is left out, and why."""
        told = ((self.stale, "made with other settings"), (self.gone, "of cells that the study no longer has"))
        return [f"{counted(n, 'row')} of the ledger left out, {why}" for n, why in told if n]

    def lacking(self, name: str, cells: Iterable[Cell], where: str = "in its mean") -> list[str]:
        """A note on the finished seeds whose figure is not a number, and so not where it says; none: all or nobody has
        it."""
        runs = [(cell.name, [name in run.figures for run in self.of(cell)]) for cell in cells]
        short = [f"{cell} ({have.count(False)} of {len(have)} seeds)" for cell, have in runs if not all(have)]
        if not short or not any(any(have) for _, have in runs):
            return []
        return [f"without {name}, and so not {where}: {', '.join(short)}"]

    def levels(self, axis: str) -> list[str]:
        """The levels of an axis that are shown, in the order of the file, those of cells beside last."""
        here = {shown.levels[axis] for shown in self.shown}
        return [level for level in self.grid.study.levels(axis) if level in here]

    def _merit(self, cell: Cell, name: str) -> float:
        found = self.figure(cell, name)
        return -np.inf if found is None or np.isnan(found.mean) else found.mean


def collect(grid: Grid, out: Path, ledger: Ledger | None = None) -> Results:
    """What is known of every run of a grid: from its folder under `out`, else from the ledger.

    A row of the ledger counts for every cell of its settings and seed, whatever study it was made for. Where rows
    of several data are at hand, those of the data of the run folders, else of the last row, are taken.
    """
    rows = ledger.rows() if ledger else []
    runs = [look(cell, seed, out) for cell in grid.cells for seed in grid.seeds]
    data = {run.data for run in runs if run.data} or {row.data for row in rows[-1:]}
    by_settings = {(row.config, row.seed): row for row in rows if row.data not in data}
    by_settings |= {(row.config, row.seed): row for row in rows if row.data in data}
    found = []
    for run in runs:
        row = by_settings.get((config_hash(run.cell.config), run.seed))
        if run.state != "finished" and row is not None:
            run = Result(run.cell, run.seed, "finished", row.figures, None, row.data)
        found.append(run)
    hashes = {config_hash(cell.config) for cell in grid.cells}
    unused = [row for row in rows if row.study == grid.name and row.config not in hashes]
    lacking = {(run.cell.name, run.seed) for run in found if run.state != "finished"}
    stale = sum((row.cell, row.seed) in lacking for row in unused)
    gone = sum(row.cell not in grid.names for row in unused)
    return Results(grid, found, stale, gone)


def look(cell: Cell, seed: int, out: Path) -> Result:
    """The state of one run by its folder. Raises RunError when it finished with other settings than the cell's."""
    config = cell.run(seed, out)
    path = config.folder
    failed = failure_file(config).is_file()
    if not (path / "config.yaml").is_file():
        return Result(cell, seed, "failed" if failed else "missing", {}, None)
    folder = RunFolder(path)
    if (path / "report.html").is_file():  # what a run writes last
        if account := otherwise(folder.config(), config):
            raise RunError(
                f"{path} has the name of cell {cell.name}, seed {seed}, but was made with other settings ({account}); "
                "move it away, so that the study makes its own"
            )
        data = folder.read_json("environment.json")["data_fingerprint"]
        return Result(cell, seed, "finished", flat(folder.read_json("metrics.json"), seed), folder, data)
    return Result(cell, seed, "failed" if failed else "unfinished", {}, folder)


def failure_file(config: Config) -> Path:
    """Where it is written why a run failed; beside its folder, which a run that could not start does not have."""
    return config.folder.with_name(f"{config.folder.name}.failed.txt")


def flat(metrics: Mapping[str, Any], seed: int) -> dict[str, float]:
    """All numbers of one seed's metrics and of the run's backtest by dotted name; what is not known is left out."""
    tree = {**metrics["seeds"][str(seed)], "backtest": metrics["backtest"]}
    found: dict[str, float] = {}

    def walk(prefix: str, inner: Any) -> None:
        if isinstance(inner, Mapping):
            for key, value in inner.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            found[prefix] = inner

    walk("", tree)
    return found


def daily_series(result: Result, split: str = "test") -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]]]:
    """Days and the daily metrics (ic, rank_ic, precision@N, ...) of a finished run that has its folder."""
    assert result.folder is not None
    config: Config = result.folder.config()
    table = split_of(result.folder.read_frame("predictions.parquet"), split).filter(pl.col("seed") == result.seed)
    dates, _, scores = matrix_of(table, "score")
    _, _, returns = matrix_of(table, f"label.{config.priced()[0]}")
    settings = config.evaluation
    return dates, daily_metrics(scores, returns, precision_at=settings.precision_at, ndcg_at=settings.ndcg_at)


class Money(NamedTuple):
    """What the backtest of a run earned, day by day."""

    days: NDArray[np.datetime64]
    returns: dict[str, NDArray[np.float64]]
    """Net and gross, (days,)."""
    days_per_year: int


def daily_returns(result: Result) -> Money | None:
    """The daily returns of a finished run that has its folder; none where it has no backtest.parquet, as those that
    earlier versions made."""
    assert result.folder is not None
    if not (result.folder.path / "backtest.parquet").is_file():
        return None
    table = result.folder.read_frame("backtest.parquet")
    returns = {name: table[name].to_numpy().astype(np.float64) for name in ("net", "gross")}
    return Money(resolved(table["date"].to_numpy()), returns, result.folder.read_json("data.json")["days_per_year"])
