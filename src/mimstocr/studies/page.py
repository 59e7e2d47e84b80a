"""The page of a study, and its figures as files."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from mimstocr.report.formats import NOTHING, count, counted, duration, number, title
from mimstocr.studies.exhibits._style import styled
from mimstocr.studies.exhibits.base import Drawing, Shows, Table
from mimstocr.studies.results import Result, Results
from mimstocr.studies.study import Cell, Study, config_hash

DPI = 200
"""Of a PNG: an inch of print at a screen's best."""
SCALE = 1.3
"""Of a figure in the page."""
UNDATED = {"Date": None, "Creator": None, "Format": None, "Type": None}
"""No metadata, so that the same figure is the same file."""


@dataclass(frozen=True)
class Picture:
    """A drawing in the page."""

    title: str
    svg: Markup
    notes: Sequence[str]


@dataclass(frozen=True)
class Section:
    """What an exhibit shows."""

    title: str
    pictures: Sequence[Picture]
    tables: Sequence[Table]


@dataclass(frozen=True)
class Line:
    """A run in the list of runs."""

    cell: str
    seed: int
    state: str
    figures: Sequence[str]
    report: str | None
    """Where its report lies, seen from the page."""


def study_page(results: Results, shows: Sequence[tuple[str, Shows]], comparisons: Sequence[Table]) -> str:
    """The whole page as one HTML text that loads nothing: a study's tables, figures, runs and settings.

    Links to the reports of runs are as seen from `out/studies/NAME`, where `write_showing` puts the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(  # the look is that of the run's report
            [jinja2.PackageLoader("mimstocr.studies", "."), jinja2.PackageLoader("mimstocr.report", ".")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("study.html").render(_context(results, shows, comparisons))


def save_drawing(drawing: Drawing, folder: Path) -> list[Path]:
    """Write NAME.svg and NAME.png, each at once; the same figure gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, content in (("svg", svg_bytes(drawing)), ("png", png_bytes(drawing))):
        path = folder / f"{drawing.name}.{suffix}"
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        partial.replace(path)
        paths.append(path)
    return paths


def svg_bytes(drawing: Drawing) -> bytes:
    """The figure as an SVG file, letters as shapes."""
    return _saved(drawing, format="svg", metadata=UNDATED)


def png_bytes(drawing: Drawing) -> bytes:
    """The figure as a PNG file."""
    return _saved(drawing, format="png", dpi=DPI, metadata={"Software": None})


def _saved(drawing: Drawing, **settings: Any) -> bytes:
    content = io.BytesIO()
    with styled():
        drawing.figure.savefig(content, **settings)
    return content.getvalue()


def inline_svg(drawing: Drawing, prefix: str) -> Markup:
    """The figure as an element of a page: its ids begin with `prefix`, and its style sheet stays its own."""
    text = svg_bytes(drawing).decode()
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)  # a name in a comment could end it as HTML reads it
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text).replace("url(#", f"url(#{prefix}")
    # a little larger than in print, so that its letters are those of the page
    width = drawing.figure.get_figwidth() * 96 * SCALE
    look = f"stroke-linejoin: round; stroke-linecap: butt; width: {width:.0f}px"
    opening = f'<svg role="img" aria-label="{escape(drawing.title)}" style="{look}" '
    return Markup(opening + text.removeprefix("<svg "))  # matplotlib escapes names, and what else it wrote is its own


def _context(results: Results, shows: Sequence[tuple[str, Shows]], comparisons: Sequence[Table]) -> dict[str, Any]:
    study = results.grid.study
    return {
        "title": study.title,
        "name": results.grid.name,
        "lead": _lead(results),
        "tiles": _tiles(results),
        "cautions": _cautions(results),
        "sections": _sections(shows),
        "comparisons": comparisons,
        "figures": list(RUN_FIGURES),
        "runs": [_line(run) for run in results.runs],
        "base": results.grid.base,
        "on_top": results.grid.on_top,
        "common": [_settings(study.set)] if study.set else [],
        "axes": {axis: _levels(study, axis) for axis in study.axes},
        "cells": [_cell(results, cell) for cell in results.grid.cells],
        "version": version("mimstocr"),
    }


def _lead(results: Results) -> str:
    grid = results.grid
    seeds = ", ".join(str(seed) for seed in grid.seeds)
    left = list(grid.cells)
    told = []
    for group in grid.study.beside:
        cells = [cell for cell in left if cell.levels[group.axis] in group.levels]
        left = [cell for cell in left if cell not in cells]
        if cells:
            told.append(f"{len(cells)} of {_extent(cells, [group.axis, *group.across])}")
    of = f" of {_extent(left, grid.study.axes)}" if left else ""
    beside = f", and beside them {', '.join(told)}" if told else ""
    return f"{counted(len(left), 'cell')}{of}{beside}, seed{'s' if len(grid.seeds) > 1 else ''} {seeds}."


def _extent(cells: Sequence[Cell], axes: Iterable[str]) -> str:
    """Axes and how many levels of each the cells have."""
    used = {axis: len({cell.levels[axis] for cell in cells}) for axis in axes}
    return " \N{MULTIPLICATION SIGN} ".join(f"{axis} ({n})" for axis, n in used.items())


def _levels(study: Study, axis: str) -> dict[str, str]:
    """The levels of an axis, and what they set."""
    beside = {level: group for group in study.beside if group.axis == axis for level in group.levels}
    names = {
        level: f"{level} (beside, across {', '.join(beside[level].across) or 'nothing'})" if level in beside else level
        for level in study.levels(axis)
    }
    return {names[level]: _settings(pairs) for level, pairs in study.levels(axis).items()}


def _tiles(results: Results) -> list[tuple[str, str, str]]:
    """Label, value and what is below it."""
    states = Counter(run.state for run in results.runs)
    finished = [run for run in results.runs if run.state == "finished"]
    whole = sum(len(results.of(cell)) == len(results.grid.seeds) for cell in results.grid.cells)
    known = sum(run.folder is None for run in finished)
    open_ = ", ".join(f"{states[state]} {state}" for state in ("unfinished", "failed", "missing") if states[state])
    seconds = [run.figures["seconds"] for run in finished if "seconds" in run.figures]
    return [
        ("Runs finished", f"{len(finished)} of {len(results.runs)}", open_ or "all of them"),
        ("Cells complete", f"{whole} of {len(results.grid.cells)}", "all seeds finished"),
        (
            "With their run folder",
            f"{len(finished) - known} of {len(finished)}",
            "the others are rows of the ledger" if known else "all of them",
        ),
        ("Training", duration(sum(seconds)) if seconds else NOTHING, "sum over the finished runs"),
    ]


def _cautions(results: Results) -> list[tuple[str, str]]:
    """Head and body of what a reader must know."""
    found = []
    for state, head in (("failed", "Failed."), ("unfinished", "Unfinished."), ("missing", "Missing.")):
        runs = [f"{run.cell.name} seed {run.seed}" for run in results.runs if run.state == state]
        if runs:
            more = f" and {len(runs) - 12} more" if len(runs) > 12 else ""
            found.append((head, f"{', '.join(runs[:12])}{more}."))
    if left_out := results.left_out():
        found.append(("Ledger.", f"{'; '.join(left_out)}."))
    choose = results.grid.study.choose
    if choose is not None:
        best = [f"{shown.name}: {shown.chosen}" for shown in results.shown if shown.chosen is not None]
        body = f"{choose.axis} by the mean {choose.by} over the seeds of a cell; test figures had no say in it."
        found.append(("Chosen.", f"{body} {'; '.join(best)}." if best else body))
    return found


def _sections(shows: Sequence[tuple[str, Shows]]) -> list[Section]:
    sections, number_ = [], 0
    for head, shown in shows:
        pictures = []
        for drawing in shown.drawings:
            number_ += 1
            name = "" if drawing.title == head else drawing.title
            pictures.append(Picture(name, inline_svg(drawing, f"f{number_}-"), drawing.notes))
        sections.append(Section(head, pictures, shown.tables))
    return sections


RUN_FIGURES = {
    "Best epoch": ("best_epoch", count),
    "Epochs": ("epochs", count),
    "RankIC, valid": ("valid.rank_ic", number),
    "RankIC, test": ("test.rank_ic", number),
    "Training": ("seconds", duration),
}
"""Head to the figure of a run, and how it is written."""


def _line(run: Result) -> Line:
    figures = [write(run.figures.get(name)) for name, write in RUN_FIGURES.values()]
    state = run.state
    report = None
    if state == "finished" and run.folder is not None:
        path = run.folder.path
        report = f"../../{path.parent.name}/{path.name}/report.html"
    told = f"{state}, known from the ledger alone" if state == "finished" and run.folder is None else state
    return Line(run.cell.name, run.seed, told, figures, report)


def _settings(pairs: Mapping[str, Any]) -> str:
    """Settings as in the study's file, one a line."""
    flow: Any = {"default_flow_style": True, "width": 10_000, "allow_unicode": True, "sort_keys": False}
    values = {key: yaml.safe_dump(value, **flow).strip().removesuffix("\n...") for key, value in pairs.items()}
    return "\n".join(f"{key}: {value}" for key, value in values.items())


def _cell(results: Results, cell: Cell) -> list[str]:
    """Name, what it is in short, finished seeds, and the hash of its settings."""
    config = cell.config
    network = f"{title(config.backbone.kind)}, {title(config.balancer.kind)}"
    learner = f"agent {title(config.agent.kind)}" if config.agent else network
    parts = f"{learner}; learns {', '.join(config.learned())}"
    return [cell.name, parts, f"{len(results.of(cell))} of {len(results.grid.seeds)}", config_hash(config)]
