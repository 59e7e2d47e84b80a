"""Losses by epoch, as in figures 3 and 5 of MiM-StocR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimstocr.studies.exhibits import _style as style
from mimstocr.studies.exhibits.base import EXHIBITS, Drawing, Shows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimstocr.studies.results import Result, Results, Shown

Values = NDArray[np.float64]
NAMES = {"train": "Train", "valid": "Validation", "test": "Test"}
ALONE = {"train": style.ORANGE, "valid": style.BLUE, "test": style.BLUE}
"""Colours where no axis has any."""
DASHES = {"train": "-", "valid": (0, (4, 1.6)), "test": (0, (4, 1.6))}


@dataclass(frozen=True)
class Curve:
    """The history of one run."""

    seed: int
    epochs: NDArray[np.int64]
    best: int
    """The epoch whose weights were kept."""
    losses: Mapping[tuple[str, str], Values]
    """(train, valid or test; task) to the loss of each epoch, NaN where it is not known."""
    every: int
    """Every n-th test day is in its test losses; 0: it has none."""
    lost: int = 0
    """Losses that were not finite; a task that a curriculum has not let in yet has no training loss to lose."""


@dataclass(frozen=True)
class Line:
    """A cell in one panel."""

    name: str
    shown: Shown
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Panel:
    """A task, at a level of the panels."""

    task: str
    level: str
    lines: Sequence[Line]
    unit: str
    """Which loss it is; empty where the lines differ in it."""

    @property
    def name(self) -> str:
        """Task and level."""
        return " \N{MIDDLE DOT} ".join(name for name in (self.task, self.level) if name)


@EXHIBITS.register("loss_curves")
class LossCurves(style.Lined):
    """Losses of each learned task by epoch: training solid, held out dashed, seeds thin behind their mean.

    Every task that a cell of the drawing learns has panels of its own; single-task runs stand in that of theirs.
    """

    held_out: Literal["valid", "test"] = "valid"
    """The split beside training: valid, or test (of runs made with training.test_curve above 0)."""

    def make(self, results: Results) -> Shows:
        """A drawing for each combination of the other axes."""
        drawings, why = [], []
        for group in self.groups(results):
            notes = [*style.account(results, group.cells, folders=True), *self.scope()]
            panels = self._panels(results, group.cells)
            if not panels:
                why += group.told(notes)
                continue
            with style.styled():
                figure, clipped = self._draw(results, panels)
            notes = [*self._legend_notes(panels), *clipped, *notes]
            name = self.file(results, self.held_out if self.held_out == "test" else "", group.name)
            drawings.append(Drawing(name, group.name or self.headline(results), figure, notes))
        return self.shows(results, drawings, why)

    def _panels(self, results: Results, cells: Sequence[Shown]) -> list[Panel]:
        tasks = dict.fromkeys(task for shown in cells for task in shown.cell.config.learned())
        curves = {shown.name: [_curve(run) for run in style.with_folder(results, shown)] for shown in cells}
        panels = []
        for task in tasks:
            for level in style.levels_of(cells, self.panels, results):
                here = [
                    shown
                    for shown in cells
                    if style.at_level(shown, self.panels) == level
                    and task in shown.cell.config.learned()
                    and curves[shown.name]
                ]
                lines = [Line(self.line(results, shown), shown, curves[shown.name]) for shown in here]
                if lines:
                    panels.append(Panel(task, level, lines, _unit(here, task)))
        return panels

    def _draw(self, results: Results, panels: Sequence[Panel]) -> tuple[Figure, list[str]]:
        from matplotlib.ticker import MaxNLocator

        tasks, levels = {panel.task for panel in panels}, {panel.level for panel in panels}
        whole = len(panels) == len(tasks) * len(levels) and len(levels) > 1
        columns = len(levels) if whole else None
        figure, places = style.grid_of_panels(len(panels), columns, sharex=True, sharey="row" if whole else False)
        clipped = []
        alone = all(len(panel.lines) == 1 for panel in panels) and self.lines is None
        for number, (axes, panel) in enumerate(zip(places, panels, strict=True)):
            for line in panel.lines:
                for part in ("train", self.held_out):
                    colour = ALONE[part] if alone else self.colour(results, line.shown)
                    _plot(axes, line, (part, panel.task), colour, marked=part == self.held_out)
            axes.set_title(panel.name)
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            if not whole or number % len(levels) == 0:
                axes.set_ylabel(f"Loss ({panel.unit})" if panel.unit else "Loss")
        for axes, panel in zip(places, panels, strict=True):  # after all lines: panels of a row share their limits
            clipped += self._keep_in_sight(axes, panel)
        self._legend(figure, results, panels, alone)
        return figure, clipped

    def _keep_in_sight(self, axes: Axes, panel: Panel) -> list[str]:
        """Leave the first losses, which may be huge, out of the range that is drawn; say so in a note."""
        sharing = axes.get_shared_y_axes().get_siblings(axes)
        drawn = np.concatenate(
            [np.asarray(line.get_ydata(), dtype=np.float64) for one in sharing for line in one.lines]
        )
        top = upper_limit(drawn)
        if top is None:
            return []
        low = float(np.nanmin(drawn))
        axes.set_ylim(low - 0.06 * (top - low), top)
        shown = [
            curve.losses[part, panel.task]
            for line in panel.lines
            for curve in line.curves
            for part in ("train", self.held_out)
            if (part, panel.task) in curve.losses
        ]
        beyond = sum(int((values > top).sum()) for values in shown)
        return [f"{panel.name}: not shown are {beyond} of the losses, above the axis."] if beyond else []

    def _legend(self, figure: Figure, results: Results, panels: Sequence[Panel], alone: bool) -> None:
        from matplotlib.lines import Line2D

        cells = {} if alone else {line.name: line.shown for panel in panels for line in panel.lines}
        handles = [Line2D([], [], color=self.colour(results, shown), lw=2.4) for shown in cells.values()]
        for part in ("train", self.held_out):
            colour = ALONE[part] if alone else style.GREY
            handles.append(Line2D([], [], color=colour, ls=DASHES[part], lw=1.5))
        handles.append(Line2D([], [], color=ALONE[self.held_out] if alone else style.GREY, ls="none", **diamond(4)))
        style.legend_above(figure, handles, [*cells, "Train", self._held_out_name(panels), "Epoch kept"])

    def _held_out_name(self, panels: Sequence[Panel]) -> str:
        """Its name, with the share of the test days where that is not all of them."""
        name = NAMES[self.held_out]
        curves = [curve for panel in panels for line in panel.lines for curve in line.curves]
        steps = {curve.every for curve in curves if curve.every} if self.held_out == "test" else set()
        if steps <= {1}:
            return name
        return f"{name} (1 day in {min(steps)})" if len(steps) == 1 else f"{name} (some of the days)"

    def _legend_notes(self, panels: Sequence[Panel]) -> list[str]:
        curves = [(line.shown.name, curve) for panel in panels for line in panel.lines for curve in line.curves]
        several = any(len(line.curves) > 1 for panel in panels for line in panel.lines)
        mean = "Bold: the mean over the epochs that all seeds reached; thin: each seed. " if several else ""
        notes = [f"{mean}Diamond: the epoch whose weights were kept, chosen on validation days."]
        if self.held_out == "test":
            for step in sorted({curve.every for _, curve in curves} - {0, 1}):
                runs = dict.fromkeys((cell, curve.seed) for cell, curve in curves if curve.every == step)
                told = f"Test losses are of 1 test day in {step} (training.test_curve): {style.named_runs(runs)}."
                notes.append(told)
        lacking = dict.fromkeys(
            (cell, curve.seed) for cell, curve in curves if not any(part == self.held_out for part, _ in curve.losses)
        )
        if lacking:
            notes.append(
                f"Without {NAMES[self.held_out].lower()} losses, so their training loss is drawn alone: "
                f"{style.named_runs(lacking)}."
            )
        if lacking and self.held_out == "test":
            notes.append(
                "To have test losses set training.test_curve, such as 4, and move those run folders away first: a "
                "finished run is not made anew, and the setting does not change which run it is."
            )
        if unknown := sum(curve.lost for _, curve in _once(curves)):
            notes.append(f"Losses that were not finite and leave gaps: {unknown}.")
        return notes


def _once(curves: Sequence[tuple[str, Curve]]) -> list[tuple[str, Curve]]:
    """Each run once, though a panel of every task has it."""
    return list({(cell, curve.seed): (cell, curve) for cell, curve in curves}.values())


def _curve(run: Result) -> Curve:
    assert run.folder is not None
    rows = [row for row in run.folder.read_history() if row["seed"] == run.seed]
    pairs = dict.fromkeys((part, task) for row in rows for part in NAMES for task in row.get(part, {}))
    losses = {(part, task): _column([row.get(part, {}).get(task) for row in rows]) for part, task in pairs}
    best = max(row["epoch"] for row in rows if row["best"])
    every = run.folder.config().training.test_curve if any(part == "test" for part, _ in losses) else 0
    lost = sum(
        row.get(part, {}).get(task) is None
        for row in rows
        for part, task in pairs
        if part != "train" or task in row.get("active", [task])
    )
    return Curve(run.seed, np.array([row["epoch"] for row in rows]), best, losses, every, lost)


def _column(values: Sequence[float | None]) -> Values:
    return np.array([np.nan if value is None else value for value in values])


def _unit(cells: Sequence[Shown], task: str) -> str:
    from mimstocr.report.formats import title

    kinds = {shown.cell.config.settled_tasks()[task].loss.kind for shown in cells}
    return title(kinds.pop()) if len(kinds) == 1 else ""


def mean_curve(curves: Sequence[tuple[NDArray[np.int64], Values]]) -> tuple[NDArray[np.int64], Values]:
    """Epochs that all have, and the mean of their values there."""
    epochs = curves[0][0]
    for other, _ in curves[1:]:
        epochs = np.intersect1d(epochs, other)
    return epochs, np.mean([values[np.isin(own, epochs)] for own, values in curves], axis=0)


def _plot(axes: Axes, line: Line, path: tuple[str, str], colour: str, *, marked: bool) -> None:
    known = [curve for curve in line.curves if path in curve.losses]
    if not known:
        return
    dash = DASHES[path[0]]
    if len(known) > 1:
        for curve in known:
            axes.plot(curve.epochs, curve.losses[path], color=colour, lw=0.6, alpha=0.4, ls=dash, gid="seed")
    epochs, mean = mean_curve([(curve.epochs, curve.losses[path]) for curve in known])
    axes.plot(epochs, mean, color=colour, lw=1.5, ls=dash, label=f"{line.name} {path[0]}", gid="mean")
    if marked:
        at = [curve.losses[path][curve.epochs == curve.best][0] for curve in known]
        best = [curve.best for curve in known]
        axes.plot(best, at, color=colour, ls="none", zorder=4, gid="best", **diamond(4 if len(known) == 1 else 3))


def diamond(size: float) -> dict[str, Any]:
    """The look of the mark of a best epoch."""
    return {"marker": "D", "ms": size, "mec": "white", "mew": 0.6}


def _row(axes: Axes) -> list[Any]:
    """The panels that share its vertical axis."""
    return list(axes.get_shared_y_axes().get_siblings(axes))


def upper_limit(values: Values) -> float | None:
    """Where to end an axis so that a few huge values do not flatten the rest; none: nothing is that far out.

    Huge is more than half as far above the 95th percentile as that is above the least value.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = float(known.min()), float(np.percentile(known, 95))
    limit = high + 0.5 * (high - low)
    return limit if high > low and known.max() > limit else None
