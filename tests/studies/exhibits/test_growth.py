"""Accounts of strategies, of runs whose scores are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from mimstocr.backtest import BacktestResult
from mimstocr.config import write_yaml
from mimstocr.studies.exhibits._style import spread
from mimstocr.studies.exhibits.base import Drawing, Table
from mimstocr.studies.exhibits.growth import Growth
from mimstocr.studies.results import Results, collect
from mimstocr.studies.study import Cell, Grid, load_study
from mimstocr.workflow import run_backtest

METHODS = {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}}
DASH = "\N{EN DASH}"


@pytest.fixture(scope="session")
def indexed(prices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prices with an index, which is the mean close."""
    stocks = pl.read_parquet(prices)
    numbers = ["open", "high", "low", "close", "volume"]
    index = stocks.group_by("date").agg(pl.col(numbers).mean()).with_columns(symbol=pl.lit("INDEX"))
    path = tmp_path_factory.mktemp("indexed") / "prices.parquet"
    pl.concat([stocks, index.select(stocks.columns)]).sort("date", "symbol").write_parquet(path)
    return path


def grid_of(folder: Path, source: Path, axes: Mapping[str, Any], seeds: Sequence[int] = (0, 1), **more: Any) -> Grid:
    settings = {"data": {"source": f"parquet:{source}", **more}, "backtest.strategy": {"kind": "top_k", "k": 3}}
    raw = {"title": "made", "base": "csi300", "set": settings, "axes": axes, "seeds": list(seeds)}
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump({**raw, "show": [{"kind": "growth"}]}, sort_keys=False))
    return load_study(path)


def finish(cell: Cell, seed: int, out: Path, prices: Path, test_days: int = 20) -> Path:
    """A finished run with random scores on the last test days."""
    config = cell.run(seed, out)
    config.folder.mkdir(parents=True)
    write_yaml(config.folder / "config.yaml", config)
    table = pl.read_parquet(prices).select("date", "symbol")
    days = table["date"].unique().sort()[-test_days:]
    table = table.filter(pl.col("date").is_in(days.to_list()))
    rng = np.random.default_rng([seed, len(cell.name)])
    score = pl.Series("score", rng.normal(size=len(table)).astype(np.float32))
    table = table.with_columns(score, seed=pl.lit(seed, pl.Int32), split=pl.lit("test"))
    table.write_parquet(config.folder / "predictions.parquet")
    (config.folder / "metrics.json").write_text(json.dumps({"seeds": {str(seed): {"best_epoch": 1}}, "backtest": {}}))
    (config.folder / "report.html").write_text("")
    (config.folder / "environment.json").write_text('{"data_fingerprint": "made"}')
    return config.folder


@pytest.fixture
def two(tmp_path: Path, prices: Path, indexed: Path) -> Results:
    """Both methods with two seeds, on data with an index."""
    grid = grid_of(tmp_path, indexed, {"method": METHODS}, benchmark="INDEX")
    for cell in grid.cells:
        for seed in grid.seeds:
            finish(cell, seed, tmp_path, prices)
    return collect(grid, tmp_path)


def lines(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axes.lines if line.get_gid() != "zero"}


def backtests(results: Results, cell: Cell, **terms: Any) -> list[BacktestResult]:
    overrides = [
        f"{name}={value}"
        for name, value in {"market.commission": terms.get("cost"), "delay": terms.get("delay")}.items()
        if value is not None
    ]
    return [run_backtest(run.folder.path, overrides=overrides) for run in results.of(cell) if run.folder is not None]


def drawn(results: Results, **settings: Any) -> tuple[Drawing, Table]:
    shows = Growth(**settings).make(results)
    (drawing,), (table,) = shows.drawings, shows.tables
    return drawing, table


def row(table: Table, name: str) -> dict[str, str]:
    (found,) = [row for row in table.rows if row[0].text == name]
    return {head: entry.text for head, entry in zip(table.header, found, strict=True)}


def test_a_line_is_the_mean_of_the_accounts_of_its_seeds(two: Results) -> None:
    (axes,) = drawn(two)[0].figure.axes
    for cell in two.grid.cells:
        wealth = []
        for result in backtests(two, cell):
            account = [1.0]
            for r in result.net_returns:
                account.append(account[-1] * (1 + r))
            wealth.append(account)
        wanted = [(a + b) / 2 - 1 for a, b in zip(*wealth, strict=True)]
        np.testing.assert_allclose(lines(axes)[cell.name].get_ydata(), wanted, rtol=0, atol=1e-12)


def test_it_starts_at_nothing_on_the_day_of_the_first_fill(two: Results) -> None:
    (axes,) = drawn(two, delay=1)[0].figure.axes
    result = backtests(two, two.grid.cells[0], delay=1)[0]
    x, y = lines(axes)["EW"].get_data()
    days = [result.simulated_days[result.net.first_fill], *result.days]
    np.testing.assert_array_equal(date2num(x), date2num(np.array(days)))
    assert y[0] == 0.0
    assert result.net.first_fill == 1  # the score of day 0 is filled on day 1


def test_index_and_universe_are_drawn_once_over_the_same_days(two: Results) -> None:
    (axes,) = drawn(two)[0].figure.axes
    assert list(lines(axes)) == ["Index INDEX", "Universe mean", "EW", "CQB"]
    result = backtests(two, two.grid.cells[0])[0]
    assert result.index_returns is not None
    index = lines(axes)["Index INDEX"].get_ydata()
    np.testing.assert_allclose(index[1:], np.cumprod(1 + result.index_returns) - 1, atol=1e-12)
    universe = lines(axes)["Universe mean"].get_ydata()
    np.testing.assert_allclose(universe[1:], np.cumprod(1 + result.universe_returns) - 1, atol=1e-12)


def test_lines_are_named_at_their_ends_in_their_colours(two: Results) -> None:
    (axes,) = drawn(two)[0].figure.axes
    named = {text.get_text(): text.get_color() for text in axes.texts}
    assert named == {name: line.get_color() for name, line in lines(axes).items()}
    assert len(set(named.values())) == 4
    assert axes.get_ylabel() == "Cumulative return"
    assert axes.yaxis.get_major_formatter()(0.25) == "25%"


def test_the_table_has_each_seeds_figures_averaged(two: Results) -> None:
    _, table = drawn(two)
    results = backtests(two, two.grid.cells[0])
    annual = [result.metrics["net"]["annual_return"] for result in results]
    sharpe = [result.metrics["net"]["sharpe"] for result in results]
    index = results[0].metrics["index"]["annual_return"]
    universe = results[0].metrics["universe"]["annual_return"]
    spread_of = [abs(a - b) / 2**0.5 for a, b in (annual, sharpe)]  # sample standard deviation of two
    found = row(table, "EW")
    assert found["Seeds"] == "2"
    assert found["Annual return"] == f"{sum(annual) / 2:.1%} ({100 * spread_of[0]:.1f})"
    assert found["Sharpe"] == f"{sum(sharpe) / 2:.2f} ({spread_of[1]:.2f})"
    for head, other in (("Excess over index", index), ("Excess over universe", universe)):
        excess = [(1 + a) / (1 + other) - 1 for a in annual]
        assert found[head].startswith(f"{sum(excess) / 2:.1%} (")
    gross = [result.metrics["gross"]["annual_return"] for result in results]
    assert found["Before costs"].startswith(f"{sum(gross) / 2:.1%}")
    drawdown = [result.metrics["net"]["max_drawdown"] for result in results]
    assert found["Max drawdown"].startswith(f"{sum(drawdown) / 2:.1%}")
    assert row(table, "Index INDEX")["Annual return"] == f"{index:.1%}"
    assert row(table, "Index INDEX")["Excess over index"] == DASH


def test_the_best_account_is_marked_and_references_are_not(two: Results) -> None:
    _, table = drawn(two)
    marks = {row[0].text: row[2].mark for row in table.rows}
    means = {row[0].text: row[2].value for row in table.rows}
    best = max(("EW", "CQB"), key=lambda name: means[name] or 0.0)
    assert marks == {name: "best" if name == best else "second" for name in ("EW", "CQB")} | {
        "Index INDEX": "",
        "Universe mean": "",
    }


def test_terms_are_said(two: Results) -> None:
    drawing, table = drawn(two)
    for notes in (drawing.notes, table.notes):
        told = "\n".join(notes)
        assert "top k (k 3); 0.1% of the traded value paid on every buy and every sell" in told
        assert "delay 0 fills at the close that the score has seen, which cannot be traded" in told
    assert any("the mean over seeds of the account's value" in note for note in drawing.notes)


def test_other_terms_change_the_account_and_the_notes(two: Results) -> None:
    drawing, table = drawn(two, cost=0.0, delay=2)
    told = "\n".join(drawing.notes)
    assert "no costs; delay 2 fills at the close 2 trading days after the score's" in told
    assert "cannot be traded" not in told
    assert "Before costs" not in table.header
    assert drawing.name == "made-growth-cost-0-delay-2"
    result = backtests(two, two.grid.cells[0], cost=0.0, delay=2)
    wanted = np.mean([np.prod(1 + r.net_returns) - 1 for r in result])
    assert lines(drawing.figure.axes[0])["EW"].get_ydata()[-1] == pytest.approx(wanted)


def test_data_without_an_index_say_so(tmp_path: Path, prices: Path) -> None:
    grid = grid_of(tmp_path, prices, {"method": METHODS}, seeds=[0])
    for cell in grid.cells:
        finish(cell, 0, tmp_path, prices)
    drawing, table = drawn(collect(grid, tmp_path))
    assert list(lines(drawing.figure.axes[0])) == ["Universe mean", "EW", "CQB"]
    assert "EW: its data have no index." in drawing.notes
    assert row(table, "EW")["Excess over index"] == DASH
    assert not any(row[0].text.startswith("Index") for row in table.rows)


def test_missing_cells_stay_in_the_table_and_are_noted(tmp_path: Path, prices: Path) -> None:
    grid = grid_of(tmp_path, prices, {"method": METHODS}, seeds=[0])
    finish(grid.cells[0], 0, tmp_path, prices)
    drawing, table = drawn(collect(grid, tmp_path))
    assert row(table, "CQB") == {"method": "CQB", "Seeds": "0", **dict.fromkeys(table.header[2:], DASH)}
    assert "No finished run: CQB." in drawing.notes
    assert "No finished run: CQB." in table.notes


def test_runs_whose_data_are_not_here_are_named(tmp_path: Path, prices: Path) -> None:
    axes = {"data": {"here": {"balancer": "ew"}, "away": {"data.source": f"parquet:{tmp_path}/gone.parquet"}}}
    grid = grid_of(tmp_path, prices, axes, seeds=[0])
    for cell in grid.cells:
        finish(cell, 0, tmp_path, prices)
    drawing, _ = drawn(collect(grid, tmp_path))
    assert list(lines(drawing.figure.axes[0])) == ["Universe mean", "here"]
    (note,) = [note for note in drawing.notes if "away" in note]
    assert note.startswith("away (seed 0) cannot be backtested here: ")
    assert "gone.parquet" in note


def test_a_seed_on_other_days_is_left_out_and_named(tmp_path: Path, prices: Path) -> None:
    grid = grid_of(tmp_path, prices, {"method": {"EW": METHODS["EW"]}})
    finish(grid.cells[0], 0, tmp_path, prices, test_days=20)
    finish(grid.cells[0], 1, tmp_path, prices, test_days=15)
    drawing, table = drawn(collect(grid, tmp_path))
    assert "EW (seed 1) covers other days, and is left out." in drawing.notes
    assert row(table, "EW")["Seeds"] == "1"


def test_panels_share_their_axes(tmp_path: Path, prices: Path) -> None:
    nets = {"LSTM": {"backbone": "lstm"}, "GRU": {"backbone": "gru"}}
    grid = grid_of(tmp_path, prices, {"net": nets, "method": METHODS}, seeds=[0])
    for cell in grid.cells:
        finish(cell, 0, tmp_path, prices)
    results = collect(grid, tmp_path)
    drawing, table = drawn(results, lines="method", panels="net")
    first, second = drawing.figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["LSTM", "GRU"]
    assert first.get_ylim() == second.get_ylim()
    assert [row[0].text for row in table.rows] == ["LSTM", "LSTM", "Universe mean", "GRU", "GRU", "Universe mean"]
    assert [row[3].mark for row in table.rows].count("best") == 2
    shows = Growth(lines="method").make(results)
    assert [drawing.name for drawing in shows.drawings] == ["made-growth-LSTM", "made-growth-GRU"]
    (one,) = Growth().make(results).drawings
    assert list(lines(one.figure.axes[0])) == ["Universe mean", *(cell.name for cell in grid.cells)]


def test_different_universes_have_each_their_own_mean(tmp_path: Path, prices: Path) -> None:
    data = {"source": f"parquet:{prices}"}
    axes = {"data": {"whole": {"balancer": "ew"}, "late": {"data": {**data, "start": "2020-02-03"}}}}
    grid = grid_of(tmp_path, prices, axes, seeds=[0])
    for cell in grid.cells:
        finish(cell, 0, tmp_path, prices)
    drawing, _ = drawn(collect(grid, tmp_path))
    assert list(lines(drawing.figure.axes[0])) == ["Universe mean, whole", "Universe mean, late", "whole", "late"]


def test_nothing_to_draw_is_a_table_that_says_why(tmp_path: Path, prices: Path) -> None:
    shows = Growth().make(collect(grid_of(tmp_path, prices, {"method": METHODS}), tmp_path))
    assert not shows.drawings
    assert [[entry.text for entry in row] for row in shows.tables[0].rows] == [["No finished run: EW, CQB."]]


def test_labels_are_moved_apart_and_no_further() -> None:
    assert spread([0.2, 0.8], 0.1) == [0.2, 0.8]
    np.testing.assert_allclose(spread([0.5, 0.52, 0.5], 0.1), [0.5066667 - 0.1, 0.5066667 + 0.1, 0.5066667], atol=1e-6)
    np.testing.assert_allclose(spread([1.0, 1.0], 0.1), [0.9, 1.0])
    np.testing.assert_allclose(spread([0.0, 0.0], 0.1), [0.0, 0.1])
    assert spread([], 0.1) == []


def test_labels_keep_their_order_and_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        places = rng.uniform(0, 1, 6).round(2).tolist()
        found = spread(places, 0.12)
        order = np.argsort(places, kind="stable")
        assert all(high - low > 0.12 - 1e-9 for low, high in pairwise(np.array(found)[order]))
        assert min(found) >= 0
        assert max(found) <= 1 + 1e-9
