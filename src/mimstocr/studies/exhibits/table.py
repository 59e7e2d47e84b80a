"""A table of figures of the cells, best bold, second underlined, as the papers print it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mimstocr.components import near
from mimstocr.report.formats import counted
from mimstocr.studies.exhibits._style import levels_of
from mimstocr.studies.exhibits.base import EXHIBITS, Entry, Exhibit, Shows, Table, of_validation
from mimstocr.studies.results import Figure
from mimstocr.studies.study import NO_LEVEL

if TYPE_CHECKING:
    from mimstocr.studies.results import Results, Shown
    from mimstocr.studies.study import Cell

Levels = Mapping[str, str]


@EXHIBITS.register("table")
class TableExhibit(Exhibit):
    """Figures, cell by cell, best and second marked: the mean over seeds, or those of one run that validation chose."""

    complete = "neither rows nor columns"

    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Axes whose levels name the rows, outer first."""
    columns: tuple[str, ...] = ()
    """Axes whose levels name groups of columns."""
    metrics: Annotated[dict[str, str], Field(min_length=1)] = {"IC": "test.ic", "RankIC": "test.rank_ic"}
    """Label to figure, higher is better; a figure such as test.rank_ic, valid.ic or backtest.net.sharpe."""
    unmarked: tuple[str, ...] = ()
    """Labels of figures of which no best is marked, as more is not better, such as turnover."""
    compete: str | tuple[str, ...] | None = None
    """The axis, or axes, along which the best is sought, all others alike; none: the last of the rows."""
    runs: Literal["mean", "best"] = "mean"
    """The mean over the runs of a cell, one a seed; or the figures of the run that is best in `by`, the rule of the
    profit-guided paper."""
    by: str | None = None
    """The figure on the validation split, highest is best, that chooses a run, such as tasks.position.valid.total."""
    percent: bool | tuple[str, ...] = False
    """Print figures as percentages: all of them, or those of these labels, with a sign."""
    digits: Annotated[int, Field(ge=0, le=8)] | None = None
    """Digits of a figure; none: 4, or 2 of a percentage."""
    spread: Literal["thousandths", "unit"] = "thousandths"
    """Standard deviations in thousandths, as MiM-StocR prints them; or in the unit and digits of the mean."""

    @field_validator("by")
    @classmethod
    def _on_validation(cls, by: str | None) -> str | None:
        return None if by is None else of_validation(by)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.runs == "best") != (self.by is not None):
            raise ValueError(
                "runs: best and by, the figure of the validation split that chooses the run, such as "
                "tasks.position.valid.total, belong together; give both or neither"
            )
        for setting, labels in (("unmarked", self.unmarked), ("percent", self.percent)):
            for label in labels if isinstance(labels, tuple) else ():
                if label not in self.metrics:
                    raise ValueError(f"{setting}: unknown label {label!r} of metrics; {near(label, self.metrics)}")
        return self

    def axes(self) -> list[str]:
        """Of rows, columns and competition."""
        return list(dict.fromkeys([*self.rows, *self.columns, *self.contest]))

    @property
    def contest(self) -> tuple[str, ...]:
        """The axes along which the best is sought."""
        compete = self.compete or self.rows[-1]
        return (compete,) if isinstance(compete, str) else compete

    def make(self, results: Results) -> Shows:
        """The one table."""
        rows = self._combinations(results, self.rows)
        columns = self._combinations(results, self.columns)
        marks = self._marks(results)
        body = []
        for row in rows:
            line = [Entry(level) for level in row.values()]
            for column in columns:
                shown = _find(results, {**row, **column})
                line += self._entries(results, shown, marks)
            body.append(line)
        header = [*self.rows, *(self._head(column, label) for column in columns for label in self.metrics)]
        title = self.title or results.grid.study.title
        number = [show for show in results.grid.study.show if isinstance(show, TableExhibit)].index(self)
        name = results.grid.name + (f"-{number + 1}" if number else "")
        table = Table(name, title, header, body, len(self.rows), notes=self._notes(results))
        return Shows(tables=[table])

    def _combinations(self, results: Results, axes: tuple[str, ...]) -> list[dict[str, str]]:
        """The levels that some cell has together."""
        levels = [levels_of(results.shown, axis, results) for axis in axes]
        here = {tuple(shown.levels[axis] for axis in axes) for shown in results.shown}
        return [dict(zip(axes, some, strict=True)) for some in itertools.product(*levels) if some in here]

    def _head(self, column: Levels, label: str) -> str:
        levels = [level for level in column.values() if level != NO_LEVEL]
        return " ".join([*levels, label if label in self.unmarked else f"{label} \N{UPWARDS ARROW}"])

    def _figure(self, results: Results, cell: Cell, name: str) -> Figure | None:
        """The mean over seeds, or the figure of the run that validation chose."""
        if self.by is None:
            return results.figure(cell, name)
        best = results.best(cell, self.by)
        return None if best is None or name not in best.figures else Figure(best.figures[name], math.nan, 1)

    def _marks(self, results: Results) -> dict[tuple[str, str], Literal["best", "second"]]:
        """(cell, figure) to best or second among the cells that differ in the contested axes alone."""
        marks: dict[tuple[str, str], Literal["best", "second"]] = {}
        for label, name in self.metrics.items():
            if label in self.unmarked:
                continue
            groups: dict[tuple[str, ...], list[tuple[float, str]]] = {}
            for shown in results.shown:
                found = self._figure(results, shown.cell, name)
                others = tuple(level for axis, level in shown.levels.items() if axis not in self.contest)
                if found is not None and not math.isnan(found.mean):
                    groups.setdefault(others, []).append((found.mean, shown.name))
            for group in groups.values():
                if len(group) > 1:
                    values = sorted({mean for mean, _ in group}, reverse=True)
                    for mean, cell in group:
                        if mean in values[:2]:
                            marks[cell, label] = "best" if mean == values[0] else "second"
        return marks

    def _entries(
        self, results: Results, shown: Shown | None, marks: Mapping[tuple[str, str], Literal["best", "second"]]
    ) -> list[Entry]:
        """The places of one cell, what was chosen at the first."""
        entries = []
        for number, (label, name) in enumerate(self.metrics.items()):
            found = None if shown is None else self._figure(results, shown.cell, name)
            if shown is None or found is None:
                entries.append(Entry("\N{EN DASH}"))
                continue
            text = self._number(label, found.mean)
            if self.by is None:
                text += f" ({self._deviation(label, found.std)}) \N{MULTIPLICATION SIGN}{found.seeds}"
            chosen = self._chosen(results, shown) if number == 0 else None
            entries.append(
                Entry(
                    text if chosen is None else f"{text} at {chosen}",
                    marks.get((shown.name, label), ""),
                    value=found.mean,
                    std=found.std if self.by is None else None,
                    seeds=found.seeds if self.by is None else None,
                    chosen=chosen,
                )
            )
        return entries

    def _number(self, label: str, value: float) -> str:
        """A figure in the unit of its label."""
        listed = isinstance(self.percent, tuple) and label in self.percent
        scale, digits = (100, 2) if listed or self.percent is True else (1, 4)
        return f"{value * scale:.{digits if self.digits is None else self.digits}f}" + (" %" if listed else "")

    def _deviation(self, label: str, std: float) -> str:
        if math.isnan(std):
            return "\N{EN DASH}"
        return self._number(label, std).removesuffix(" %") if self.spread == "unit" else f"{std * 1000:.1f}"

    def _chosen(self, results: Results, shown: Shown) -> str | None:
        """The level and the seed that validation chose; none: it chose nothing."""
        parts = [] if shown.chosen is None else [shown.chosen]
        if self.by is not None and (best := results.best(shown.cell, self.by)) is not None:
            parts.append(f"seed {best.seed} ({counted(len(results.of(shown.cell)), 'run')})")
        return ", ".join(parts) or None

    def _notes(self, results: Results) -> list[str]:
        notes = [f"{self._meaning()}; best and second over {', '.join(self.contest)}"]
        delays = sorted({shown.cell.config.priced()[1].delay for shown in results.shown})
        notes.append(f"label delay {', '.join(map(str, delays))}")
        finished = [run for run in results.runs if run.state == "finished"]
        notes += [
            f"no finished run has a figure {name}; {near(name, finished[0].figures)}"
            for name in self.metrics.values()
            if finished and not any(name in run.figures for run in finished)
        ]
        cells = [shown.cell for shown in results.shown]
        choose = results.grid.study.choose
        for name in self.metrics.values() if self.by is None else ():
            if choose is None or name != choose.by:  # of which the doubts tell
                notes += results.lacking(name, cells)
        if self.by is not None:
            notes += results.lacking(self.by, cells, "to be chosen")
        notes += results.doubts()
        if choose is not None:
            notes.append(
                f"{choose.axis} chosen for each cell by the mean {choose.by} over its seeds; "
                "test figures had no say in it"
            )
        return notes

    def _meaning(self) -> str:
        """What a place shows."""
        if self.by is not None:
            return (
                f"the figures of one run a cell, the one with the highest {self.by} (how many had finished); test "
                "figures had no say in it, and how far runs of a cell lie apart is not seen"
            )
        whole = self.percent is True
        spread = "" if self.spread == "unit" else " \N{MULTIPLICATION SIGN}10\u207b\u00b3"
        of = ", of the fraction" if spread and self.percent else ""
        return f"mean{' in percent' if whole else ''} (standard deviation{spread}{of}) \N{MULTIPLICATION SIGN}seeds"


def _find(results: Results, levels: Levels) -> Shown | None:
    """The first shown cell with these levels."""
    return next(
        (shown for shown in results.shown if all(shown.levels[axis] == level for axis, level in levels.items())), None
    )
