"""What a reader of comparisons is spared: the same twice, and a wrong word on why there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimstocr.errors import ConfigError
from mimstocr.runs import RunFolder
from mimstocr.studies import compare
from mimstocr.studies.results import Result, Results

Made = Callable[..., Results]
DAYS = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")
MEAN: dict[str, Any] = {"kind": "table", "rows": ["method"], "columns": ["rate"], "metrics": {"IC": "test.ic"}}
BEST = {**MEAN, "runs": "best", "by": "valid.ic"}
OTHER = {**MEAN, "metrics": {"RankIC": "test.rank_ic"}}


@pytest.fixture
def results(made: Made, monkeypatch: pytest.MonkeyPatch) -> Results:
    def daily(run: Result) -> Any:
        random = np.random.default_rng([run.seed, len(run.cell.name)])
        return DAYS, {name: random.normal(0, 0.02, len(DAYS)) for name in ("ic", "rank_ic")}

    monkeypatch.setattr(compare, "daily_series", daily)
    monkeypatch.setattr(compare, "daily_returns", lambda run: None)
    cells = [f"{method} / {rate}" for method in ("EW", "CQB", "STL") for rate in ("slow", "fast")]
    figures = {(cell, seed): {"test.ic": 0.1, "valid.ic": 0.1} for cell in cells for seed in (0, 1)}
    found = made(figures, show=[MEAN, BEST, OTHER])
    return replace(found, runs=[replace(run, folder=RunFolder(Path("x"))) for run in found.runs])


def test_tables_of_the_same_figures_are_one_comparison(results: Results) -> None:
    """That of the mean and that of the best run would be the same test, line by line."""
    first, second = compare.comparisons(results, "EW")
    assert (first.name, second.name) == ("made-against-EW", "made-against-EW-2")
    labels = [{row[list(table.header).index("metric")].text for row in table.rows} for table in (first, second)]
    assert labels == [{"IC"}, {"RankIC"}]


def test_a_level_that_was_left_out_is_not_called_unknown(results: Results) -> None:
    part = results.grid.part({"method": ["CQB", "STL"]})
    kept = replace(results, grid=part, runs=[run for run in results.runs if run.cell in part.cells])
    with pytest.raises(
        ConfigError, match=r"no cell at level 'EW' of method is shown, as --only or the small form leaves"
    ):
        compare.comparisons(kept, "EW")
    with pytest.raises(ConfigError, match="no level 'XY' in study made"):
        compare.comparisons(kept, "XY")
