"""What the figures of studies share: which cells they draw, how they look, and what they say of what is not there.

matplotlib is imported where something is drawn, and its settings hold inside `styled` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from mimstocr.components import near
from mimstocr.errors import ConfigError
from mimstocr.studies.exhibits.base import Drawing, Entry, Exhibit, Shows, Table
from mimstocr.studies.study import NO_LEVEL, cell_name, within

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimstocr.studies.results import Result, Results, Shown

# The colours of the run's report: those of Okabe and Ito, then of Paul Tol, made for colour-blind readers.
BLUE, VERMILION, GREEN, ORANGE, PINK, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PINK, SKY, "#332288", "#999933", "#882255", "#44aa99", "#aa4499", "#117733")
INK, GREY, AXIS, GRID, PALE = "#27364a", "#6b7888", "#b4bfcb", "#e8ecf1", "#f0f3f6"
FONT = 8.0
"""Points; a drawing is to be printed at its own size."""
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that a figure is the same on every machine
    "font.size": FONT,
    "text.color": INK,
    "text.parse_math": False,  # a level may be called $k$
    "axes.titlesize": FONT + 0.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": FONT,
    "axes.labelcolor": GREY,
    "axes.edgecolor": AXIS,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "butt",
    "legend.frameon": False,
    "legend.fontsize": FONT,
    "date.converter": "concise",
    "hatch.color": AXIS,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "path",  # letters are shapes: no font is needed to read it
    "svg.hashsalt": "mimstocr",
}
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.3
"""Inches; two panels side by side fill a printed page."""
WIDE = 4
"""Panels in a row at most."""


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib's own defaults and the style of the studies, whatever the user's settings, and only inside."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@dataclass(frozen=True)
class Group:
    """The cells of one drawing."""

    name: str
    """The levels that it has alone, of axes that the drawing itself does not show; empty where it is the only one."""
    cells: Sequence[Shown]

    def told(self, notes: Sequence[str]) -> list[str]:
        """Notes that say which drawing they are of."""
        return [f"{self.name}: {note}" if self.name else note for note in notes]


class Picture(Exhibit):
    """An exhibit that draws; axes of the study that it does not name make a drawing for each combination."""

    only: dict[str, tuple[str, ...]] = {}
    """Axis to the levels that are drawn; an axis that is not named has all of them drawn."""

    def named(self) -> list[str]:
        """The axes that a single drawing shows."""
        return []

    def axes(self) -> list[str]:
        """Of the drawing itself, and of the choice of levels."""
        return list(dict.fromkeys([*self.named(), *self.only]))

    def headline(self, results: Results) -> str:
        """Its title, or that of the study."""
        return self.title or results.grid.study.title

    def kept(self, results: Results) -> list[Shown]:
        """The cells to draw. Raises ConfigError on a level that the study does not have."""
        for axis, levels in self.only.items():
            known = results.grid.study.levels(axis)
            for level in levels:
                if level not in known:
                    raise ConfigError(f"show.{self.kind}.only: unknown level {level!r} of {axis}; {near(level, known)}")
        return [shown for shown in results.shown if within(shown.levels, self.only)]

    def groups(self, results: Results) -> list[Group]:
        """The cells of each drawing: those that differ in the named axes alone."""
        kept = self.kept(results)
        rest = [axis for axis in results.grid.study.shown_axes if axis not in self.named()]
        found: dict[tuple[str, ...], list[Shown]] = {}
        for shown in kept:
            found.setdefault(tuple(shown.levels[axis] for axis in rest), []).append(shown)
        varied = [i for i in range(len(rest)) if len({levels[i] for levels in found}) > 1]
        return [Group(cell_name({rest[i]: levels[i] for i in varied}), cells) for levels, cells in found.items()]

    def scope(self) -> list[str]:
        """What it was told to leave out, as a note."""
        if not self.only:
            return []
        told = "; ".join(f"{axis}: {', '.join(levels)}" for axis, levels in self.only.items())
        return [f"Shown by choice are only these levels. {told}."]

    def shows(
        self, results: Results, drawings: Sequence[Drawing], why: Sequence[str], tables: Sequence[Table] = ()
    ) -> Shows:
        """What was made, with a table of why the rest could not be drawn."""
        if not drawings and not why:
            why = ["No cell of the study is at these levels."]
        rows = [[Entry(reason)] for reason in why]
        name = self.file(results, "not-drawn")
        told = [Table(name, self.headline(results), ["Not drawn"], rows, 1, self.scope())] if why else []
        return Shows([*tables, *told], list(drawings))

    def file(self, results: Results, *parts: str) -> str:
        """A name for its files: the study, the kind of exhibit, and what tells its drawings apart."""
        return "-".join(slug(part) for part in (results.grid.name, self.kind, *parts) if slug(part))


class Lined(Picture):
    """A drawing of lines in panels, either of which may be the levels of an axis."""

    lines: str | None = None
    """The axis whose levels are lines, such as the balancer; none: every cell of a panel is a line, in one drawing."""
    panels: str | None = None
    """The axis whose levels are panels beside each other; none: as few panels as can be."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.lines is not None and self.lines == self.panels:
            raise ValueError(f"expected two axes, got {self.lines!r} for both lines and panels")
        return self

    def named(self) -> list[str]:
        """Lines and panels."""
        return [axis for axis in (self.lines, self.panels) if axis is not None]

    def groups(self, results: Results) -> list[Group]:
        """Without an axis of lines all cells are in one drawing."""
        if self.lines is not None:
            return super().groups(results)
        kept = self.kept(results)
        return [Group("", kept)] if kept else []

    def line(self, results: Results, shown: Shown) -> str:
        """What the line of a cell is called: its levels of the axes that tell lines apart."""
        if self.lines is not None:
            level = shown.levels[self.lines]
            return shown.name if level == NO_LEVEL else level
        kept = self.kept(results)
        apart = [
            level
            for axis, level in shown.levels.items()
            if axis != self.panels and level != NO_LEVEL and any(other.levels[axis] != level for other in kept)
        ]
        return " / ".join(apart) or shown.name

    def colour(self, results: Results, shown: Shown) -> str:
        """The colour of the line of a cell, the same in every panel and drawing."""
        if self.lines is not None:
            place = [*results.grid.study.levels(self.lines), NO_LEVEL].index(shown.levels[self.lines])
        else:
            names = list(dict.fromkeys(self.line(results, other) for other in self.kept(results)))
            place = names.index(self.line(results, shown))
        return COLOURS[place % len(COLOURS)]


def slug(text: str) -> str:
    """Text as a part of a file's name: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def levels_of(cells: Sequence[Shown], axis: str | None, results: Results) -> list[str]:
    """The levels of an axis among some cells, in the order of the file, and a dash last where one of them has none.

    One empty name without an axis.
    """
    if axis is None:
        return [""]
    here = {shown.levels[axis] for shown in cells}
    return [level for level in (*results.levels(axis), NO_LEVEL) if level in here]


def at_level(shown: Shown, axis: str | None) -> str:
    """Its level of an axis; empty without one."""
    return "" if axis is None else shown.levels[axis]


def with_folder(results: Results, shown: Shown) -> list[Result]:
    """The finished runs of a cell whose files are at hand."""
    return [run for run in results.of(shown.cell) if run.folder is not None]


def account(results: Results, cells: Sequence[Shown], *, folders: bool) -> list[str]:
    """Notes on the runs that are not in a drawing of these cells; folders: it needs the files of the runs."""
    seeds = len(results.grid.seeds)
    missing = [shown.name for shown in cells if not results.of(shown.cell)]
    partly = [f"{shown.name} ({n} of {seeds})" for shown in cells if 0 < (n := len(results.of(shown.cell))) < seeds]
    notes = []
    if missing:
        notes.append(f"No finished run: {', '.join(missing)}.")
    if partly:
        notes.append(f"Not all seeds have finished: {', '.join(partly)}.")
    away = {
        shown.name: [run.seed for run in results.of(shown.cell) if run.folder is None] for shown in cells if folders
    }
    if any(away.values()):
        told = ", ".join(f"{name} ({_seeds(found)})" for name, found in away.items() if found)
        notes.append(f"In the ledger alone, without the run folder that a drawing needs: {told}.")
    if chosen := [f"{shown.name}: {shown.chosen}" for shown in cells if shown.chosen is not None]:
        choose = results.grid.study.choose
        assert choose is not None
        notes.append(f"{choose.axis} chosen for each cell by the mean {choose.by} over its seeds. {'; '.join(chosen)}.")
    return notes


def named_runs(runs: Iterable[tuple[str, int]]) -> str:
    """Cells with their seeds, such as `LSTM / EW (seeds 0, 1)`."""
    found: dict[str, list[int]] = {}
    for name, seed in runs:
        found.setdefault(name, []).append(seed)
    return ", ".join(f"{name} ({_seeds(seeds)})" for name, seeds in found.items())


def grid_of_panels(
    n: int,
    columns: int | None = None,
    *,
    sharex: bool = False,
    sharey: Literal["row"] | bool = False,
    width: float = PANEL_WIDTH,
    height: float = PANEL_HEIGHT,
) -> tuple[Figure, list[Axes]]:
    """A figure with n panels, in rows of `columns` or of what fits."""
    from matplotlib.figure import Figure

    columns = min(n, WIDE) if columns is None else columns
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.45), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).flat)
    for axes in panels:
        axes.tick_params(labelbottom=True)
    for spare in panels[n:]:
        spare.remove()
    return figure, panels[:n]


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend over all panels, in as many columns as fit."""
    widest = max(len(label) for label in labels) * FONT * 0.62 / 72 + 0.5
    columns = max(1, min(len(labels), int(figure.get_figwidth() / widest)))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.6, handlelength=2.2)


def label_ends(axes: Axes, ends: Sequence[tuple[Any, float, str, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would cover each other.

    ends: x, y, text and colour of each. The limits of the axes must be final.
    """
    from matplotlib.figure import Figure

    low, high = axes.get_ylim()
    figure, place = axes.get_figure(), axes.get_subplotspec()
    assert isinstance(figure, Figure)
    assert place is not None
    points = figure.get_figheight() * 72 * place.get_position(figure).height
    gap = FONT * 1.3 / points
    heights = spread([(y - low) / (high - low) for _, y, _, _ in ends], gap)
    for (x, y, text, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xycoords="data",
            xytext=(1.035, height),
            textcoords="axes fraction",
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 2, "shrinkB": 1, "relpos": (0, 0.5)},
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The places nearest to the given ones (least squares), `gap` apart, in the same order, and within 0 .. 1.

    Where 0 .. 1 has no room for all of them, they start at 0 and go beyond 1.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    pools: list[tuple[float, int]] = []  # mean and size: without the gaps it is an isotonic regression
    for rank, i in enumerate(order):
        pools.append((places[i] - rank * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, n), (high, m) = pools[-2:]
            pools[-2:] = [((low * n + high * m) / (n + m), n + m)]
    last = max(1.0 - (len(places) - 1) * gap, 0.0)
    means = [min(max(mean, 0.0), last) for mean, size in pools for _ in range(size)]
    found = [0.0] * len(places)
    for rank, i in enumerate(order):
        found[i] = means[rank] + rank * gap
    return found


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(str(seed) for seed in seeds)}"
