"""A figure over two axes, as in figure 6 of MiM-StocR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import model_validator

from mimstocr.studies.exhibits import _style as style
from mimstocr.studies.exhibits.base import EXHIBITS, Drawing, Entry, Shows, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mimstocr.studies.results import Figure, Results, Shown

SHADES = ("#f2f7fb", "#a6cde4", "#4f9bcb", "#0b5fa5", "#08306b")
"""Light is low, dark is high; also in grey print."""
HATCH = "////"
Places = set[tuple[int, int]]
"""Row and column of squares."""
IN_A_SQUARE = "In a square: the mean over seeds, their standard deviation, and how many seeds n."
IN_A_PLACE = "Mean (standard deviation) \N{MULTIPLICATION SIGN}seeds."


@EXHIBITS.register("heatmap")
class Heatmap(style.Picture):
    """A figure over the levels of two axes: mean and standard deviation over seeds in every square."""

    rows: str
    """The axis from top to bottom."""
    columns: str
    """The axis from left to right."""
    figure: str = "test.rank_ic"
    """Which figure, such as test.rank_ic, valid.ic or backtest.net.sharpe."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.rows == self.columns:
            raise ValueError(f"expected two axes, got {self.rows!r} for both rows and columns")
        return self

    def named(self) -> list[str]:
        """Both axes."""
        return [self.rows, self.columns]

    def make(self, results: Results) -> Shows:
        """A drawing and a table for each combination of the other axes."""
        drawings, tables, why = [], [], []
        label, write = figure_label(self.figure)
        for group in self.groups(results):
            squares, absent = self._squares(results, group.cells)
            lacking = results.lacking(self.figure, [shown.cell for shown in group.cells])
            notes = [
                *_gaps(squares, absent),
                *(f"{note[0].upper()}{note[1:]}." for note in lacking),
                *style.account(results, group.cells, folders=False),
                *self.scope(),
            ]
            if all(square is None for row in squares for square in row):
                why += group.told([*notes, f"No finished run has the figure {self.figure}."])
                continue
            x, y = self._levels(results, group.cells)
            with style.styled():
                figure = _draw(squares, absent, (self.columns, x), (self.rows, y), label, write)
            name = self.file(results, self.figure, group.name)
            title = group.name or self.headline(results)
            drawings.append(Drawing(name, title, figure, [IN_A_SQUARE, *notes]))
            rows = [
                [Entry(level), *(Entry("") if (i, j) in absent else _entry(row[j], write) for j in range(len(x)))]
                for i, (level, row) in enumerate(zip(y, squares, strict=True))
            ]
            header = [f"{self.rows} \\ {self.columns}", *x]
            tables.append(Table(name, f"{title}: {label}", header, rows, 1, [IN_A_PLACE, *notes]))
        return self.shows(results, drawings, why, tables)

    def _levels(self, results: Results, cells: Sequence[Shown]) -> tuple[list[str], list[str]]:
        return style.levels_of(cells, self.columns, results), style.levels_of(cells, self.rows, results)

    def _squares(self, results: Results, cells: Sequence[Shown]) -> tuple[list[list[Figure | None]], Places]:
        """Rows of what each pair of levels came to, none: no run, or not a number; and the pairs that no cell has."""
        x, y = self._levels(results, cells)
        at = {(shown.levels[self.columns], shown.levels[self.rows]): shown for shown in cells}
        squares = [[self._known(results, at.get((right, down))) for right in x] for down in y]
        absent = {(i, j) for i, down in enumerate(y) for j, right in enumerate(x) if (right, down) not in at}
        return squares, absent

    def _known(self, results: Results, shown: Shown | None) -> Figure | None:
        found = None if shown is None else results.figure(shown.cell, self.figure)
        return found if found is not None and math.isfinite(found.mean) else None


def _gaps(squares: Sequence[Sequence[Figure | None]], absent: Places) -> list[str]:
    missing = sum(square is None for row in squares for square in row) - len(absent)
    n = sum(len(row) for row in squares) - len(absent)
    return [f"{missing} of {n} squares have no value (hatched)."] if missing else []


def _draw(
    squares: Sequence[Sequence[Figure | None]],
    absent: Places,
    x: tuple[str, Sequence[str]],
    y: tuple[str, Sequence[str]],
    label: str,
    write: Callable[[Any], str],
) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    values = np.array([[np.nan if square is None else square.mean for square in row] for row in squares])
    width, height = 1.15 + 1.05 * len(x[1]) + 0.85, 0.75 + 0.72 * len(y[1])
    figure = Figure(figsize=(max(width, 3.3), max(height, 2.0)), layout="constrained")
    axes = figure.subplots()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.0 if high > low else max(abs(high) * 0.01, 1e-6)
    norm = Normalize(low - margin, high + margin)
    shades = LinearSegmentedColormap.from_list("studies", SHADES)
    image = axes.pcolormesh(np.ma.masked_invalid(values), cmap=shades, norm=norm, edgecolors="white", lw=2)
    for row, line in enumerate(squares):
        for column, square in enumerate(line):
            if (row, column) in absent:
                continue
            _square(axes, column, row, square, write, "" if square is None else shades(norm(square.mean)))
    axes.set_xticks(np.arange(len(x[1])) + 0.5, x[1])
    axes.set_yticks(np.arange(len(y[1])) + 0.5, y[1])
    axes.set(xlabel=x[0], ylabel=y[0], xlim=(0, len(x[1])), ylim=(len(y[1]), 0))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, aspect=18, pad=0.03)
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.locator_params(nbins=5)
    if write(0.5).endswith("%"):
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def _square(axes: Axes, column: int, row: int, square: Figure | None, write: Callable[[Any], str], fill: Any) -> None:
    from matplotlib.patches import Rectangle

    if square is None:
        inner = (column + 0.02, row + 0.02)
        axes.add_patch(Rectangle(inner, 0.96, 0.96, facecolor=style.PALE, edgecolor=style.AXIS, hatch=HATCH, lw=0))
        box = {"facecolor": style.PALE, "edgecolor": "none", "pad": 1.5}
        axes.text(column + 0.5, row + 0.5, "missing", color=style.GREY, bbox=box, ha="center", va="center")
        return
    colour = letters_on(fill)
    axes.text(
        column + 0.5, row + 0.40, write(square.mean), color=colour, fontsize=style.FONT + 1, ha="center", va="center"
    )
    axes.text(
        column + 0.5, row + 0.70, _below(square, write), color=colour, fontsize=style.FONT - 2, ha="center", va="center"
    )


def letters_on(fill: Sequence[float]) -> str:
    """White or black, whichever is easier to read: at least 4.5 to 1 by WCAG 2."""
    return "white" if luminance(fill) < 0.179 else "black"


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of red, green and blue in 0 .. 1, as in the contrast rule of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _below(square: Figure, write: Callable[[Any], str]) -> str:
    spread = "" if math.isnan(square.std) else f"\N{PLUS-MINUS SIGN}{write(square.std)}, "
    return f"{spread}n = {square.seeds}"


def _entry(square: Figure | None, write: Callable[[Any], str]) -> Entry:
    if square is None:
        return Entry("\N{EN DASH}")
    spread = "\N{EN DASH}" if math.isnan(square.std) else write(square.std)
    return Entry(f"{write(square.mean)} ({spread}) \N{MULTIPLICATION SIGN}{square.seeds}", value=square.mean)


def figure_label(name: str) -> tuple[str, Callable[[Any], str]]:
    """What a figure is called on an axis, and how it is written."""
    from mimstocr.report.formats import EVIDENCE, MONEY, metric

    parts = name.split(".")
    known = metric(MONEY if parts[0] == "backtest" else EVIDENCE, parts[-1])
    return ", ".join([known.label, *(part for part in parts[:-1] if part not in ("tasks", "backtest"))]), known.write
