"""The table of a study, place by place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from mimstocr.errors import ConfigError
from mimstocr.studies.exhibits import Table
from mimstocr.studies.results import Results

Made = Callable[..., Results]

FIGURES = {
    ("EW / slow", 0): {"test.ic": 0.05, "valid.rank_ic": 0.5},
    ("EW / slow", 1): {"test.ic": 0.07, "valid.rank_ic": 0.7},
    ("EW / fast", 0): {"test.ic": 0.01, "valid.rank_ic": 0.9},
    ("CQB / slow", 0): {"test.ic": 0.08, "valid.rank_ic": 0.4},
    ("CQB / fast", 0): {"test.ic": 0.02, "valid.rank_ic": 0.3},
    ("STL / slow", 0): {"test.ic": 0.03, "valid.rank_ic": 0.1},
}


def table_of(results: Results) -> Table:
    return results.grid.study.show[0].make(results).tables[0]


def test_mean_spread_and_number_of_seeds_with_the_best_marked_down_each_column(made: Made) -> None:
    table = table_of(made(FIGURES))
    assert table.header == ["method", "slow IC ↑", "fast IC ↑"]
    spread = math.sqrt(((0.05 - 0.06) ** 2 + (0.07 - 0.06) ** 2) / 1) * 1000
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["EW", f"0.0600 ({spread:.1f}) ×2", "0.0100 (–) ×1"],
        ["CQB", "0.0800 (–) ×1", "0.0200 (–) ×1"],
        ["STL", "0.0300 (–) ×1", "–"],
    ]
    assert [[entry.mark for entry in row[1:]] for row in table.rows] == [
        ["second", "second"],
        ["best", "best"],
        ["", ""],
    ]
    assert table.rows[0][1].value == pytest.approx(0.06)


def test_the_contest_may_be_along_another_axis(made: Made) -> None:
    show = [{"kind": "table", "rows": ["method"], "columns": ["rate"], "metrics": {"IC": "test.ic"}, "compete": "rate"}]
    table = table_of(made(FIGURES, show=show))
    assert [[entry.mark for entry in row[1:]] for row in table.rows] == [
        ["best", "second"],
        ["best", "second"],
        ["", ""],
    ]


def test_equal_means_are_best_together(made: Made) -> None:
    figures = {(f"{method} / slow", 0): {"test.ic": value} for method, value in (("EW", 1), ("CQB", 1), ("STL", 0.5))}
    table = table_of(made(figures))
    assert [row[1].mark for row in table.rows] == ["best", "best", "second"]


def test_percentages(made: Made) -> None:
    show = [{"kind": "table", "rows": ["method", "rate"], "metrics": {"IC": "test.ic"}, "percent": True}]
    table = table_of(made(FIGURES, show=show))
    assert [entry.text for entry in table.rows[0]] == ["EW", "slow", "6.00 (14.1) ×2"]
    assert table.labels == 2
    assert "of the fraction" in table.notes[0]


def test_validation_chooses_and_test_figures_have_no_say(made: Made) -> None:
    choose = {"axis": "rate", "by": "valid.rank_ic"}
    show = [{"kind": "table", "rows": ["method"], "metrics": {"IC": "test.ic"}}]
    table = table_of(made(FIGURES, choose=choose, show=show))
    # EW: 0.9 of one seed against a mean of 0.6, though its test IC is the worse
    assert [row[1].text for row in table.rows] == [
        "0.0100 (–) ×1 at fast",
        "0.0800 (–) ×1 at slow",
        "0.0300 (–) ×1 at slow",
    ]
    assert any("rate chosen for each cell by the mean valid.rank_ic" in note for note in table.notes)
    assert "EW: chosen among levels with unequal numbers of seeds (slow: 2, fast: 1)" in table.notes


def test_nothing_finished_shows_dashes(made: Made) -> None:
    table = table_of(made({}))
    assert {entry.text for row in table.rows for entry in row[1:]} == {"–"}
    table = table_of(made({}, choose={"axis": "rate"}, show=[{"kind": "table", "rows": ["method"]}]))
    assert [[entry.text for entry in row] for row in table.rows] == [[name, "–", "–"] for name in ("EW", "CQB", "STL")]


def test_a_figure_that_nobody_has_is_said(made: Made) -> None:
    show = [{"kind": "table", "rows": ["method", "rate"], "metrics": {"IC": "test.icc"}}]
    table = table_of(made(FIGURES, show=show))
    assert any(note.startswith("no finished run has a figure test.icc; did you mean 'test.ic'") for note in table.notes)


def test_a_choice_by_a_figure_that_nobody_has_is_refused(made: Made) -> None:
    show = [{"kind": "table", "rows": ["method"]}]
    results = made(FIGURES, choose={"axis": "rate", "by": "valid.rankic"}, show=show)
    with pytest.raises(ConfigError, match=r"no finished run has the figure 'valid.rankic'; did you mean"):
        table_of(results)
    nothing = made({}, choose={"axis": "rate", "by": "valid.rankic"}, show=show)
    assert [shown.chosen for shown in nothing.shown] == [None, None, None]


def test_seeds_on_different_data_are_said(made: Made) -> None:
    results = made(FIGURES)
    runs = [replace(run, data=f"data {run.seed}") if run.state == "finished" else run for run in results.runs]
    notes = table_of(replace(results, runs=runs)).notes
    assert "EW / slow: its seeds ran on different data (data 0, data 1)" in notes


def test_title_and_digits(made: Made) -> None:
    show = {"kind": "table", "rows": ["method", "rate"], "metrics": {"IC": "test.ic"}}
    assert table_of(made(FIGURES, show=[show])).title == "made"
    own = table_of(made(FIGURES, show=[{**show, "title": "Information coefficients", "digits": 2}]))
    assert own.title == "Information coefficients"
    assert own.rows[0][2].text == "0.06 (14.1) ×2"
    assert own.rows[0][2].value == pytest.approx(0.06)
    whole = table_of(made(FIGURES, show=[{**show, "digits": 0, "percent": True}]))
    assert whole.rows[0][2].text == "6 (14.1) ×2"


def test_seeds_without_a_figure_are_said(made: Made) -> None:
    figures = {**FIGURES, ("EW / slow", 1): {"valid.rank_ic": 0.7}, ("STL / slow", 0): {"valid.rank_ic": 0.1}}
    table = table_of(made(figures))
    assert table.rows[0][1].text == "0.0500 (–) ×1"
    assert "without test.ic, and so not in its mean: EW / slow (1 of 2 seeds), STL / slow (1 of 1 seeds)" in table.notes
    assert not any(note.startswith("without") for note in table_of(made(FIGURES)).notes)
