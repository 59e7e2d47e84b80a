"""How a value of each training day is distributed, as the adaptive k in figure 7 of MiM-StocR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mimstocr.losses.approx_ndcg import ApproxNdcg
from mimstocr.studies.exhibits import _style as style
from mimstocr.studies.exhibits.base import EXHIBITS, Drawing, Shows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimstocr.studies.results import Result, Results, Shown

Values = NDArray[np.float64]
BINS = 40
FILL = "#882255"
"""Of a single histogram, as in the run's report."""


@dataclass(frozen=True)
class Sample:
    """A value of each training day of a cell."""

    shown: Shown
    values: Values
    """(days,), those that are known."""
    unknown: int
    """Days without a value."""
    tau: int | None
    """The least k of a day of mean size; none where the loss has none or the data do not tell."""
    stocks: float
    """Labelled stocks of a mean day; NaN where the data do not tell."""


@EXHIBITS.register("histogram")
class Histogram(style.Lined):
    """Distribution over the training days of what a loss tells of a day, such as the adaptive k.

    Cells of a panel that agree on every day, as those on the same data and labels do, are drawn as one.
    """

    task: str = "momentum"
    """The task whose loss tells it."""
    key: str = "k"
    """What it tells."""

    def make(self, results: Results) -> Shows:
        """A drawing for each combination of the other axes."""
        drawings, why = [], []
        for group in self.groups(results):
            notes: list[str] = []
            samples = [sample for shown in group.cells if (sample := self._sample(results, shown, notes))]
            notes += [*style.account(results, group.cells, folders=True), *self.scope()]
            if not samples:
                why += group.told(notes)
                continue
            with style.styled():
                figure = self._draw(results, samples)
            told = [_tell(self.key, same) for same in alike(samples)]
            name = self.file(results, self.task, self.key, group.name)
            drawings.append(Drawing(name, group.name or self.headline(results), figure, [*told, *notes]))
        return self.shows(results, drawings, why)

    def _sample(self, results: Results, shown: Shown, notes: list[str]) -> Sample | None:
        """The days of a cell, which its seeds share: of its first run at hand."""
        runs = style.with_folder(results, shown)
        told = [(run, found) for run in runs if (found := _diagnostic(run, self.task, self.key)) is not None]
        if len(told) < len(runs):
            silent = [(shown.name, run.seed) for run in runs if run not in [one for one, _ in told]]
            notes.append(
                f"Without {self.key} of task {self.task} in data.json (its loss does not tell it): "
                f"{style.named_runs(silent)}."
            )
        if not told:
            return None
        first, values = told[0]
        if any(not np.array_equal(values, other, equal_nan=True) for _, other in told[1:]):
            notes.append(f"{shown.name}: its seeds differ in {self.key}; shown is seed {first.seed}.")
        known = np.isfinite(values)
        if not known.any():
            notes.append(f"{shown.name}: {self.key} is not known on any day.")
            return None
        stocks = _stocks(first, self.task, len(values))
        tau = _tau(shown, self.task, stocks) if self.key == "k" else None
        return Sample(shown, values[known], int((~known).sum()), tau, stocks)

    def _draw(self, results: Results, samples: Sequence[Sample]) -> Figure:
        levels = style.levels_of([sample.shown for sample in samples], self.panels, results)
        columns = min(len(levels), style.WIDE)
        width = 4.6 if columns == 1 else style.PANEL_WIDTH
        figure, places = style.grid_of_panels(len(levels), columns, sharex=True, sharey=True, width=width)
        edges = _edges(np.concatenate([sample.values for sample in samples]))
        named: dict[str, str] = {}
        for number, (axes, level) in enumerate(zip(places, levels, strict=True)):
            here = [sample for sample in samples if style.at_level(sample.shown, self.panels) == level]
            named |= self._panel(results, axes, alike(here), edges)
            axes.set_title(level)
            axes.set_xlabel("Adaptive k of a day, stocks" if self.key == "k" else f"{self.key} of a day")
            if number % columns == 0:
                axes.set_ylabel("Training days")
        places[0].set_ylim(0, places[0].get_ylim()[1] * 1.12)  # room for the names of the marks
        if named:
            from matplotlib.lines import Line2D

            style.legend_above(figure, [Line2D([], [], color=colour, lw=2) for colour in named.values()], list(named))
        return figure

    def _panel(
        self, results: Results, axes: Axes, samples: Sequence[Sequence[Sample]], edges: Values
    ) -> dict[str, str]:
        """Draw samples, those that agree as one; gives name to colour where there are several."""
        bins = list(edges)
        if len(samples) == 1:
            axes.hist(samples[0][0].values, bins=bins, color=FILL, rwidth=0.9)
            _marks(axes, samples[0][0])
            return {}
        named = {}
        for same in samples:
            name = ", ".join(self.line(results, sample.shown) for sample in same)
            named[name] = self.colour(results, same[0].shown)
            axes.hist(same[0].values, bins=bins, color=named[name], histtype="step", lw=1.4, label=name)
        return named


def _tell(key: str, same: Sequence[Sample]) -> str:
    """What a distribution is, in numbers."""
    from mimstocr.report.formats import compact, counted, percent

    sample, values = same[0], same[0].values
    low, first, median, third, high = (compact(v) for v in np.percentile(values, [0, 25, 50, 75, 100]))
    told = (
        f"{', '.join(sample.shown.name for sample in same)}: {key} of {counted(len(values), 'training day')}: least "
        f"{low}, quartiles {first}, {median} and {third}, most {high}; {percent((values == values.min()).mean(), 1)} "
        "of the days at the least"
    )
    if sample.tau is not None:
        told += (
            f"; \N{GREEK SMALL LETTER TAU} = {sample.tau} is the least that a day of mean size allows, with "
            f"{sample.stocks:.1f} labelled stocks; smaller days allow less"
        )
    return told + (f"; {counted(sample.unknown, 'day')} without a value." if sample.unknown else ".")


def alike(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples in groups that agree on every day."""
    found: list[list[Sample]] = []
    for sample in samples:
        for group in found:
            if np.array_equal(group[0].values, sample.values) and group[0].tau == sample.tau:
                group.append(sample)
                break
        else:
            found.append([sample])
    return found


def _diagnostic(run: Result, task: str, key: str) -> Values | None:
    assert run.folder is not None
    told = run.folder.read_json("data.json").get("diagnostics", {}).get(task, {}).get(key)
    return None if told is None else np.array([np.nan if value is None else value for value in told])


def _stocks(run: Result, task: str, days: int) -> float:
    """Labelled stocks of a mean training day."""
    assert run.folder is not None
    labels = run.folder.read_json("data.json").get("tasks", {}).get(task, {}).get("train_labels")
    return math.nan if labels is None else labels / days


def _tau(shown: Shown, task: str, stocks: float) -> int | None:
    """ceil(share x stocks) of a day of mean size, where the loss has an adaptive k."""
    loss = shown.cell.config.settled_tasks()[task].loss
    if not isinstance(loss, ApproxNdcg) or loss.k != "adaptive" or math.isnan(stocks):
        return None
    return math.ceil(Fraction(loss.share).limit_denominator(10**6) * Fraction(stocks))


def _edges(values: Values) -> Values:
    """Edges of at most BINS bins; whole numbers fall in the middle of equal bins."""
    low, high = float(values.min()), float(values.max())
    if (values == np.round(values)).all():
        step = max(1, math.ceil((high - low + 1) / BINS))
        return np.arange(low - 0.5, high + step, step)
    return np.linspace(low, high, BINS + 1)


def _marks(axes: Axes, sample: Sample) -> None:
    """The median, and the least k that is allowed."""
    median = float(np.median(sample.values))
    marks = [(median, f"median {median:.4g}", style.INK, "--")]
    if sample.tau is not None:
        marks.append((float(sample.tau), f"\N{GREEK SMALL LETTER TAU} = {sample.tau}", style.BLUE, "-"))
    for x, text, colour, dash in marks:
        axes.axvline(x, color=colour, ls=dash, lw=1.1)
        axes.annotate(
            text,
            xy=(x, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            ha="left",
            va="top",
            color=colour,
        )
