"""`mimstocr study` as a user types it: every shipped study in its small form."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

from mimstocr.cli.main import invoke
from mimstocr.runs import RunFolder
from mimstocr.studies.ledger import Ledger
from mimstocr.studies.results import failure_file
from mimstocr.studies.study import load_study, shipped_studies

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fakestockdata") is None, reason="the small forms use the prices of the extra samples"
)
FIGURES = {name for name in shipped_studies() if name.startswith("figure")}


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_the_small_form(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if any(cell.config.agent for cell in load_study(name, smoke=True).cells):
        pytest.importorskip("stable_baselines3", reason="agents need the extra rl")
    assert invoke(["study", name, "--smoke", "--out", str(tmp_path), "--jobs", "1"]) == 0
    grid = load_study(name, smoke=True)
    shown = capsys.readouterr()
    assert f"{len(grid.cells)} of {len(grid.cells)} runs finished" in shown.err
    folder = tmp_path / "studies" / f"{name}-smoke"
    page = (folder / "index.html").read_text()
    assert all(cell.name in page or list(cell.levels.values())[-1] in page for cell in grid.cells)
    assert len(Ledger(tmp_path / "ledger.csv").rows()) == len(grid.cells)
    made = {path.suffix for path in folder.iterdir()}
    assert {".svg", ".png"} <= made if name in FIGURES else {".md", ".tex", ".csv"} <= made
    if name not in FIGURES:
        assert grid.study.title in shown.out
        assert "–" not in "".join(line.split("(")[0] for line in shown.out.splitlines() if "×" in line)


def test_show_prints_from_folders_and_from_the_ledger_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = {
        "title": "small and mine",
        "axes": {"method": {"EW": {"balancer": "ew"}, "STL": {"balancer": "stl"}}},
        "show": [{"kind": "table", "rows": ["method"]}],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(study))
    ledger = tmp_path / "kept" / "ledger.csv"
    common = ["study", str(path), "--smoke", "--ledger", str(ledger)]
    assert invoke([*common, "--out", str(tmp_path), "--only", "method=EW", "training.max_epochs=1"]) == 0
    capsys.readouterr()

    asked = [*common, "training.max_epochs=1", "--show"]
    assert invoke([*asked, "--out", str(tmp_path), "--format", "markdown"]) == 0
    from_folder = capsys.readouterr()
    assert "1 of 2 runs finished, 1 missing" in from_folder.err
    assert "| STL | – | – |" in from_folder.out
    assert invoke([*asked, "--out", str(tmp_path / "elsewhere"), "--format", "markdown"]) == 0
    from_ledger = capsys.readouterr()
    assert from_ledger.out == from_folder.out
    assert "1 known from the ledger alone" in from_ledger.err
    assert invoke([*common, "--show", "--out", str(tmp_path / "elsewhere")]) == 0  # two epochs: other settings
    assert "1 row of the ledger left out, made with other settings" in capsys.readouterr().err
    study["axes"] = {"method": {"Equal": {"balancer": "ew"}, "STL": {"balancer": "stl"}}}
    path.write_text(yaml.safe_dump(study))
    assert invoke([*common, "--show", "--out", str(tmp_path / "elsewhere"), "--format", "markdown"]) == 0
    told = capsys.readouterr()
    said = "1 row of the ledger left out, of cells that the study no longer has"
    assert said in told.err
    assert said in told.out  # also where the table goes without the command's own words
    assert said in (tmp_path / "elsewhere" / "studies" / "mine-smoke" / "index.html").read_text()
    study["axes"] = {"method": {"EW": {"balancer": "ew"}, "STL": {"balancer": "stl"}}}
    path.write_text(yaml.safe_dump(study))
    assert invoke([*asked, "--out", str(tmp_path), "--format", "latex", "--against", "EW"]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tabel1"], "did you mean 'table1'"),
        (["table1", "--smoke", "--only", "method"], "--only: expected AXIS=LEVEL,LEVEL, got 'method'"),
        (["table1", "--smoke", "--only", "method=WE"], "unknown level 'WE' of axis method"),
        (["table1", "--smoke", "--only", "dataset=CSI 100"], "has no cell at these levels"),
        (["table1", "--smoke", "--seeds", "one"], "--seeds: expected numbers such as 0,1,2, got 'one'"),
        (["table1", "--smoke", "--show", "--against", "WE"], "--against: no level 'WE'"),
        (["table1", "--smoke", "training.max_epoch=1"], "unknown setting 'max_epoch'"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["study", *arguments, "--out", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "runs" / "cells").exists()


def test_a_failed_run_ends_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["study", "figure7", "--smoke", "data.source=csv:/nowhere.csv", "--out", str(tmp_path)]
    assert invoke(arguments) == 3
    assert "failed: " in capsys.readouterr().err


def test_a_folder_in_use_is_said_and_ends_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = load_study("figure7", smoke=True)
    config = grid.cells[0].run(0, tmp_path)
    with RunFolder.create(config).locked():
        assert invoke(["study", "figure7", "--smoke", "--out", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert f": in use: another process is at work in {config.folder}" in said
    assert "failed" not in said
    assert not failure_file(config).exists()


def test_levels_add_up_and_may_have_commas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["study", "objectives", "--show", "--out", str(tmp_path), "--format", "csv"]
    asked += ["--only", "objective=ApproxNDCG, all", "--only", "objective=ListNet,Pair-wise"]
    assert invoke(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].strip('"') for line in lines[1:4]] == ["Pair-wise", "ListNet", "ApproxNDCG"]
