"""Paired comparisons on the same test days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mimstocr.errors import ConfigError
from mimstocr.evaluation import benjamini_hochberg, hac_test, mann_whitney, paired
from mimstocr.runs import RunFolder
from mimstocr.studies import compare
from mimstocr.studies.exhibits import Table
from mimstocr.studies.results import Result, Results

Made = Callable[..., Results]
DAYS = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")
CELLS = ("EW / slow", "CQB / slow", "STL / slow")


def daily(run: Result) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]]]:
    """Noise by cell and seed; CQB is better by 0.05 a day; STL lacks the first ten days and has no figure on one."""
    level = {"EW": 0.0, "CQB": 0.05, "STL": 0.0}[run.cell.levels["method"]]
    noise = np.random.default_rng([run.seed, len(run.cell.name)]).normal(level, 0.02, len(DAYS))
    if run.cell.levels["method"] == "STL":
        noise[20] = np.nan
        return DAYS[10:], {"ic": noise[10:]}
    return DAYS, {"ic": noise}


@pytest.fixture
def results(made: Made, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(compare, "daily_series", daily)
    found = made({(cell, seed): {"test.ic": 0.1} for cell in CELLS for seed in (0, 1)})
    runs = [run if run.state == "missing" else replace(run, folder=RunFolder(Path("x"))) for run in found.runs]
    return replace(found, runs=runs)


def column(table: Table, name: str) -> list[str]:
    return [row[list(table.header).index(name)].text for row in table.rows]


def test_the_figures_are_those_of_the_tests_on_the_mean_over_seeds(results: Results) -> None:
    (table,) = compare.comparisons(results, "EW")
    assert column(table, "method") == ["CQB", "STL"]
    by_cell = {(run.cell.name, run.seed): daily(run)[1]["ic"] for run in results.runs if run.state == "finished"}
    mean = {cell: (by_cell[cell, 0] + by_cell[cell, 1]) / 2 for cell in CELLS}
    better = hac_test(mean["CQB / slow"] - mean["EW / slow"])
    alike = hac_test(mean["STL / slow"] - mean["EW / slow"][10:])
    assert column(table, "- EW") == [f"{better.mean:+.4f}", f"{alike.mean:+.4f}"]
    assert column(table, "t") == [f"{better.t:+.2f}", f"{alike.t:+.2f}"]
    bootstrap = paired(mean["CQB / slow"], mean["EW / slow"]).bootstrap
    assert column(table, "95 %")[0] == f"{bootstrap.low:+.4f} to {bootstrap.high:+.4f}"
    both = table.rows[1][list(table.header).index("p boot")].value
    assert both == paired(mean["STL / slow"], mean["EW / slow"][10:]).bootstrap.p != alike.p
    assert column(table, "days") == [str(len(DAYS)), str(len(DAYS) - 11)]
    adjusted = benjamini_hochberg(np.array([better.p, alike.p]))
    assert [row[-1].value for row in table.rows] == pytest.approx(list(adjusted))
    assert column(table, "p adj.")[0] == "<0.001"
    seeds = mann_whitney(*(np.array([by_cell[cell, s].mean() for s in (0, 1)]) for cell in ("CQB / slow", "EW / slow")))
    assert column(table, "p seeds")[0] == f"{seeds.p:.3f} ({seeds.smallest_p:.2g})"


def test_only_seeds_that_both_have_are_compared(results: Results) -> None:
    runs = [
        replace(run, state="missing", figures={}) if (run.cell.name, run.seed) == ("EW / slow", 1) else run
        for run in results.runs
    ]
    (table,) = compare.comparisons(replace(results, runs=runs), "EW")
    assert column(table, "seeds") == ["1", "1"]
    assert column(table, "p seeds") == ["–", "–"]


def test_what_the_ledger_alone_knows_is_said_not_compared(results: Results) -> None:
    (table,) = compare.comparisons(replace(results, runs=[replace(run, folder=None) for run in results.runs]), "EW")
    assert table.rows == []
    assert "CQB / slow: no seed of which both it and EW / slow have a run folder; not compared" in table.notes


def test_a_seed_without_figures_is_said_and_the_rest_compared(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collapsed(run: Result) -> tuple[NDArray[np.datetime64], dict[str, NDArray[np.float64]]]:
        days, found = daily(run)
        return days, {name: values * (np.nan if run.cell.name == "STL / slow" else 1) for name, values in found.items()}

    monkeypatch.setattr(compare, "daily_series", collapsed)
    (table,) = compare.comparisons(results, "EW")
    assert column(table, "method") == ["CQB"]
    assert any(note.startswith("STL / slow, IC: cannot be compared") for note in table.notes)


def test_a_level_with_a_slash_names_a_file(made: Made) -> None:
    axes = {"method": {"w/o beta": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}}}
    (table,) = compare.comparisons(made({}, axes=axes), "w/o beta")
    assert table.name == "made-against-w-o-beta"


def test_what_is_no_daily_figure_is_said(made: Made, results: Results) -> None:
    show = [{"kind": "table", "rows": ["method", "rate"], "metrics": {"V": "valid.ic", "S": "backtest.net.sharpe"}}]
    grid = made({}, show=show).grid
    (table,) = compare.comparisons(replace(results, grid=replace(results.grid, study=grid.study)), "EW")
    assert table.rows == []
    assert "V is no daily figure of the test days, and is not compared" in table.notes


def test_a_level_that_is_not_shown_is_refused(results: Results) -> None:
    with pytest.raises(ConfigError, match=r"--against: no level 'WE' in study made; did you mean 'EW'"):
        compare.comparisons(results, "WE")
