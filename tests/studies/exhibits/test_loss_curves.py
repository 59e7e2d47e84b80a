"""Losses by epoch, of runs whose histories are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from pydantic import ValidationError

from mimstocr.config import write_yaml
from mimstocr.errors import ConfigError
from mimstocr.studies.exhibits.base import Drawing
from mimstocr.studies.exhibits.loss_curves import LossCurves, mean_curve, upper_limit
from mimstocr.studies.ledger import Ledger, Row
from mimstocr.studies.results import Results, collect
from mimstocr.studies.study import Cell, Grid, config_hash, load_study

METHODS = {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}}
Losses = Mapping[str, Sequence[float | None]]


def grid_of(folder: Path, axes: Mapping[str, Any], seeds: Sequence[int] = (0, 1)) -> Grid:
    show = [{"kind": "loss_curves"}]
    raw = {"title": "made", "base": "demo", "axes": axes, "seeds": list(seeds), "show": show}
    folder.mkdir(exist_ok=True)
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_study(path)


def finish(cell: Cell, seed: int, out: Path, best: int, train: Losses, **held_out: Losses) -> None:
    """A finished run with these losses of each task by epoch; `best` is the epoch kept."""
    config = cell.run(seed, out)
    config.folder.mkdir(parents=True)
    write_yaml(config.folder / "config.yaml", config)
    parts = {"train": train, **held_out}
    rows = [
        {
            "seed": seed,
            "epoch": epoch,
            **{part: {task: values[epoch - 1] for task, values in losses.items()} for part, losses in parts.items()},
            "best": epoch <= best,
        }
        for epoch in range(1, len(next(iter(train.values()))) + 1)
    ]
    (config.folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = {"seeds": {str(seed): {"best_epoch": best}}, "backtest": {}}
    (config.folder / "metrics.json").write_text(json.dumps(metrics))
    (config.folder / "report.html").write_text("")
    (config.folder / "environment.json").write_text('{"data_fingerprint": "made"}')


def both(*values: float | None) -> dict[str, list[float | None]]:
    """The same losses of both tasks."""
    return {"return": list(values), "momentum": list(values)}


def panels(drawing: Drawing) -> list[Axes]:
    return list(drawing.figure.axes)


def lines(axes: Axes, kind: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid() == kind]


def legend(drawing: Drawing) -> list[str]:
    return [text.get_text() for text in drawing.figure.legends[0].get_texts()]


@pytest.fixture
def two(tmp_path: Path) -> Results:
    """EW with seeds that stop at epochs 3 and 4, and CQB with its first seed alone."""
    grid = grid_of(tmp_path, {"method": METHODS})
    ew, cqb = grid.cells
    finish(ew, 0, tmp_path, 2, both(0.9, 0.8, 0.7), valid=both(0.95, 0.90, 0.97))
    finish(ew, 1, tmp_path, 3, both(0.7, 0.6, 0.5, 0.4), valid=both(0.85, 0.84, 0.83, 0.9))
    finish(cqb, 0, tmp_path, 1, both(0.6, 0.5), valid=both(0.7, 0.75))
    return collect(grid, tmp_path)


def test_bold_is_the_mean_over_the_epochs_that_all_seeds_reached(two: Results) -> None:
    (drawing,) = LossCurves(lines="method").make(two).drawings
    axes = panels(drawing)[0]
    mean = {line.get_label(): line.get_xydata() for line in lines(axes, "mean")}
    assert list(mean) == ["EW train", "EW valid", "CQB train", "CQB valid"]
    np.testing.assert_allclose(mean["EW train"], [[1, (0.9 + 0.7) / 2], [2, (0.8 + 0.6) / 2], [3, (0.7 + 0.5) / 2]])
    np.testing.assert_allclose(mean["EW valid"], [[1, 0.90], [2, 0.87], [3, 0.90]])
    np.testing.assert_allclose(mean["CQB valid"], [[1, 0.7], [2, 0.75]])


def test_each_seed_is_thin_behind_in_full_length(two: Results) -> None:
    axes = panels(LossCurves(lines="method").make(two).drawings[0])[1]
    thin = lines(axes, "seed")
    assert [len(line.get_xdata()) for line in thin] == [3, 4, 3, 4]  # EW: train, then held out; CQB has one seed
    assert all(line.get_linewidth() < 1 for line in thin)
    np.testing.assert_allclose(thin[1].get_ydata(), [0.7, 0.6, 0.5, 0.4])


def test_training_is_solid_and_held_out_dashed(two: Results) -> None:
    axes = panels(LossCurves(lines="method").make(two).drawings[0])[0]
    styles = {line.get_label(): line.get_linestyle() for line in lines(axes, "mean")}
    assert styles == {"EW train": "-", "EW valid": "--", "CQB train": "-", "CQB valid": "--"}
    colours = {line.get_label(): line.get_color() for line in lines(axes, "mean")}
    assert colours["EW train"] == colours["EW valid"] != colours["CQB train"]


def test_the_epoch_kept_is_marked_on_each_seed(two: Results) -> None:
    axes = panels(LossCurves(lines="method").make(two).drawings[0])[0]
    ew, cqb = lines(axes, "best")
    np.testing.assert_allclose(ew.get_xydata(), [[2, 0.90], [3, 0.83]])
    np.testing.assert_allclose(cqb.get_xydata(), [[1, 0.7]])
    assert ew.get_marker() == "D"


def test_a_panel_a_task_with_its_loss_on_the_axis(two: Results) -> None:
    (drawing,) = LossCurves(lines="method").make(two).drawings
    assert [axes.get_title(loc="left") for axes in panels(drawing)] == ["return", "momentum"]
    assert [axes.get_ylabel() for axes in panels(drawing)] == ["Loss (MSE)", "Loss (approx NDCG)"]
    assert all(axes.get_xlabel() == "Epoch" for axes in panels(drawing))
    assert legend(drawing) == ["EW", "CQB", "Train", "Validation", "Epoch kept"]


def test_missing_seeds_and_how_to_read_it_are_noted(two: Results) -> None:
    (drawing,) = LossCurves(lines="method", title="Losses").make(two).drawings
    assert drawing.title == "Losses"
    assert drawing.name == "made-loss-curves"
    assert any("CQB (1 of 2)" in note for note in drawing.notes)
    assert any("chosen on validation days" in note for note in drawing.notes)


def test_levels_of_the_panels_stand_beside_each_other(two: Results) -> None:
    (drawing,) = LossCurves(panels="method").make(two).drawings
    dot = " \N{MIDDLE DOT} "
    titles = [f"return{dot}EW", f"return{dot}CQB", f"momentum{dot}EW", f"momentum{dot}CQB"]
    assert [axes.get_title(loc="left") for axes in panels(drawing)] == titles
    first, second = panels(drawing)[:2]
    assert first.get_ylim() == second.get_ylim()
    assert legend(drawing) == ["Train", "Validation", "Epoch kept"]


def test_single_task_runs_have_the_panel_of_their_task(tmp_path: Path) -> None:
    axes = {
        "task": {
            "Regression": {"balancer": {"kind": "stl", "task": "return"}},
            "Classification": {"balancer": {"kind": "stl", "task": "momentum"}},
        }
    }
    grid = grid_of(tmp_path, axes, seeds=[0])
    finish(grid.cells[0], 0, tmp_path, 1, {"return": [0.9, 0.8]}, valid={"return": [0.9, 0.95]})
    finish(grid.cells[1], 0, tmp_path, 2, {"momentum": [1.9, 1.8]}, valid={"momentum": [1.9, 1.7]})
    results = collect(grid, tmp_path)
    (drawing,) = LossCurves(panels="task").make(results).drawings
    dot = " \N{MIDDLE DOT} "
    assert [axes.get_title(loc="left") for axes in panels(drawing)] == [
        f"return{dot}Regression",
        f"momentum{dot}Classification",
    ]
    np.testing.assert_allclose(lines(panels(drawing)[1], "mean")[0].get_ydata(), [1.9, 1.8])
    assert [axes.get_title(loc="left") for axes in panels(LossCurves().make(results).drawings[0])] == [
        "return",
        "momentum",
    ]


def test_other_axes_make_drawings_of_their_own(tmp_path: Path) -> None:
    rates = {"slow": {"training.learning_rate": 0.1}, "fast": {"training.learning_rate": 0.2}}
    grid = grid_of(tmp_path, {"method": METHODS, "rate": rates}, seeds=[0])
    for cell in grid.cells:
        if cell.levels["rate"] == "slow":
            finish(cell, 0, tmp_path, 1, both(0.9, 0.8), valid=both(0.9, 0.8))
    results = collect(grid, tmp_path)
    shows = LossCurves(lines="method").make(results)
    assert [(drawing.name, drawing.title) for drawing in shows.drawings] == [("made-loss-curves-slow", "slow")]
    (table,) = shows.tables  # the other one is not silently left out
    assert [row[0].text for row in table.rows] == ["fast: No finished run: EW / fast, CQB / fast."]
    (all_in_one,) = LossCurves().make(results).drawings
    assert legend(all_in_one)[:2] == ["EW / slow", "CQB / slow"]


def test_runs_without_test_losses_are_named_with_what_to_do(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"method": METHODS}, seeds=[0])
    ew, cqb = grid.cells
    finish(ew, 0, tmp_path, 1, both(0.9, 0.8), valid=both(0.5, 0.5), test=both(0.95, 0.97))
    finish(cqb, 0, tmp_path, 1, both(0.9, 0.8), valid=both(0.5, 0.5))
    (drawing,) = LossCurves(lines="method", held_out="test").make(collect(grid, tmp_path)).drawings
    labels = [line.get_label() for line in lines(panels(drawing)[0], "mean")]
    assert labels == ["EW train", "EW test", "CQB train"]
    notes = "\n".join(drawing.notes)
    assert "Without test losses, so their training loss is drawn alone: CQB (seed 0)" in notes
    assert "training.test_curve" in notes
    assert drawing.name == "made-loss-curves-test"


def with_test_curve(folder: Path, every: Mapping[str, int]) -> Drawing:
    """Runs whose configs say how many of the test days are in their test losses."""
    axes = {name: {**METHODS[name], "training.test_curve": n} for name, n in every.items()}
    grid = grid_of(folder, {"method": axes}, seeds=[0])
    for cell in grid.cells:
        finish(cell, 0, folder, 1, both(0.9, 0.8), valid=both(0.5, 0.5), test=both(0.95, 0.97))
    (drawing,) = LossCurves(lines="method", held_out="test").make(collect(grid, folder)).drawings
    return drawing


def test_which_test_days_the_test_losses_are_of_is_said_in_the_figure(tmp_path: Path) -> None:
    drawing = with_test_curve(tmp_path / "alike", {"EW": 5, "CQB": 5})
    assert legend(drawing) == ["EW", "CQB", "Train", "Test (1 day in 5)", "Epoch kept"]
    assert "Test losses are of 1 test day in 5 (training.test_curve): EW (seed 0), CQB (seed 0)." in drawing.notes
    mixed = with_test_curve(tmp_path / "mixed", {"EW": 3, "CQB": 1})
    assert "Test (some of the days)" in legend(mixed)
    assert [note for note in mixed.notes if "test day in" in note] == [
        "Test losses are of 1 test day in 3 (training.test_curve): EW (seed 0)."
    ]
    whole = with_test_curve(tmp_path / "whole", {"EW": 1, "CQB": 1})
    assert legend(whole)[-2] == "Test"
    assert not any("test day in" in note for note in whole.notes)


def test_a_huge_first_loss_does_not_flatten_the_rest(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"method": METHODS}, seeds=[0])
    falling = [1000.0, *(0.9 - 0.01 * epoch for epoch in range(30))]
    for cell in grid.cells:
        finish(cell, 0, tmp_path, 1, both(*falling), valid=both(*falling))
    (drawing,) = LossCurves(lines="method").make(collect(grid, tmp_path)).drawings
    low, high = panels(drawing)[0].get_ylim()
    assert low < min(falling)
    assert max(falling[1:]) < high < 2
    assert "return: not shown are 4 of the losses, above the axis." in drawing.notes


def test_losses_that_were_not_finite_are_counted(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"method": METHODS}, seeds=[0])
    for cell in grid.cells:
        finish(cell, 0, tmp_path, 1, both(0.9, None, 0.8), valid=both(0.9, 0.8, 0.7))
    (drawing,) = LossCurves(lines="method").make(collect(grid, tmp_path)).drawings
    assert np.isnan(lines(panels(drawing)[0], "mean")[0].get_ydata()[1])
    assert "Losses that were not finite and leave gaps: 4." in drawing.notes  # two runs of two tasks


def test_a_task_that_has_not_entered_yet_lacks_no_loss(tmp_path: Path) -> None:
    """In the first stage of a curriculum one task trains; of the other the validation loss alone is known."""
    (cell,) = (grid := grid_of(tmp_path, {"method": {"EW": {"balancer": "ew"}}}, seeds=[0])).cells
    train = {"return": [None, 0.8, None], "momentum": [0.9, 0.8, 0.7]}
    finish(cell, 0, tmp_path, 2, train, valid=both(0.9, 0.8, 0.7))
    path = cell.run(0, tmp_path).folder / "history.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, active in zip(rows, [["momentum"], ["return", "momentum"], ["return", "momentum"]], strict=True):
        row["active"] = active
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (drawing,) = LossCurves(lines="method").make(collect(grid, tmp_path)).drawings
    assert "Losses that were not finite and leave gaps: 1." in drawing.notes  # that of the last epoch


def test_what_only_the_ledger_knows_cannot_be_drawn(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, {"method": METHODS}, seeds=[0])
    ledger = Ledger(tmp_path / "ledger.csv")
    for cell in grid.cells:
        figures = {"test.rank_ic": 0.05}
        ledger.add(Row("made", cell.name, 0, config_hash(cell.config), "d", "cpu", "0", "2026-01-01", figures))
    shows = LossCurves(lines="method").make(collect(grid, tmp_path, ledger))
    assert not shows.drawings
    (table,) = shows.tables
    assert table.name == "made-loss-curves-not-drawn"
    (reason,) = [row[0].text for row in table.rows]
    assert reason == ("In the ledger alone, without the run folder that a drawing needs: EW (seed 0), CQB (seed 0).")


def test_only_keeps_levels_and_says_so(two: Results) -> None:
    (drawing,) = LossCurves(only={"method": ("CQB",)}).make(two).drawings
    assert legend(drawing) == ["Train", "Validation", "Epoch kept"]
    assert "Shown by choice are only these levels. method: CQB." in drawing.notes
    with pytest.raises(ConfigError, match="unknown level 'CBQ' of method; did you mean 'CQB'"):
        LossCurves(only={"method": ("CBQ",)}).make(two)


def test_axes_are_named_for_the_study_to_check() -> None:
    exhibit = LossCurves(lines="a", panels="b", only={"c": ("x",), "a": ("y",)})
    assert exhibit.axes() == ["a", "b", "c"]
    with pytest.raises(ValidationError, match="'a' for both lines and panels"):
        LossCurves(lines="a", panels="a")


def test_the_mean_takes_shared_epochs_alone() -> None:
    epochs, mean = mean_curve(
        [(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])), (np.array([2, 3, 4]), np.array([6.0, 7.0, 8.0]))]
    )
    assert epochs.tolist() == [2, 3]
    assert mean.tolist() == [(2 + 6) / 2, (3 + 7) / 2]


def test_an_axis_without_outliers_is_left_alone() -> None:
    assert upper_limit(np.linspace(0, 1, 50)) is None
    assert upper_limit(np.ones(5)) is None
    assert upper_limit(np.array([np.nan])) is None
    assert upper_limit(np.append(np.linspace(0, 1, 99), 50.0)) == pytest.approx(1.5, abs=0.1)
