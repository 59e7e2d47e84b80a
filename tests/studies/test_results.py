"""What is known of the runs of a study, from folders and from the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimstocr.config import make_config, write_yaml
from mimstocr.errors import RunError
from mimstocr.runs import RunFolder
from mimstocr.studies.ledger import Ledger, Row
from mimstocr.studies.results import Results, collect, daily_returns, look
from mimstocr.studies.show import Showing
from mimstocr.studies.study import Cell, config_hash, load_study, otherwise, shipped_studies

Made = Callable[..., Results]


def row(cell: Cell, seed: int = 0, /, **changes: Any) -> Row:
    known = Row("made", cell.name, seed, config_hash(cell.config), "d", "cpu", "0.1.0", "2026-01-01", {"test.ic": 0.05})
    return replace(known, **changes)


def finish(cell: Cell, seed: int, out: Path, /, **changes: Any) -> Path:
    """A finished run; changes: settings by which its config.yaml differs from the cell's."""
    config = cell.run(seed, out)
    config.folder.mkdir(parents=True)
    write_yaml(config.folder / "config.yaml", make_config({**config.plain(), **changes}))
    metrics = {"seeds": {str(seed): {"test": {"ic": 0.05, "rank_ic": None}}}, "backtest": {}}
    for name, content in (("metrics.json", metrics), ("environment.json", {"data_fingerprint": "d"})):
        (config.folder / name).write_text(json.dumps(content))
    (config.folder / "report.html").write_text("")
    return config.folder


def test_a_figure_is_the_mean_over_its_seeds(made: Made) -> None:
    values = (0.01, 0.02, 0.09)
    results = made({("EW / slow", seed): {"test.ic": value} for seed, value in enumerate(values)}, seeds=[0, 1, 2])
    figure = results.figure(results.grid.cells[0], "test.ic")
    assert figure is not None
    assert figure.mean == pytest.approx((0.01 + 0.02 + 0.09) / 3)  # their median is 0.02
    assert figure.std == pytest.approx(np.std(values, ddof=1))
    assert figure.seeds == 3


def test_rows_of_cells_that_are_gone_are_counted_and_said(made: Made, tmp_path: Path) -> None:
    grid = made({}).grid
    here = grid.cells[0]
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.add(row(here, cell="EW / snail", config="old"))
    ledger.add(row(here, 7, cell="GradNorm / slow", config="old"))
    ledger.add(row(here, cell="EW / snail", config="old", study="another"))
    ledger.add(row(grid.cells[1], cell="EW / quick"))  # renamed since: its settings are those of a cell that is here
    ledger.add(row(here, config="old"))
    ledger.add(row(here, config="older"))
    results = collect(grid, tmp_path, ledger)
    assert [run.cell.name for run in results.runs if run.state == "finished"] == ["EW / fast"]
    assert (results.stale, results.gone) == (2, 2)
    said = [
        "2 rows of the ledger left out, made with other settings",
        "2 rows of the ledger left out, of cells that the study no longer has",
    ]
    assert results.left_out() == said
    (table,) = grid.study.show[0].make(results).tables
    assert set(said) <= set(table.notes)
    assert Showing(results, [], []).account().endswith("; " + "; ".join(said))


def test_rows_of_cells_that_are_not_asked_for_are_not_gone(made: Made, tmp_path: Path) -> None:
    grid = made({}).grid
    ledger = Ledger(tmp_path / "ledger.csv")
    for cell in grid.cells:
        ledger.add(row(cell))
    results = collect(grid.part({"method": ["CQB"], "rate": ["fast"]}), tmp_path, ledger)
    assert (results.stale, results.gone) == (0, 0)
    assert [run.state for run in results.runs] == ["finished", "missing"]


def test_a_seed_without_a_figure_is_named(made: Made) -> None:
    figures = {("EW / slow", 0): {"a": 1.0}, ("EW / slow", 1): {}, ("CQB / slow", 0): {"b": 1.0}}
    results = made({key: {"other": 1.0, **value} for key, value in figures.items()})
    assert results.lacking("a", results.grid.cells) == [
        "without a, and so not in its mean: EW / slow (1 of 2 seeds), CQB / slow (1 of 1 seeds)"
    ]
    (one,) = results.lacking("a", results.grid.cells[:1])
    assert one == "without a, and so not in its mean: EW / slow (1 of 2 seeds)"
    assert results.lacking("other", results.grid.cells) == []
    assert results.lacking("nobody", results.grid.cells) == []  # which is an error of its own


def test_a_choice_says_how_many_seeds_had_its_figure(made: Made) -> None:
    show = [{"kind": "table", "rows": ["method"], "metrics": {"RankIC": "valid.rank_ic"}}]
    figures = {
        ("EW / slow", 0): {"valid.rank_ic": 0.1},
        ("EW / slow", 1): {"test.ic": 0.1},
        ("EW / fast", 0): {"valid.rank_ic": 0.2},
        ("EW / fast", 1): {"valid.rank_ic": 0.2},
    }
    results = made(figures, choose={"axis": "rate"}, show=show)
    (table,) = results.grid.study.show[0].make(results).tables
    assert "EW: chosen among levels with unequal numbers of seeds (slow: 1, fast: 2)" in table.notes
    lacking = [note for note in table.notes if note.startswith("without valid.rank_ic")]
    assert lacking == ["without valid.rank_ic, and so not in its mean: EW / slow (1 of 2 seeds)"]


def test_a_finished_run_of_other_settings_is_refused(made: Made, tmp_path: Path) -> None:
    cell = made({}).grid.cells[0]
    plain = cell.config.plain()
    training = {**plain["training"], "patience": 99, "device": "cuda"}  # the device is no part of a result
    path = finish(cell, 0, tmp_path, training=training)
    said = (
        rf"{path.name} has the name of cell EW / slow, seed 0, .*\(training.patience: then 99, now \d+\); move it away"
    )
    with pytest.raises(RunError, match=said):
        look(cell, 0, tmp_path)
    finish(cell, 1, tmp_path, seeds=[1, 2])  # figures of the backtest would be those of both
    with pytest.raises(RunError, match=r"\(seeds: then \[1, 2\], now \[1\]\)"):
        look(cell, 1, tmp_path)
    (path / "report.html").unlink()  # not finished: the run itself checks what it goes on with
    assert look(cell, 0, tmp_path).state == "unfinished"


def test_a_finished_run_is_known_by_its_folder_wherever_it_lies(made: Made, tmp_path: Path) -> None:
    cell = made({}).grid.cells[0]
    path = finish(cell, 0, tmp_path, name="x", out="elsewhere")
    found = look(cell, 0, tmp_path)
    assert (found.state, found.figures, found.folder) == ("finished", {"test.ic": 0.05}, RunFolder(path))


def test_configs_of_shipped_studies_come_back_as_themselves() -> None:
    for name in shipped_studies():
        for cell in load_study(name).cells:
            asked = cell.run(0, Path("runs"))
            assert otherwise(make_config(asked.plain()), asked) == ""


@pytest.mark.parametrize("times", [False, True])
def test_daily_returns_are_those_of_the_run_folder(made: Made, tmp_path: Path, times: bool) -> None:
    cell = made({}).grid.cells[0]
    path = finish(cell, 0, tmp_path)
    assert daily_returns(look(cell, 0, tmp_path)) is None  # as of an earlier version
    days = np.array(["2020-01-02", "2020-01-03"], dtype="datetime64[D]")
    bars = days.astype("datetime64[ms]") + np.timedelta64(4, "h") if times else days
    table = pl.DataFrame({"date": bars, "net": [0.01, -0.02], "gross": [0.02, -0.01], "index": [None, None]})
    table.write_parquet(path / "backtest.parquet")
    (path / "data.json").write_text(json.dumps({"days_per_year": 365}))
    money = daily_returns(look(cell, 0, tmp_path))
    assert money is not None
    assert money.days_per_year == 365
    assert money.days.tolist() == bars.tolist()
    assert {name: values.tolist() for name, values in money.returns.items()} == {
        "net": [0.01, -0.02],
        "gross": [0.02, -0.01],
    }
