"""The table of a study, place by place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mimstocr.errors import ConfigError
from mimstocr.studies.exhibits import Table
from mimstocr.studies.results import Results
from mimstocr.studies.write import comma_separated

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


# ---- the best of repeated runs ---------------------------------------------------------------------------------------

BEST: dict[str, Any] = {
    "kind": "table",
    "rows": ["method", "rate"],
    "metrics": {"IC": "test.ic", "net": "backtest.net.sharpe"},
}
BEST |= {"runs": "best", "by": "tasks.position.valid.total"}
RUNS = {
    ("EW / slow", 0): {"tasks.position.valid.total": 0.1, "test.ic": 0.9, "backtest.net.sharpe": 1.0},
    ("EW / slow", 1): {"tasks.position.valid.total": 0.3, "test.ic": 0.1, "backtest.net.sharpe": 2.0},
    ("EW / slow", 2): {"tasks.position.valid.total": 0.2, "test.ic": 0.5, "backtest.net.sharpe": 3.0},
    ("CQB / slow", 0): {"tasks.position.valid.total": -0.2, "test.ic": 0.2},
    ("CQB / slow", 1): {"tasks.position.valid.total": -0.2, "test.ic": 0.8},
    ("CQB / fast", 2): {"test.ic": 0.7, "backtest.net.sharpe": 3.0},
}


def test_the_best_run_is_the_one_that_validation_chose(made: Made) -> None:
    table = table_of(made(RUNS, show=[BEST], seeds=[0, 1, 2]))
    shown = {" / ".join(entry.text for entry in row[:2]): row[2:] for row in table.rows}
    ic, net = shown["EW / slow"]
    assert (ic.text, net.text) == ("0.1000 at seed 1 (3 runs)", "2.0000")
    assert (ic.value, ic.std, ic.seeds, ic.chosen) == (0.1, None, None, "seed 1 (3 runs)")
    assert shown["CQB / slow"][0].text == "0.2000 at seed 0 (2 runs)"  # the first of equal ones
    assert shown["CQB / slow"][1].text == "–"  # the chosen run has none, though it is known
    assert [entry.text for entry in shown["CQB / fast"]] == ["–", "–"]  # nothing to choose by
    assert "highest tasks.position.valid.total" in table.notes[0]
    said = "without tasks.position.valid.total, and so not to be chosen: CQB / fast (1 of 1 seeds)"
    assert said in table.notes
    assert "IC ↑,IC ↑ chosen,net ↑" in comma_separated(table)


def test_test_figures_have_no_say_in_which_run_is_best(made: Made) -> None:
    def seeds(figures: Mapping[tuple[str, int], Mapping[str, float]]) -> list[str | None]:
        return [row[2].chosen for row in table_of(made(figures, show=[BEST], seeds=[0, 1, 2])).rows]

    turned = {
        key: {name: value if ".valid." in name else -7 * value for name, value in run.items()}
        for key, run in RUNS.items()
    }
    assert seeds(turned) == seeds(RUNS)
    swapped = {**RUNS, ("EW / slow", 0): {**RUNS["EW / slow", 0], "tasks.position.valid.total": 0.4}}
    assert seeds(swapped) != seeds(RUNS)


def test_the_best_run_and_the_mean_stand_side_by_side(made: Made) -> None:
    mean = {key: value for key, value in BEST.items() if key not in ("runs", "by")}
    results = made(RUNS, show=[mean, BEST], seeds=[0, 1, 2])
    first, second = (exhibit.make(results).tables[0] for exhibit in results.grid.study.show)
    assert (first.name, second.name) == ("made", "made-2")
    assert first.rows[0][2].value == pytest.approx((0.9 + 0.1 + 0.5) / 3)
    assert second.rows[0][2].value == 0.1
    assert (first.rows[0][2].mark, second.rows[0][2].mark) == ("", "")  # fast of EW is not there to compete with


def test_marks_of_best_runs_are_those_of_their_figures(made: Made) -> None:
    table = table_of(made(RUNS, show=[{**BEST, "compete": "method"}], seeds=[0, 1, 2]))
    marks = {" / ".join(entry.text for entry in row[:2]): row[2].mark for row in table.rows}
    assert (marks["EW / slow"], marks["CQB / slow"]) == ("second", "best")  # by means it is the other way round


def test_within_the_chosen_level_the_best_run(made: Made) -> None:
    show = {**BEST, "rows": ["method"], "by": "valid.rank_ic"}
    figures = {
        ("EW / slow", 0): {"valid.rank_ic": 0.9, "test.ic": 0.1},
        ("EW / slow", 1): {"valid.rank_ic": 0.1, "test.ic": 0.2},
        ("EW / fast", 0): {"valid.rank_ic": 0.6, "test.ic": 0.3},
        ("EW / fast", 1): {"valid.rank_ic": 0.7, "test.ic": 0.4},
    }
    table = table_of(made(figures, show=[show], choose={"axis": "rate"}))
    assert table.rows[0][1].text == "0.4000 at fast, seed 1 (2 runs)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"by": "tasks.position.test.total"}, "expected a figure of the validation split"),
        ({"by": "backtest.net.sharpe"}, "expected a figure of the validation split"),
        ({"by": "test.valid.ic"}, "expected a figure of the validation split"),
        ({"by": None}, "runs: best and by, .*, belong together"),
        ({"runs": "mean"}, "runs: best and by, .*, belong together"),
        ({"percent": ["ICC"]}, "percent: unknown label 'ICC' of metrics; did you mean 'IC'"),
        ({"unmarked": ["nett"]}, "unmarked: unknown label 'nett' of metrics; did you mean 'net'"),
    ],
)
def test_a_mistake_in_a_table_is_named(made: Made, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(RUNS, show=[{**BEST, **changes}])


def test_a_figure_to_choose_by_that_nobody_has_is_refused(made: Made) -> None:
    results = made(RUNS, show=[{**BEST, "by": "tasks.position.valid.totl"}], seeds=[0, 1, 2])
    with pytest.raises(ConfigError, match=r"by: no finished run has the figure .*; did you mean 'tasks.position.valid"):
        table_of(results)


def test_some_labels_in_percent_and_spreads_in_their_unit(made: Made) -> None:
    show = {**BEST, "runs": "mean", "by": None, "percent": ["IC"], "unmarked": ["net"], "spread": "unit", "digits": 2}
    table = table_of(made(RUNS, show=[show], seeds=[0, 1, 2]))
    assert table.header == ["method", "rate", "IC ↑", "net"]
    mean, std = np.mean([0.9, 0.1, 0.5]), np.std([0.9, 0.1, 0.5], ddof=1)
    assert table.rows[0][2].text == f"{mean * 100:.2f} % ({std * 100:.2f}) ×3"
    assert table.rows[0][3].text == "2.00 (1.00) ×3"
    assert (table.rows[0][2].value, table.rows[0][2].std) == (pytest.approx(mean), pytest.approx(std))
    assert table.notes[0].startswith("mean (standard deviation) ×seeds")
    rivals = {**RUNS, ("EW / fast", 0): {"test.ic": 0.1, "backtest.net.sharpe": 0.1}}
    marked = table_of(made(rivals, show=[show], seeds=[0, 1, 2]))
    assert [row[2].mark for row in marked.rows[:2]] == ["best", "second"]
    assert {row[3].mark for row in marked.rows} == {""}
