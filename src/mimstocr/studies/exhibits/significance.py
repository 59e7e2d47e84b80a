"""Whether repeated runs differ between the levels of an axis, as in tables 2 and 13 of the profit-guided paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mimstocr.components import near
from mimstocr.errors import ConfigError
from mimstocr.evaluation import MannWhitney, benjamini_hochberg, mann_whitney
from mimstocr.studies.exhibits._style import levels_of
from mimstocr.studies.exhibits.base import EXHIBITS, Entry, Exhibit, Shows, Table
from mimstocr.studies.exhibits.heatmap import figure_label
from mimstocr.studies.study import NO_LEVEL

if TYPE_CHECKING:
    from mimstocr.studies.results import Results, Shown

Values = NDArray[np.float64]
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Side:
    """The runs of one side of a comparison."""

    level: str
    """Its level of the axis that is compared along."""
    cells: Sequence[Shown]
    values: Values
    """(runs,) the figure of each finished run that has it."""


@dataclass(frozen=True)
class Pair:
    """A line of the table."""

    labels: Sequence[str]
    ours: Side
    theirs: Side


@EXHIBITS.register("significance")
class Significance(Exhibit):
    """Mann and Whitney's U test of a figure over repeated runs, adjusted over the table (Benjamini and Hochberg).

    Every cell stands against those that are alike but for their level of the axis, or that have no level where it has
    one, as baselines beside a grid.
    """

    complete = "neither rows, axis nor pool"

    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Axes whose levels name the rows, outer first; that of the comparison is added where it is not among them."""
    axis: str
    """The axis whose levels are compared."""
    against: Annotated[tuple[str, ...], Field(min_length=1)]
    """The levels of it that all others are held against, one test each."""
    figure: str = "backtest.net.cumulative_return"
    """The figure, such as backtest.net.cumulative_return or test.rank_ic; higher is better."""
    pool: tuple[str, ...] = ()
    """Axes whose levels' runs count as repeats of one another on both sides. They are not, so name them knowingly."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := next((axis for axis in self.pool if axis in self.labels), None):
            raise ValueError(f"pool: {both!r} tells the rows or sides apart; name it in one place")
        return self

    @property
    def labels(self) -> list[str]:
        """The axes that name a row."""
        return list(dict.fromkeys([*self.rows, self.axis]))

    def axes(self) -> list[str]:
        """Of rows, comparison and pool."""
        return [*self.labels, *self.pool]

    def make(self, results: Results) -> Shows:
        """The one table. Raises ConfigError on a level that the study does not have."""
        known = results.grid.study.levels(self.axis)
        for level in self.against:
            if level not in known:
                raise ConfigError(f"show.significance.against: unknown level {level!r}; {near(level, known)}")
        pairs, alone = self._pairs(results)
        tests = [
            mann_whitney(pair.ours.values, pair.theirs.values)
            if len(pair.ours.values) and len(pair.theirs.values)
            else None
            for pair in pairs
        ]
        plain = np.array([math.nan if test is None else test.p for test in tests], dtype=np.float64)
        adjusted = [float(p) for p in benjamini_hochberg(plain)]
        _, write = figure_label(self.figure)
        body = [_line(*parts, write) for parts in zip(pairs, tests, adjusted, strict=True)]
        header = [*self.labels, "against", "median", "median of the other", "runs", "runs of the other"]
        header += ["p", "least p", "p adj.", "better"]
        number = [show for show in results.grid.study.show if isinstance(show, Significance)].index(self)
        name = f"{results.grid.name}-significance" + (f"-{number + 1}" if number else "")
        title = self.title or results.grid.study.title
        notes = self._notes(results, pairs, alone, int((~np.isnan(plain)).sum()))
        return Shows([Table(name, title, header, body, len(self.labels) + 1, notes)])

    def _pairs(self, results: Results) -> tuple[list[Pair], list[str]]:
        """Every row against every level, and the names of those for which no cell is there."""
        levels = [levels_of(results.shown, axis, results) for axis in self.labels]
        here: dict[tuple[str, ...], list[Shown]] = {}
        for shown in results.shown:
            here.setdefault(tuple(shown.levels[axis] for axis in self.labels), []).append(shown)
        pairs, alone = [], []
        for combination in itertools.product(*levels):
            own = dict(zip(self.labels, combination, strict=True))
            if combination not in here or own[self.axis] in (*self.against, NO_LEVEL):
                continue
            ours = self._side(results, own[self.axis], here[combination])
            for level in self.against:
                cells = [shown for shown in results.shown if self._stands_for(shown.levels, {**own, self.axis: level})]
                if cells:
                    pairs.append(Pair(combination, ours, self._side(results, level, cells)))
                else:
                    alone.append(f"{' / '.join(combination)} against {level}")
        return pairs, alone

    def _stands_for(self, levels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
        """Whether a cell has the level of the axis, and the others or none in their place."""
        return levels[self.axis] == wanted[self.axis] and all(
            levels[axis] in (level, NO_LEVEL) for axis, level in wanted.items()
        )

    def _side(self, results: Results, level: str, cells: Sequence[Shown]) -> Side:
        runs = [run for shown in cells for run in results.of(shown.cell)]
        values = np.array([run.figures[self.figure] for run in runs if self.figure in run.figures], dtype=np.float64)
        return Side(level, cells, values)

    def _notes(self, results: Results, pairs: Sequence[Pair], alone: Sequence[str], n_tests: int) -> list[str]:
        label, _ = figure_label(self.figure)
        notes = [
            f"{label}: medians over runs, one a seed; p: Mann and Whitney, two-sided; least p: what so few runs can "
            f"give at best; p adj.: by Benjamini and Hochberg over the {n_tests} tests of this table; better: whose "
            "runs rank higher, whatever p says"
        ]
        if self.pool:
            notes.append(
                f"pooled over {', '.join(self.pool)}: runs of different cells are not repeats of one another, so p is "
                "about these cells taken together, and small p may come of more runs, not of a clearer difference"
            )
        cells = {shown.name: shown.cell for pair in pairs for side in (pair.ours, pair.theirs) for shown in side.cells}
        equal = [
            shown.name
            for shown in results.shown
            if shown.name in cells and len(found := self._side(results, "", [shown]).values) > 1 and np.ptp(found) == 0
        ]
        if equal:
            notes.append(
                f"all runs come to the same figure, so they are one run said several times: {', '.join(equal)}"
            )
        notes += results.lacking(self.figure, cells.values(), "compared")
        finished = [run for run in results.runs if run.state == "finished"]
        if finished and not any(self.figure in run.figures for run in finished):
            notes.append(f"no finished run has a figure {self.figure}; {near(self.figure, finished[0].figures)}")
        if alone:
            notes.append(f"not compared, as there is no such cell: {', '.join(alone)}")
        return notes + results.doubts()


def _line(pair: Pair, test: MannWhitney | None, adjusted: float, write: Callable[[Any], str]) -> list[Entry]:
    """A line of the table; dashes where a side has no runs."""
    sides = (pair.ours, pair.theirs)
    runs = [Entry(str(len(side.values)), value=len(side.values)) for side in sides]
    told = [Entry(NOTHING)] * 4
    if test is not None:
        told = [Entry(f"{p:.3g}", value=p) for p in (test.p, test.smallest_p, adjusted)]
        told.append(Entry(_better(test, sides)))
    medians = [_median(side.values, write) for side in sides]
    return [*map(Entry, pair.labels), Entry(pair.theirs.level), *medians, *runs, *told]


def _median(values: Values, write: Callable[[Any], str]) -> Entry:
    if not len(values):
        return Entry(NOTHING)
    median = float(np.median(values))
    return Entry(write(median), value=median)


def _better(test: MannWhitney, sides: tuple[Side, Side]) -> str:
    """The level whose runs win more of the pairs."""
    even = test.n_a * test.n_b / 2
    return "neither" if test.u == even else sides[0 if test.u > even else 1].level
