"""Paired comparisons on the same test days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mimstocr.errors import ConfigError
from mimstocr.evaluation import benjamini_hochberg, hac_test, mann_whitney, paired, sharpe_difference
from mimstocr.runs import RunFolder
from mimstocr.studies import compare
from mimstocr.studies.exhibits import Table
from mimstocr.studies.results import Money, Result, Results

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
    monkeypatch.setattr(compare, "daily_returns", lambda run: None)
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


def of_series(
    made: Made, monkeypatch: pytest.MonkeyPatch, series: dict[tuple[str, int], Any], **changes: Any
) -> Results:
    """Results of these runs alone, which have these days and daily figures."""
    monkeypatch.setattr(compare, "daily_series", lambda run: series[run.cell.name, run.seed])
    found = made({key: {"test.ic": 0.1} for key in series}, **changes)
    runs = [replace(run, folder=RunFolder(Path("x"))) if run.state == "finished" else run for run in found.runs]
    return replace(found, runs=runs)


def noise(*seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.02, len(DAYS))


def test_a_cell_is_compared_to_the_one_that_is_alike_in_all_else(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("EW / slow", "EW / fast", "CQB / slow", "CQB / fast")
    series = {(name, 0): (DAYS, {"ic": noise(i)}) for i, name in enumerate(names)}
    (table,) = compare.comparisons(of_series(made, monkeypatch, series), "EW")
    shown = {(row[0].text, row[1].text): row[3].value for row in table.rows}
    assert shown == {
        ("CQB", rate): pytest.approx((series[f"CQB / {rate}", 0][1]["ic"] - series[f"EW / {rate}", 0][1]["ic"]).mean())
        for rate in ("slow", "fast")
    }
    del series["EW / slow", 0]  # without its partner it is not compared to another one
    (table,) = compare.comparisons(of_series(made, monkeypatch, series), "EW")
    assert column(table, "rate") == ["fast"]


def test_seeds_of_different_days_are_averaged_on_those_that_all_have(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_days = {(name, seed): noise(seed, len(name)) for name in ("EW / slow", "CQB / slow") for seed in (0, 1)}
    series = {key: (DAYS, {"ic": values}) for key, values in all_days.items()}
    series["CQB / slow", 0] = (DAYS[:-4], {"ic": all_days["CQB / slow", 0][:-4]})
    series["CQB / slow", 1] = (DAYS[7:], {"ic": all_days["CQB / slow", 1][7:]})
    (table,) = compare.comparisons(of_series(made, monkeypatch, series), "EW")
    whole = {
        name: [np.mean([all_days[name, 0][t], all_days[name, 1][t]]) for t in range(7, len(DAYS) - 4)]
        for name in ("EW / slow", "CQB / slow")
    }
    expected = hac_test(np.array(whole["CQB / slow"]) - np.array(whole["EW / slow"]))
    assert column(table, "days") == [str(len(DAYS) - 11)]
    assert column(table, "- EW") == [f"{expected.mean:+.4f}"]
    assert table.rows[0][list(table.header).index("t")].value == pytest.approx(expected.t)


def test_three_seeds_count_alike(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their mean: by the median the one seed far above would have no say."""
    ew = {("EW / slow", seed): (DAYS, {"ic": noise(seed)}) for seed in range(3)}
    cqb = {("CQB / slow", seed): (DAYS, {"ic": noise(seed, 9) + 0.5 * (seed == 2)}) for seed in range(3)}
    (table,) = compare.comparisons(of_series(made, monkeypatch, {**ew, **cqb}, seeds=[0, 1, 2]), "EW")
    difference = sum(daily["ic"] for _, daily in cqb.values()) / 3 - sum(daily["ic"] for _, daily in ew.values()) / 3
    assert difference.mean() > 0.1
    assert table.rows[0][list(table.header).index("- EW")].value == pytest.approx(difference.mean())
    assert column(table, "seeds") == ["3"]


def test_a_figure_of_the_validation_days_is_not_taken_for_one_of_the_test_days(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = {(name, 0): (DAYS, {"rank_ic": noise(i)}) for i, name in enumerate(("EW / slow", "CQB / slow"))}
    metrics = {"chosen by": "valid.rank_ic", "of no split": "rank_ic", "RankIC": "test.rank_ic"}
    show = [{"kind": "table", "rows": ["method", "rate"], "metrics": metrics}]
    (table,) = compare.comparisons(of_series(made, monkeypatch, series, show=show), "EW")
    assert column(table, "metric") == ["RankIC"]
    expected = series["CQB / slow", 0][1]["rank_ic"] - series["EW / slow", 0][1]["rank_ic"]
    assert table.rows[0][list(table.header).index("- EW")].value == pytest.approx(expected.mean())
    for label in ("chosen by", "of no split"):
        assert f"{label} is no daily figure of the test days, and is not compared" in table.notes


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


MONEY = {"metrics": {"IC": "test.ic", "Sharpe": "backtest.net.sharpe", "gross Sharpe": "backtest.gross.sharpe"}}


def earned(run: Result) -> Money:
    """CQB earns more; the second seed of EW was filled four days later."""
    random = np.random.default_rng([run.seed, len(run.cell.name), 7])
    net = random.normal(0.01 if run.cell.levels["method"] == "CQB" else 0.0, 0.01, len(DAYS))
    late = 4 if (run.cell.name, run.seed) == ("EW / slow", 1) else 0
    return Money(DAYS[late:], {"net": net[late:], "gross": net[late:] + 0.001}, 365)


def with_sharpes(made: Made, results: Results) -> Results:
    grid = made({}, show=[{"kind": "table", "rows": ["method", "rate"], **MONEY}]).grid
    return replace(results, grid=replace(results.grid, study=grid.study))


def test_sharpe_ratios_are_compared_by_the_daily_returns_of_the_accounts(
    made: Made, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "daily_returns", earned)
    (table,) = compare.comparisons(with_sharpes(made, results), "EW")
    assert column(table, "method") == ["CQB"] * 3 + ["STL"] * 3
    assert column(table, "metric") == ["IC", "Sharpe", "gross Sharpe"] * 2
    runs = {(run.cell.name, run.seed): earned(run) for run in results.runs if run.state == "finished"}
    for row, cell, kind in ((1, "CQB / slow", "net"), (2, "CQB / slow", "gross"), (4, "STL / slow", "net")):
        ours, theirs = (
            np.stack([runs[name, seed].returns[kind][4 if name == cell or seed == 0 else 0 :] for seed in (0, 1)])
            for name in (cell, "EW / slow")
        )
        expected = sharpe_difference(ours, theirs, days_per_year=365)
        line = dict(zip(table.header, table.rows[row], strict=True))
        assert line["- EW"].value == pytest.approx(expected.annual)
        low, high = expected.annual_interval
        assert line["95 %"].text == f"{low:+.4f} to {high:+.4f}"
        assert line["t"].value == pytest.approx(expected.hac.t)
        assert line["p boot"].value == expected.bootstrap.p
        assert line["days"].text == str(len(DAYS) - 4)
        assert line["seeds"].text == "2"
        by_seed = [side.mean(axis=1) / side.std(axis=1, ddof=1) for side in (ours, theirs)]
        assert line["p seeds"].value == mann_whitney(*by_seed).p
    plain = [row[list(table.header).index("p")].value for row in table.rows]
    assert [row[-1].value for row in table.rows] == pytest.approx(list(benjamini_hochberg(np.array(plain))))
    (about,) = [note for note in table.notes if note.startswith("Sharpe:")]
    assert "daily net returns" in about
    assert not any("is no daily figure" in note for note in table.notes)


def test_runs_without_daily_returns_are_counted(made: Made, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(run: Result) -> Money | None:
        return None if (run.cell.name, run.seed) in {("CQB / slow", 1), ("STL / slow", 0)} else earned(run)

    monkeypatch.setattr(compare, "daily_returns", lacking)
    shown = with_sharpes(made, results)
    (table,) = compare.comparisons(shown, "EW")
    assert column(table, "seeds") == ["2", "1", "1"] * 2
    for cell in ("CQB / slow", "STL / slow"):
        (note,) = [note for note in table.notes if note.startswith(f"{cell}: 1 of 2 seeds without the daily returns")]
        assert "EW / slow" in note
    monkeypatch.setattr(compare, "daily_returns", lambda run: None)
    (table,) = compare.comparisons(shown, "EW")
    assert column(table, "metric") == ["IC", "IC"]
    assert sum("2 of 2 seeds without the daily returns" in note for note in table.notes) == 2


def test_an_account_that_never_moves_is_said(made: Made, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(run: Result) -> Money:
        money = earned(run)
        cash = {kind: np.zeros(len(money.days)) for kind in money.returns}
        return money._replace(returns=cash) if run.cell.name == "STL / slow" else money

    monkeypatch.setattr(compare, "daily_returns", idle)
    (table,) = compare.comparisons(with_sharpes(made, results), "EW")
    assert column(table, "metric") == ["IC", "Sharpe", "gross Sharpe", "IC"]
    assert any(note.startswith("STL / slow, Sharpe: cannot be compared (returns:") for note in table.notes)


def test_a_level_that_is_not_shown_is_refused(results: Results) -> None:
    with pytest.raises(ConfigError, match=r"--against: no level 'WE' in study made; did you mean 'EW'"):
        compare.comparisons(results, "WE")
