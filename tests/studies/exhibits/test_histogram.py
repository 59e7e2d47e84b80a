"""Distributions over training days, of runs whose diagnostics are made up."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes

from mimstocr.config import write_yaml
from mimstocr.studies.exhibits.base import Drawing
from mimstocr.studies.exhibits.histogram import FILL, Histogram
from mimstocr.studies.results import Results, collect
from mimstocr.studies.study import Cell, Grid, load_study

LOSS = "tasks.momentum.loss"
LEVELS = {
    "fifth": {LOSS: {"kind": "approx_ndcg", "share": 0.2}},
    "third": {LOSS: {"kind": "approx_ndcg", "share": 0.3}},
    "fixed": {LOSS: {"kind": "approx_ndcg", "k": 50}},
    "plain": {LOSS: "cross_entropy"},
}
K = [20.0, 22.0, 22.0, 30.0, 50.0]


def grid_of(folder: Path, axes: Mapping[str, Any], seeds: Sequence[int] = (0,)) -> Grid:
    raw = {"title": "made", "base": "demo", "axes": axes, "seeds": list(seeds), "show": [{"kind": "histogram"}]}
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_study(path)


def finish(cell: Cell, seed: int, out: Path, k: Sequence[float | None] | None, labels: int = 500) -> None:
    """A finished run with the k of each training day, of `labels` labelled stocks in all."""
    config = cell.run(seed, out)
    config.folder.mkdir(parents=True)
    write_yaml(config.folder / "config.yaml", config)
    told = {} if k is None else {"momentum": {"days": [f"2020-01-{i + 1:02d}" for i in range(len(k))], "k": list(k)}}
    data = {"diagnostics": told, "tasks": {"momentum": {"train_labels": labels}}}
    (config.folder / "data.json").write_text(json.dumps(data))
    (config.folder / "metrics.json").write_text(json.dumps({"seeds": {str(seed): {"best_epoch": 1}}, "backtest": {}}))
    (config.folder / "report.html").write_text("")
    (config.folder / "environment.json").write_text('{"data_fingerprint": "made"}')


def made_up(folder: Path, days: Mapping[str, Sequence[float | None] | None]) -> Results:
    """One run of each level of `loss`."""
    grid = grid_of(folder, {"loss": {level: LEVELS[level] for level in days}})
    for cell, k in zip(grid.cells, days.values(), strict=True):
        finish(cell, 0, folder, k)
    return collect(grid, folder)


def bars(axes: Axes) -> dict[float, float]:
    """Middle of a bar to its height."""
    return {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axes.patches if bar.get_height()}


def marks(axes: Axes) -> dict[str, float]:
    """Text of a mark to where its line stands."""
    places = [float(np.asarray(line.get_xdata())[0]) for line in axes.lines]
    return dict(zip([text.get_text() for text in axes.texts], places, strict=True))


def only(results: Results, **settings: Any) -> Drawing:
    (drawing,) = Histogram(**settings).make(results).drawings
    return drawing


def test_bars_count_days(tmp_path: Path) -> None:
    (axes,) = only(made_up(tmp_path, {"fifth": K})).figure.axes
    assert bars(axes) == {20: 1, 22: 2, 30: 1, 50: 1}
    assert axes.get_xlabel() == "Adaptive k of a day, stocks"
    assert axes.get_ylabel() == "Training days"


def test_wide_ranges_are_binned_and_every_day_is_in(tmp_path: Path) -> None:
    k = np.random.default_rng(0).integers(40, 300, 500).astype(float)
    (axes,) = only(made_up(tmp_path, {"fifth": k.tolist()})).figure.axes
    assert sum(bars(axes).values()) == 500
    assert len(axes.patches) <= 40
    assert len({round(bar.get_width(), 9) for bar in axes.patches}) == 1


def test_median_and_tau_are_marked(tmp_path: Path) -> None:
    drawing = only(made_up(tmp_path, {"third": K}))
    tau = math.ceil(0.3 * 500 / 5)  # 5 days with 500 labels in all: 100 stocks on a mean day
    assert marks(drawing.figure.axes[0]) == {"median 22": 22.0, f"\N{GREEK SMALL LETTER TAU} = {tau}": 30.0}


def test_tau_is_worked_out_in_whole_numbers(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"loss": {"seven": {LOSS: {"kind": "approx_ndcg", "share": 0.07}}}})
    finish(grid.cells[0], 0, tmp_path, K)
    drawing = only(collect(grid, tmp_path))
    assert marks(drawing.figure.axes[0])["\N{GREEK SMALL LETTER TAU} = 7"] == 7  # 0.07 of 100; floats make it 8


def test_there_is_no_tau_without_an_adaptive_k(tmp_path: Path) -> None:
    drawing = only(made_up(tmp_path, {"fixed": K}))
    assert marks(drawing.figure.axes[0]) == {"median 22": 22.0}
    assert "\N{GREEK SMALL LETTER TAU}" not in "".join(drawing.notes)


def test_notes_tell_the_distribution(tmp_path: Path) -> None:
    (note, *_) = only(made_up(tmp_path, {"fifth": K})).notes
    assert "5 training days: least 20, quartiles 22, 22 and 30, most 50; 20.0% of the days at the least" in note
    assert "\N{GREEK SMALL LETTER TAU} = 20 is the least that a day of mean size allows, with 100.0" in note


def test_cells_that_agree_are_drawn_once(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"method": {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}}})
    for cell in grid.cells:
        finish(cell, 0, tmp_path, K)
    drawing = only(collect(grid, tmp_path))
    assert sum(bars(drawing.figure.axes[0]).values()) == 5
    assert not drawing.figure.legends
    assert drawing.notes[0].startswith("EW, CQB: k of 5 training days")


def test_cells_that_differ_are_outlines_with_names(tmp_path: Path) -> None:
    results = made_up(tmp_path, {"fifth": K, "third": [30.0, 31.0, 40.0, 50.0, 60.0]})
    drawing = only(results, lines="loss")
    (axes,) = drawing.figure.axes
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == ["fifth", "third"]
    outlines = [patch for patch in axes.patches if not patch.get_fill()]
    assert [patch.get_label() for patch in outlines] == ["fifth", "third"]
    assert len({patch.get_edgecolor() for patch in outlines}) == 2
    assert sum(note.endswith("allow less.") for note in drawing.notes) == 2


def test_panels_share_bins(tmp_path: Path) -> None:
    results = made_up(tmp_path, {"fifth": K, "third": [30.0, 31.0, 40.0, 50.0, 60.0]})
    drawing = only(results, panels="loss")
    first, second = drawing.figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["fifth", "third"]
    assert [bar.get_x() for bar in first.patches] == [bar.get_x() for bar in second.patches]
    assert first.get_ylim() == second.get_ylim()
    assert sum(bars(second).values()) == 5
    assert {bar.get_facecolor()[:3] for bar in first.patches} == {
        tuple(int(FILL[i : i + 2], 16) / 255 for i in (1, 3, 5))
    }


def test_runs_without_it_and_missing_cells_are_named(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"loss": {level: LEVELS[level] for level in ("fifth", "third", "plain")}})
    finish(grid.cells[0], 0, tmp_path, K)
    finish(grid.cells[2], 0, tmp_path, None)
    notes = only(collect(grid, tmp_path)).notes
    assert "Without k of task momentum in data.json (its loss does not tell it): plain (seed 0)." in notes
    assert "No finished run: third." in notes


def test_days_without_a_value_are_counted(tmp_path: Path) -> None:
    drawing = only(made_up(tmp_path, {"fifth": [*K, None]}))
    assert sum(bars(drawing.figure.axes[0]).values()) == 5
    assert drawing.notes[0].endswith("; 1 day without a value.")


def test_seeds_that_differ_are_said(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"loss": {"fifth": LEVELS["fifth"]}}, seeds=[3, 4])
    finish(grid.cells[0], 3, tmp_path, K)
    finish(grid.cells[0], 4, tmp_path, [value + 1 for value in K])
    drawing = only(collect(grid, tmp_path))
    assert "fifth: its seeds differ in k; shown is seed 3." in drawing.notes
    assert min(bars(drawing.figure.axes[0])) == 20


def test_nothing_to_draw_is_a_table_that_says_why(tmp_path: Path) -> None:
    shows = Histogram(key="temperature").make(made_up(tmp_path, {"fifth": K}))
    assert not shows.drawings
    (table,) = shows.tables
    assert table.name == "made-histogram-not-drawn"
    assert [row[0].text for row in table.rows] == [
        "Without temperature of task momentum in data.json (its loss does not tell it): fifth (seed 0)."
    ]


def test_values_that_are_not_whole_are_binned_over_their_range(tmp_path: Path) -> None:
    values = np.random.default_rng(1).uniform(0.25, 0.75, 80)
    (axes,) = only(made_up(tmp_path, {"fifth": values.tolist()})).figure.axes
    assert sum(bars(axes).values()) == 80
    assert axes.patches[0].get_x() == pytest.approx(values.min(), abs=0.01)
