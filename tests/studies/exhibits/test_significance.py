"""Tests over repeated runs, line by line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mimstocr.errors import ConfigError
from mimstocr.studies.exhibits import Table
from mimstocr.studies.results import Results

Made = Callable[..., Results]
SHOW: dict[str, Any] = {
    "kind": "significance",
    "rows": ["rate"],
    "axis": "method",
    "against": ["STL"],
    "figure": "backtest.net.cumulative_return",
}
RUNS = {
    "EW / slow": (0.10, 0.30, 0.20, 0.40),
    "EW / fast": (0.05, 0.15),
    "CQB / slow": (-0.1, -0.3, -0.2, 0.01),
    "CQB / fast": (0.3, 0.02, 0.2, 0.1),
    "STL / slow": (0.0, 0.02, 0.05, 0.15),
    "STL / fast": (0.2, 0.1, 0.3, 0.02),
}
MORE: dict[str, tuple[float, ...]] = {"one": (0.41, 0.33), "two": (0.055, 0.065, 0.075, 0.085)}


def table_of(made: Made, runs: Mapping[str, tuple[float, ...]] = RUNS, show: Any = SHOW, **changes: Any) -> Table:
    figures = {
        (name, seed): {"backtest.net.cumulative_return": value}
        for name, values in runs.items()
        for seed, value in enumerate(values)
    }
    results = made(figures, seeds=[0, 1, 2, 3], **{"show": [show], **changes})
    return results.grid.study.show[0].make(results).tables[0]


def lines(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def oracle(ours: tuple[float, ...], theirs: tuple[float, ...]) -> float:
    p: float = stats.mannwhitneyu(ours, theirs, method="exact").pvalue
    return p


def test_every_row_is_tested_against_every_level(made: Made) -> None:
    table = table_of(made)
    assert list(table.header) == [
        "rate",
        "method",
        "against",
        "median",
        "median of the other",
        "runs",
        "runs of the other",
        "p",
        "least p",
        "p adj.",
        "better",
    ]
    names = [tuple(line[key].text for key in ("method", "rate", "against")) for line in lines(table)]
    assert names == [("EW", "slow", "STL"), ("CQB", "slow", "STL"), ("EW", "fast", "STL"), ("CQB", "fast", "STL")]
    sides = [(RUNS[f"{method} / {rate}"], RUNS[f"STL / {rate}"]) for method, rate, _ in names]
    for line, (ours, theirs) in zip(lines(table)[:3], sides, strict=False):  # the last one has ties
        assert line["p"].value == pytest.approx(oracle(ours, theirs))
    for line, (ours, theirs) in zip(lines(table), sides, strict=True):
        assert line["median"].value == np.median(ours)
        assert line["median of the other"].value == np.median(theirs)
        assert (line["runs"].value, line["runs of the other"].value) == (len(ours), len(theirs))
        assert line["least p"].value == pytest.approx(2 / math.comb(len(ours) + len(theirs), len(ours)))
    plain = [line["p"].value for line in lines(table)]
    assert [line["p adj."].value for line in lines(table)] == pytest.approx(list(stats.false_discovery_control(plain)))
    assert lines(table)[0]["median"].text == "25.00%"


def test_by_hand(made: Made) -> None:
    """Three against three, apart: of 20 ways to divide six runs one is as far to either side, so 2 / 20."""
    table = table_of(made, {"EW / slow": (4, 5, 6), "STL / slow": (1, 2, 3)})
    (line,) = (line for line in lines(table) if line["runs"].value and line["runs of the other"].value)
    assert line["p"].value == pytest.approx(0.1)
    assert line["least p"].value == pytest.approx(0.1)
    assert line["p adj."].value == pytest.approx(0.1)  # the only test of the table
    assert line["better"].text == "EW"


def test_which_side_is_better_is_by_pairs_not_by_medians(made: Made) -> None:
    table = table_of(made)
    assert [line["better"].text for line in lines(table)] == ["EW", "STL", "STL", "neither"]
    tilted = {"EW / slow": (0.0, 0.0, 0.31), "STL / slow": (0.1, 0.2, 0.3)}
    assert lines(table_of(made, tilted))[0]["better"].text == "STL"


def test_a_side_without_runs_is_shown_and_is_no_test(made: Made) -> None:
    table = table_of(made, {name: values for name, values in RUNS.items() if name != "STL / fast"})
    last = lines(table)[-1]
    assert [last[key].text for key in ("median of the other", "p", "least p", "p adj.", "better")] == ["–"] * 5
    assert (last["runs"].value, last["runs of the other"].value) == (4, 0)
    plain = [line["p"].value for line in lines(table)[:2]]
    assert [line["p adj."].value for line in lines(table)[:2]] == pytest.approx(
        list(stats.false_discovery_control(plain))
    )
    assert "over the 2 tests of this table" in table.notes[0]


def test_pooled_axes_are_named_and_said(made: Made) -> None:
    table = table_of(made, show={**SHOW, "rows": ["method"], "pool": ["rate"]})
    assert [line["method"].text for line in lines(table)] == ["EW", "CQB"]
    ours, theirs = RUNS["EW / slow"] + RUNS["EW / fast"], RUNS["STL / slow"] + RUNS["STL / fast"]
    line = lines(table)[0]
    assert (line["runs"].value, line["runs of the other"].value) == (6, 8)
    assert line["median"].value == pytest.approx(np.median(ours))
    assert line["median of the other"].value == pytest.approx(np.median(theirs))
    (note,) = [note for note in table.notes if note.startswith("pooled over rate")]
    assert "runs of different cells are not repeats of one another" in note
    assert not any("pooled" in note for note in table_of(made).notes)


def test_an_axis_that_is_not_named_is_refused(made: Made) -> None:
    with pytest.raises(
        ConfigError, match=r"show\.significance: rate is in neither rows, axis nor pool, so cells would"
    ):
        table_of(made, show={**SHOW, "rows": ["method"]})


def test_several_levels_and_those_beside(made: Made) -> None:
    beside = [{"axis": "method", "levels": {name: {"training.patience": i + 1} for i, name in enumerate(MORE)}}]
    show = {**SHOW, "rows": ["method", "rate"], "against": ["one", "two"]}
    table = table_of(made, {**RUNS, **MORE}, show, beside=beside)
    names = [tuple(entry.text for entry in row[:3]) for row in table.rows]
    assert names[:3] == [("EW", "slow", "one"), ("EW", "slow", "two"), ("EW", "fast", "one")]
    assert len(names) == 3 * 2 * 2
    for name, line in zip(names, lines(table), strict=True):
        assert line["median of the other"].value == pytest.approx(np.median(MORE[name[2]]))
        assert line["p"].value == pytest.approx(oracle(RUNS[f"{name[0]} / {name[1]}"], MORE[name[2]]))


def test_a_cell_beside_is_held_against_its_like_alone(made: Made) -> None:
    """It has no level of the rate, so no one cell of STL stands in its place."""
    beside = [{"axis": "method", "levels": {name: {"training.patience": i + 1} for i, name in enumerate(MORE)}}]
    table = table_of(made, {**RUNS, **MORE}, {**SHOW, "against": ["STL", "two"]}, beside=beside)
    names = [tuple(entry.text for entry in row[:3]) for row in table.rows]
    assert ("-", "one", "two") in names
    assert ("-", "one", "STL") not in names
    assert "not compared, as there is no such cell: - / one against STL" in table.notes


def test_a_cell_without_a_level_of_the_axis_is_in_no_line(made: Made) -> None:
    beside = [{"axis": "method", "levels": {"one": {"training.patience": 1}}}]
    show = {**SHOW, "rows": ["method"], "axis": "rate", "against": ["fast"]}
    table = table_of(made, {**RUNS, **MORE}, show, beside=beside)
    assert [line["method"].text for line in lines(table)] == ["EW", "CQB", "STL"]
    assert {line["rate"].text for line in lines(table)} == {"slow"}


def test_runs_that_are_all_alike_are_said(made: Made) -> None:
    table = table_of(made, {**RUNS, "STL / slow": (0.02, 0.02, 0.02), "EW / fast": (0.02,)})
    (note,) = [note for note in table.notes if "the same figure" in note]
    assert note.endswith("one run said several times: STL / slow")


def test_runs_without_the_figure_are_said(made: Made) -> None:
    table = table_of(made, show={**SHOW, "figure": "backtest.net.cumulative_retrun"})
    assert any(
        "no finished run has a figure backtest.net.cumulative_retrun; did you mean" in note for note in table.notes
    )
    assert {line["p"].text for line in lines(table)} == {"–"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"against": ["SLT"]}, "show.significance.against: unknown level 'SLT'; did you mean 'STL'"),
        ({"against": []}, "against"),
        ({"axis": "methods"}, "unknown axis 'methods'; did you mean 'method'"),
        ({"pool": ["method"]}, "pool: 'method' tells the rows or sides apart"),
        ({"pool": ["rate"]}, "pool: 'rate' tells the rows or sides apart"),
    ],
)
def test_a_mistake_is_named(made: Made, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        table_of(made, show={**SHOW, **changes})


def test_tables_of_one_study_have_names_of_their_own(made: Made) -> None:
    results = made({}, show=[SHOW, {**SHOW, "figure": "test.ic", "title": "By IC"}])
    tables = [exhibit.make(results).tables[0] for exhibit in results.grid.study.show]
    assert [(table.name, table.title) for table in tables] == [
        ("made-significance", "made"),
        ("made-significance-2", "By IC"),
    ]
