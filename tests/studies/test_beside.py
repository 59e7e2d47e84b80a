"""Cells that are not crossed with every axis, in what is shown of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimstocr.runs import RunFolder
from mimstocr.studies import compare
from mimstocr.studies.exhibits import Table
from mimstocr.studies.page import study_page
from mimstocr.studies.results import Result, Results
from mimstocr.studies.write import comma_separated

Made = Callable[..., Results]
AXES = {
    "year": {"2018": {"training.patience": 1}, "2019": {"training.patience": 2}},
    "method": {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}},
    "rate": {"slow": {"training.learning_rate": 0.1}, "fast": {"training.learning_rate": 0.2}},
}
HELD = {"axis": "method", "across": ["year"], "levels": {"held": {"backtest.strategy": "buy_and_hold"}}}
VALUES = {
    ("2018 / EW / slow", 0): 0.04,
    ("2018 / EW / fast", 0): 0.02,
    ("2018 / CQB / slow", 0): 0.01,
    ("2018 / CQB / fast", 0): 0.05,
    ("2018 / held", 0): 0.045,
    ("2019 / EW / slow", 0): 0.09,
    ("2019 / held", 0): 0.08,
}


def results_of(made: Made, show: dict[str, Any], **changes: Any) -> Results:
    figures = {key: {"test.ic": value, "valid.rank_ic": value} for key, value in VALUES.items()}
    return made(figures, axes=AXES, beside=[HELD], show=[show], **changes)


def table_of(results: Results) -> Table:
    return results.grid.study.show[0].make(results).tables[0]


def places(table: Table) -> list[list[str]]:
    return [[entry.text.removesuffix(" (–) ×1") for entry in row] for row in table.rows]


def test_a_table_has_a_row_for_each_cell_and_no_more(made: Made) -> None:
    table = table_of(
        results_of(made, {"kind": "table", "rows": ["year", "method", "rate"], "metrics": {"IC": "test.ic"}})
    )
    assert places(table) == [
        ["2018", "EW", "slow", "0.0400"],
        ["2018", "EW", "fast", "0.0200"],
        ["2018", "CQB", "slow", "0.0100"],
        ["2018", "CQB", "fast", "0.0500"],
        ["2018", "held", "-", "0.0450"],
        ["2019", "EW", "slow", "0.0900"],
        ["2019", "EW", "fast", "–"],
        ["2019", "CQB", "slow", "–"],
        ["2019", "CQB", "fast", "–"],
        ["2019", "held", "-", "0.0800"],
    ]
    assert "2018,held,-,0.045" in comma_separated(table)


def test_a_table_has_columns_of_their_own_for_cells_without_a_level(made: Made) -> None:
    show = {"kind": "table", "rows": ["year", "method"], "columns": ["rate"], "metrics": {"IC": "test.ic"}}
    table = table_of(results_of(made, show))
    assert table.header == ["year", "method", "slow IC ↑", "fast IC ↑", "IC ↑"]
    assert places(table)[:3] == [
        ["2018", "EW", "0.0400", "0.0200", "–"],
        ["2018", "CQB", "0.0100", "0.0500", "–"],
        ["2018", "held", "–", "–", "0.0450"],
    ]


def test_the_best_may_be_sought_among_all_cells_of_a_year(made: Made) -> None:
    show = {"kind": "table", "rows": ["year", "method", "rate"], "metrics": {"IC": "test.ic"}}
    table = table_of(results_of(made, {**show, "compete": ["method", "rate"]}))
    marks = {tuple(entry.text for entry in row[:3]): row[3].mark for row in table.rows if row[3].mark}
    assert marks == {
        ("2018", "CQB", "fast"): "best",
        ("2018", "held", "-"): "second",
        ("2019", "EW", "slow"): "best",
        ("2019", "held", "-"): "second",
    }
    assert table.notes[0].endswith("best and second over method, rate")
    alone = table_of(results_of(made, show))  # over the rate, of which a cell beside has none
    assert not any(row[3].mark for row in alone.rows if row[1].text == "held")


def test_a_level_is_chosen_for_crossed_cells_alone(made: Made) -> None:
    show = {"kind": "table", "rows": ["year", "method"], "metrics": {"IC": "test.ic"}}
    results = results_of(made, show, choose={"axis": "rate"})
    table = table_of(results)
    assert [row[2].text for row in table.rows][:3] == [
        "0.0400 (–) ×1 at slow",
        "0.0500 (–) ×1 at fast",
        "0.0450 (–) ×1",
    ]
    assert not any("held" in note for note in table.notes)
    runs = [replace(run, figures={"test.ic": 0.1}) if "held" in run.cell.name else run for run in results.runs]
    assert not any("held" in note for note in replace(results, runs=runs).doubts())


def test_the_page_tells_of_them(made: Made) -> None:
    results = results_of(made, {"kind": "table", "rows": ["year", "method", "rate"]})
    page = study_page(results, [], [])
    assert (
        "8 cells of year (2) × method (2) × rate (2), and beside them 2 of method (1) × year (2), seeds 0, 1." in page
    )
    assert "held (beside, across year)" in page
    assert "backtest.strategy: buy_and_hold" in page
    assert "2018 / held" in page
    part = replace(results, grid=results.grid.part({"method": ["held"]}))
    assert "0 cells, and beside them 2 of method (1) × year (2)" in study_page(part, [], [])


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_a_heatmap_leaves_squares_empty_that_no_cell_has(made: Made) -> None:
    results = results_of(made, {"kind": "heatmap", "rows": "method", "columns": "rate", "figure": "test.ic"})
    shows = results.grid.study.show[0].make(results)
    table = shows.tables[0]
    assert table.header == ["method \\ rate", "slow", "fast", "-"]
    assert places(table) == [
        ["EW", "0.0400", "0.0200", ""],
        ["CQB", "0.0100", "0.0500", ""],
        ["held", "", "", "0.0450"],
    ]
    assert not any("have no value" in note for note in table.notes)
    assert any("3 of 5 squares have no value (hatched)" in note for note in shows.tables[1].notes)
    texts = [text.get_text() for text in shows.drawings[1].figure.axes[0].texts]
    assert texts.count("missing") == 3


def test_lines_and_drawings_are_told_by_the_levels_that_cells_have(made: Made) -> None:
    show = {"kind": "growth", "lines": "rate", "only": {"rate": ["slow"]}}
    results = results_of(made, show)
    exhibit = results.grid.study.show[0]
    kept = exhibit.kept(results)
    assert [shown.name for shown in kept if shown.name.startswith("2018")] == [
        "2018 / EW / slow",
        "2018 / CQB / slow",
        "2018 / held",
    ]
    held = next(shown for shown in kept if shown.name == "2018 / held")
    assert [group.name for group in exhibit.groups(results)][:3] == ["2018 / EW", "2018 / CQB", "2019 / EW"]
    assert exhibit.line(results, held) == "2018 / held"
    assert len({exhibit.colour(results, shown) for shown in kept}) == 2
    free = results_of(made, {"kind": "growth", "panels": "year"})
    lines = [free.grid.study.show[0].line(free, shown) for shown in free.shown]
    assert lines[:4] + lines[-1:] == ["EW / slow", "EW / fast", "CQB / slow", "CQB / fast", "held"]


def test_only_may_name_levels_beside(made: Made) -> None:
    results = results_of(made, {"kind": "growth", "only": {"method": ["held"]}})
    assert [shown.name for shown in results.grid.study.show[0].kept(results)] == ["2018 / held", "2019 / held"]


# ---- comparison ------------------------------------------------------------------------------------------------------


@pytest.fixture
def followed(made: Made, monkeypatch: pytest.MonkeyPatch) -> Results:
    days = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")

    def daily(run: Result) -> Any:
        noise = np.random.default_rng(len(run.cell.name)).normal(0, 0.02, len(days))
        return days, {"ic": noise + VALUES[run.cell.name, run.seed]}

    monkeypatch.setattr(compare, "daily_series", daily)
    monkeypatch.setattr(compare, "daily_returns", lambda run: None)
    found = results_of(made, {"kind": "table", "rows": ["year", "method", "rate"], "metrics": {"IC": "test.ic"}})
    runs = [run if run.state == "missing" else replace(run, folder=RunFolder(Path("x"))) for run in found.runs]
    return replace(found, runs=runs)


def test_every_cell_of_a_year_is_compared_to_the_one_beside_it(followed: Results) -> None:
    (table,) = compare.comparisons(followed, "held")
    assert [[entry.text for entry in row[:3]] for row in table.rows] == [
        ["2018", "EW", "slow"],
        ["2018", "EW", "fast"],
        ["2018", "CQB", "slow"],
        ["2018", "CQB", "fast"],
        ["2019", "EW", "slow"],
    ]
    place = list(table.header).index("- held")
    daily = {name: compare.daily_series(run) for run in followed.runs if run.folder for name in [run.cell.name]}
    for row in table.rows:
        ours = daily[" / ".join(entry.text for entry in row[:3])][1]["ic"]
        theirs = daily[f"{row[0].text} / held"][1]["ic"]
        assert row[place].value == pytest.approx((ours - theirs).mean())
    assert not any("not compared, as" in note for note in table.notes)


def test_a_cell_beside_has_no_partner_among_many(followed: Results) -> None:
    (table,) = compare.comparisons(followed, "EW")
    assert {row[1].text for row in table.rows} == {"CQB"}
    assert "not compared, as no one cell of EW stands in their place: 2018 / held, 2019 / held" in table.notes
