"""A figure over two axes, of results that are made up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from pydantic import ValidationError

from mimstocr.studies.exhibits.base import Drawing
from mimstocr.studies.exhibits.heatmap import HATCH, Heatmap, figure_label, letters_on, luminance
from mimstocr.studies.results import Results

NAN = float("nan")
TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture
def results(made: Callable[..., Results]) -> Results:
    """EW (slow with two seeds, fast with one), CQB (fast, NaN at slow), STL with nothing."""
    return made(
        {
            ("EW / slow", 0): {"test.rank_ic": 0.04},
            ("EW / slow", 1): {"test.rank_ic": 0.06},
            ("EW / fast", 0): {"test.rank_ic": 0.09},
            ("CQB / slow", 0): {"test.rank_ic": NAN},
            ("CQB / fast", 0): {"test.rank_ic": 0.01},
        }
    )


def heat(drawing: Drawing) -> Axes:
    axes: Axes = drawing.figure.axes[0]
    return axes


def texts(axes: Axes) -> dict[tuple[int, int], list[str]]:
    """(column, row) to what stands in the square."""
    found: dict[tuple[int, int], list[str]] = {}
    for text in axes.texts:
        x, y = text.get_position()
        found.setdefault((int(x), int(y)), []).append(text.get_text())
    return found


def test_squares_hold_the_mean_and_n(results: Results) -> None:
    (drawing,) = Heatmap(rows="method", columns="rate").make(results).drawings
    found = texts(heat(drawing))
    spread = (0.02**2 / 2) ** 0.5  # of 0.04 and 0.06 around 0.05, n - 1 = 1
    assert found[0, 0] == ["0.0500", f"\N{PLUS-MINUS SIGN}{spread:.4f}, n = 2"]
    assert found[1, 0] == ["0.0900", "n = 1"]
    assert found[1, 1] == ["0.0100", "n = 1"]
    values = heat(drawing).collections[0].get_array()
    np.testing.assert_allclose(np.ma.filled(values, -1), [[0.05, 0.09], [-1, 0.01], [-1, -1]])


def test_missing_squares_are_hatched_and_said(results: Results) -> None:
    (drawing,) = Heatmap(rows="method", columns="rate").make(results).drawings
    axes = heat(drawing)
    hatched = sorted((int(p.get_y()), int(p.get_x())) for p in axes.patches if p.get_hatch() == HATCH)
    assert hatched == [(1, 0), (2, 0), (2, 1)]
    assert [texts(axes)[column, row] for row, column in hatched] == [["missing"]] * 3
    assert "3 of 6 squares have no value (hatched)." in drawing.notes
    assert any("No finished run: STL / slow, STL / fast." in note for note in drawing.notes)


def test_levels_and_axes_are_named(results: Results) -> None:
    (drawing,) = Heatmap(rows="method", columns="rate", title="Map").make(results).drawings
    axes, bar = drawing.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "method")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["slow", "fast"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["EW", "CQB", "STL"]
    assert axes.get_ylim() == (3, 0)  # the first level of the file is on top
    assert bar.get_ylabel() == "RankIC, test"
    assert (drawing.name, drawing.title) == ("made-heatmap-test-rank-ic", "Map")


def test_the_scale_spans_the_values_and_darkens(results: Results) -> None:
    (drawing,) = Heatmap(rows="method", columns="rate").make(results).drawings
    mesh = heat(drawing).collections[0]
    assert mesh.norm.vmin == pytest.approx(0.01)
    assert mesh.norm.vmax == pytest.approx(0.09)
    shades = [luminance(mesh.cmap(place)) for place in np.linspace(0, 1, 20)]
    assert all(later < before for before, later in pairwise(shades))


def test_letters_can_be_read_on_every_square(results: Results) -> None:
    (drawing,) = Heatmap(rows="method", columns="rate").make(results).drawings
    mesh = heat(drawing).collections[0]
    for place in np.linspace(0, 1, 50):
        fill = mesh.cmap(place)
        ours = luminance(to_rgb(letters_on(fill)))
        light, dark = max(ours, luminance(fill)), min(ours, luminance(fill))
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2, level AA


def test_the_table_has_the_same_numbers(results: Results) -> None:
    shows = Heatmap(rows="method", columns="rate").make(results)
    (table,) = shows.tables
    assert table.header == ["method \\ rate", "slow", "fast"]
    assert [entry.text for entry in table.rows[0]] == [
        "EW",
        f"0.0500 (0.0141) {TIMES}2",
        f"0.0900 (\N{EN DASH}) {TIMES}1",
    ]
    assert table.rows[0][1].value == pytest.approx(0.05)
    assert [entry.text for entry in table.rows[2][1:]] == ["\N{EN DASH}"] * 2
    assert table.labels == 1


def test_seeds_without_the_figure_are_said(made: Callable[..., Results]) -> None:
    figures = {("EW / slow", 0): {"test.rank_ic": 0.04}, ("EW / slow", 1): {"test.ic": 0.1}}
    shows = Heatmap(rows="method", columns="rate").make(made(figures))
    said = "Without test.rank_ic, and so not in its mean: EW / slow (1 of 2 seeds)."
    assert said in shows.drawings[0].notes
    assert said in shows.tables[0].notes


def test_equal_values_have_a_scale_too(made: Callable[..., Results]) -> None:
    figures = {(cell, 0): {"test.rank_ic": 0.05} for cell in ("EW / slow", "EW / fast")}
    (drawing,) = Heatmap(rows="method", columns="rate").make(made(figures)).drawings
    mesh = heat(drawing).collections[0]
    assert mesh.norm.vmin < 0.05 < mesh.norm.vmax


def test_other_axes_make_drawings_of_their_own(made: Callable[..., Results]) -> None:
    axes: dict[str, Any] = {
        "method": {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}},
        "rate": {"slow": {"training.learning_rate": 0.1}, "fast": {"training.learning_rate": 0.2}},
        "net": {"LSTM": {"backbone": "lstm"}, "GRU": {"backbone": "gru"}},
    }
    results = made({("EW / slow / LSTM", 0): {"test.rank_ic": 0.05}}, axes=axes)
    shows = Heatmap(rows="method", columns="rate").make(results)
    assert [drawing.name for drawing in shows.drawings] == ["made-heatmap-test-rank-ic-LSTM"]
    told = [row[0].text for row in shows.tables[-1].rows]
    assert told[-1] == "GRU: No finished run has the figure test.rank_ic."


def test_a_figure_that_no_run_has(results: Results) -> None:
    shows = Heatmap(rows="method", columns="rate", figure="test.rank_ik").make(results)
    assert not shows.drawings
    assert "No finished run has the figure test.rank_ik." in [row[0].text for row in shows.tables[0].rows]


def test_rows_and_columns_are_two_axes() -> None:
    assert Heatmap(rows="a", columns="b").axes() == ["a", "b"]
    with pytest.raises(ValidationError, match="'a' for both rows and columns"):
        Heatmap(rows="a", columns="a")


@pytest.mark.parametrize(
    ("name", "label", "text"),
    [
        ("test.rank_ic", "RankIC, test", "0.1235"),
        ("valid.precision@10", "Precision@10, valid", "12.35%"),
        ("backtest.net.sharpe", "Sharpe, net", "0.12"),
        ("tasks.momentum.test.accuracy", "accuracy, momentum, test", "0.1235"),
    ],
)
def test_figures_are_called_and_written_as_in_the_report(name: str, label: str, text: str) -> None:
    found, write = figure_label(name)
    assert (found, write(0.12345678)) == (label, text)
