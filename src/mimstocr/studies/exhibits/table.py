"""A table of figures: mean (standard deviation) over seeds, best bold, second underlined, as the papers print it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mimstocr.components import near
from mimstocr.studies.exhibits.base import EXHIBITS, Entry, Exhibit, Shows, Table

if TYPE_CHECKING:
    from mimstocr.studies.results import Results, Shown

Levels = Mapping[str, str]


@EXHIBITS.register("table")
class TableExhibit(Exhibit):
    """Mean (standard deviation) over seeds of figures, cell by cell, best and second marked."""

    complete = True

    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Axes whose levels name the rows, outer first."""
    columns: tuple[str, ...] = ()
    """Axes whose levels name groups of columns."""
    metrics: Annotated[dict[str, str], Field(min_length=1)] = {"IC": "test.ic", "RankIC": "test.rank_ic"}
    """Label to figure, higher is better; a figure such as test.rank_ic, valid.ic or backtest.net.sharpe."""
    compete: str | None = None
    """The axis along which the best is sought, all others alike; none: the last of the rows."""
    percent: bool = False
    """Print means as percentages."""
    digits: Annotated[int, Field(ge=0, le=8)] | None = None
    """Digits of a mean; none: 4, or 2 of a percentage."""

    def axes(self) -> list[str]:
        """Of rows, columns and competition."""
        return [*self.rows, *self.columns, *([self.compete] if self.compete else [])]

    @property
    def contest(self) -> str:
        """The axis along which the best is sought."""
        return self.compete or self.rows[-1]

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
        header = [
            *self.rows,
            *(
                " ".join([*column.values(), f"{label} \N{UPWARDS ARROW}"])
                for column in columns
                for label in self.metrics
            ),
        ]
        title = self.title or results.grid.study.title
        number = [show for show in results.grid.study.show if isinstance(show, TableExhibit)].index(self)
        name = results.grid.name + (f"-{number + 1}" if number else "")
        table = Table(name, title, header, body, len(self.rows), notes=self._notes(results))
        return Shows(tables=[table])

    def _combinations(self, results: Results, axes: tuple[str, ...]) -> list[dict[str, str]]:
        levels = [results.levels(axis) for axis in axes]
        return [dict(zip(axes, some, strict=True)) for some in itertools.product(*levels)]

    def _marks(self, results: Results) -> dict[tuple[str, str], str]:
        """(cell, figure) to best or second among the cells that differ in the contested axis alone."""
        marks = {}
        for name in self.metrics.values():
            groups: dict[tuple[str, ...], list[tuple[float, str]]] = {}
            for shown in results.shown:
                found = results.figure(shown.cell, name)
                others = tuple(level for axis, level in shown.levels.items() if axis != self.contest)
                if found is not None and not math.isnan(found.mean):
                    groups.setdefault(others, []).append((found.mean, shown.name))
            for group in groups.values():
                if len(group) > 1:
                    values = sorted({mean for mean, _ in group}, reverse=True)
                    for mean, cell in group:
                        if mean in values[:2]:
                            marks[cell, name] = "best" if mean == values[0] else "second"
        return marks

    def _entries(self, results: Results, shown: Shown | None, marks: Mapping[tuple[str, str], str]) -> list[Entry]:
        """The places of one cell, the chosen level at the first."""
        entries = []
        scale, digits = (100, 2) if self.percent else (1, 4)
        digits = digits if self.digits is None else self.digits
        for number, name in enumerate(self.metrics.values()):
            found = None if shown is None else results.figure(shown.cell, name)
            if shown is None or found is None:
                entries.append(Entry("\N{EN DASH}"))
                continue
            spread = "\N{EN DASH}" if math.isnan(found.std) else f"{found.std * 1000:.1f}"
            text = f"{found.mean * scale:.{digits}f} ({spread}) \N{MULTIPLICATION SIGN}{found.seeds}"
            if number == 0 and shown.chosen is not None:
                text += f" at {shown.chosen}"
            mark = marks.get((shown.name, name), "")
            entries.append(
                Entry(
                    text,
                    "best" if mark == "best" else "second" if mark else "",
                    value=found.mean,
                    std=found.std,
                    seeds=found.seeds,
                    chosen=shown.chosen if number == 0 else None,
                )
            )
        return entries

    def _notes(self, results: Results) -> list[str]:
        notes = [
            f"mean{' in percent' if self.percent else ''} (standard deviation \N{MULTIPLICATION SIGN}10\u207b\u00b3"
            f"{', of the fraction' if self.percent else ''}) \N{MULTIPLICATION SIGN}seeds; "
            f"best and second over {self.contest}"
        ]
        delays = sorted({shown.cell.config.priced()[1].delay for shown in results.shown})
        notes.append(f"label delay {', '.join(map(str, delays))}")
        finished = [run for run in results.runs if run.state == "finished"]
        notes += [
            f"no finished run has a figure {name}; {near(name, finished[0].figures)}"
            for name in self.metrics.values()
            if finished and not any(name in run.figures for run in finished)
        ]
        choose = results.grid.study.choose
        for name in self.metrics.values():
            if choose is None or name != choose.by:  # of which the doubts tell
                notes += results.lacking(name, [shown.cell for shown in results.shown])
        notes += results.doubts()
        if choose is not None:
            notes.append(
                f"{choose.axis} chosen for each cell by the mean {choose.by} over its seeds; "
                "test figures had no say in it"
            )
        return notes


def _find(results: Results, levels: Levels) -> Shown | None:
    """The first shown cell with these levels."""
    return next(
        (shown for shown in results.shown if all(shown.levels[axis] == level for axis, level in levels.items())), None
    )
