"""The maps of what the sharing structure does."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from mimstocr.report import ReportInputs, render
from mimstocr.report.sharing import SEEDS_SHOWN, mixing_map, sharing_charts

GATE = {
    "name": "gate <x>",
    "meaning": "Weights.",
    "rows": ["return", "a<b"],
    "columns": ["expert 1", "expert 1"],
    "values": {"0": [[0.25, 0.75], [None, 1.0]]},
}


def inputs(sharing: dict[str, Any]) -> ReportInputs:
    empty = pl.DataFrame()
    return ReportInputs("run", {}, {}, {}, [], {}, empty, empty, empty, empty, sharing=sharing)


def test_a_map_shows_every_value_where_it_belongs() -> None:
    figure = mixing_map({"0": np.array([[0.25, 0.75], [np.nan, 1.0]])}, GATE["rows"], GATE["columns"])
    (panel,) = figure.data
    assert np.array_equal(panel.z, [[0.25, 0.75], [np.nan, 1.0]], equal_nan=True)
    assert [list(row) for row in panel.text] == [["0.250", "0.750"], ["", "1.000"]]
    assert list(panel.x) == list(panel.y) == [0, 1]  # two columns of one name stay two
    assert list(figure.layout.xaxis.ticktext) == ["expert 1", "expert 1"]
    assert list(figure.layout.yaxis.ticktext) == ["return", "a&lt;b"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert (panel.zmin, panel.zmax) == (0, 1)


def test_values_of_both_signs_have_their_zero_in_the_middle() -> None:
    (panel,) = mixing_map({"0": np.array([[0.9, -0.2]])}, ["a"], ["a", "b"]).data
    assert (panel.zmin, panel.zmax) == (-0.9, 0.9)


@pytest.mark.parametrize(("n", "places"), [(1, ["x"]), (3, ["x", "x2", "x3"]), (4, ["x", "x2", "x3", "x4"])])
def test_a_panel_a_seed_on_one_scale(n: int, places: list[str]) -> None:
    figure = mixing_map({str(seed): np.full((2, 2), seed + 1.0) for seed in range(n)}, ["a", "b"], ["c", "d"])
    assert [panel.xaxis for panel in figure.data] == places
    assert {panel.zmax for panel in figure.data} == {float(n)}
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ([f"Seed {seed}" for seed in range(n)] if n > 1 else [])


def test_charts_say_what_they_show() -> None:
    (chart,) = sharing_charts(inputs({"days": ["2020-01-02"], "tables": [GATE]}))
    assert (chart.name, chart.head) == ("sharing-0", "Gate <x>")
    assert chart.caption == "Weights. Of the best epoch, on 1 validation day."
    many = {**GATE, "values": {str(seed): [[0.5, 0.5], [0, 1]] for seed in range(SEEDS_SHOWN + 2)}}
    (chart,) = sharing_charts(inputs({"days": ["2020-01-02"] * 3, "tables": [many]}))
    assert chart.caption == "Weights. Of the best epoch, on 3 validation days. The first 4 of 6 seeds."


def test_what_cannot_be_drawn_is_left_out() -> None:
    tables = [
        {},
        {**GATE, "values": {}},
        {**GATE, "values": {"0": [[0.5], [0.5]]}},  # not the table's shape
        {**GATE, "values": {"0": [[None, None], [None, None]]}},
    ]
    assert sharing_charts(inputs({"tables": tables})) == []
    assert sharing_charts(inputs({})) == []


def test_the_page_holds_the_maps_and_no_tag_of_a_name() -> None:
    page = render(inputs({"days": ["2020-01-02"], "tables": [GATE, GATE]}))
    assert 'data-chart="sharing-0"' in page
    assert 'data-chart="sharing-1"' in page
    assert "gate <x>" not in page.lower()
    assert 'data-chart="sharing' not in render(inputs({}))
