"""The page of a study whose results are made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from mimstocr.runs import RunFolder
from mimstocr.studies.exhibits._style import styled
from mimstocr.studies.exhibits.base import Drawing, Entry, Shows, Table
from mimstocr.studies.exhibits.heatmap import Heatmap
from mimstocr.studies.page import inline_svg, png_bytes, save_drawing, study_page, svg_bytes
from mimstocr.studies.results import Results
from mimstocr.studies.study import config_hash

EVIL = "<script>alert('x')</script>"


class Reader(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.spans: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.elements and self.elements[-1][0] == "span":
            self.spans.append((self.elements[-1][1].get("class") or "", data))

    def values(self, *names: str) -> list[str]:
        return [value for _, attrs in self.elements for name, value in attrs.items() if name in names and value]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def whole(made: Callable[..., Results], **changes: Any) -> Results:
    """Cells with one and two seeds, and without any."""
    figures: Mapping[tuple[str, int], Mapping[str, float]] = {
        ("EW / slow", 0): {"test.rank_ic": 0.0412, "valid.rank_ic": 0.0523, "best_epoch": 7.0, "seconds": 3725.0},
        ("EW / slow", 1): {"test.rank_ic": 0.0634, "valid.rank_ic": 0.0645, "best_epoch": 9.0, "seconds": 65.0},
        ("EW / fast", 0): {"test.rank_ic": 0.09},
        ("CQB / fast", 0): {"test.rank_ic": 0.01},
    }
    results = made(figures, **changes)
    runs = list(results.runs)
    failed = next(i for i, run in enumerate(runs) if run.cell.name == "STL / slow")
    runs[failed] = replace(runs[failed], state="failed")
    runs[0] = replace(runs[0], folder=RunFolder(Path("/somewhere/runs/cells/gru-ew-123-seed0")))
    return replace(results, runs=runs, stale=2, gone=1)


@pytest.fixture
def results(made: Callable[..., Results]) -> Results:
    return whole(made)


def heat(results: Results) -> Shows:
    return Heatmap(rows="method", columns="rate").make(results)


TABLE = Table(
    "made-table",
    "Ranking",
    ["method", "IC"],
    [[Entry("EW"), Entry("0.0512 (1.2)", "best", 0.0512)], [Entry("CQB"), Entry("0.0498 (0.3)", "second", 0.0498)]],
    1,
    ["mean over seeds"],
)


def test_every_place_of_every_table_is_there(results: Results) -> None:
    comparison = replace(TABLE, title="Against EW", rows=[[Entry("CQB"), Entry("-0.0014")]])
    reader = read(study_page(results, [("First", Shows([TABLE])), ("Second", heat(results))], [comparison]))
    text = "".join(reader.text)
    tables = [TABLE, comparison, *heat(results).tables]
    for wanted in (
        word for table in tables for word in [*table.header, *table.notes, *(e.text for r in table.rows for e in r)]
    ):
        assert wanted in text
    assert ("best", "0.0512 (1.2)") in reader.spans
    assert ("second", "0.0498 (0.3)") in reader.spans
    assert "Against EW" in text


def test_figures_are_in_the_page_with_their_notes(results: Results) -> None:
    shows = heat(results)
    page = study_page(results, [("Map", shows), ("Map again", shows)], [])
    assert page.count("<svg") == 2
    text = "".join(read(page).text)
    assert all(note in text for note in shows.drawings[0].notes)


def test_ids_are_unique_and_every_reference_has_its_target(results: Results) -> None:
    reader = read(study_page(results, [("Map", heat(results)), ("Map again", heat(results))], []))
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    targets = [value[1:] for value in reader.values("href", "xlink:href") if value.startswith("#")]
    clips = [found for value in reader.values("clip-path", "style") for found in re.findall(r"url\(#(.*?)\)", value)]
    assert len(targets) > 50
    assert clips
    assert set(targets) | set(clips) <= set(ids)


def test_nothing_is_loaded(results: Results) -> None:
    page = study_page(results, [("Map", heat(results))], [TABLE])
    reader = read(page)
    for value in reader.values("href", "xlink:href", "src"):
        assert value.startswith(("#", "data:", "../../cells/")), value
    assert "default-src 'none'" in page
    assert not {tag for tag, _ in reader.elements} & {"script", "iframe", "object", "img"}
    assert not re.findall(r"url\((?!#)", page)
    assert page.count("<style") == 1  # that of a figure would hold for the whole page


def test_the_runs_and_their_states(results: Results) -> None:
    page = study_page(results, [], [])
    text = re.sub(r"\s+", " ", "".join(read(page).text))
    assert "4 of 12" in text
    assert "1 failed, 7 missing" in text
    assert "0 of 6" not in text
    assert "1 of 6" in text  # one cell has all of its seeds
    assert "Failed. STL / slow seed 0." in text
    assert "Ledger. 2 rows of the ledger left out, made with other settings; 1 row of the ledger left out" in text
    assert "finished, known from the ledger alone" in text
    row = next(row for row in page.split("<tr>") if "EW / slow" in row)
    assert re.findall(r">([^<>]+)</td>", row)[2:] == [
        "7",
        "\N{EN DASH}",
        "0.0523",
        "0.0412",
        "1 h 02 min",
    ]


def test_reports_are_linked_beside_the_page(results: Results) -> None:
    links = [value for value in read(study_page(results, [], [])).values("href") if "report" in value]
    assert links == ["../../cells/gru-ew-123-seed0/report.html"]


def test_settings_and_hashes_of_the_cells(results: Results) -> None:
    text = "".join(read(study_page(results, [], [])).text)
    assert "training.learning_rate: 0.1" in text
    assert "balancer: cqb" in text
    for cell in results.grid.cells:
        assert config_hash(cell.config) in text


def test_settings_are_written_as_in_the_file(made: Callable[..., Results]) -> None:
    axes = {"method": {"A": {"balancer": {"kind": "cqb", "beta": 0.4}, "evaluation.ndcg_at": [5, 10]}, "B": {}}}
    text = "".join(read(study_page(made({}, axes=axes, show=[{"kind": "table", "rows": ["method"]}]), [], [])).text)
    assert "balancer: {kind: cqb, beta: 0.4}\nevaluation.ndcg_at: [5, 10]" in text
    assert "nothing" in text


def test_hostile_names_are_only_text(made: Callable[..., Results]) -> None:
    axes = {
        "method": {f"{EVIL} -->": {"balancer": "ew"}, "$x^$ & \"q'": {"balancer": "cqb"}},
        "rate": {"_hidden": {"training.learning_rate": 0.1}, "--!>": {"training.learning_rate": 0.2}},
    }
    show = [{"kind": "table", "rows": ["method", "rate"]}]
    results = made({(f"{EVIL} --> / _hidden", 0): {"test.rank_ic": 0.05}}, axes=axes, title=EVIL, show=show)
    table = replace(TABLE, title=EVIL, header=[EVIL, "IC"], rows=[[Entry(EVIL), Entry(EVIL, "best")]], notes=[EVIL])
    reader = read(study_page(results, [(EVIL, heat(results)), (EVIL, Shows([table]))], [table]))
    assert "script" not in {tag for tag, _ in reader.elements}
    assert "".join(reader.text).count(EVIL) > 8
    assert not [name for _, attrs in reader.elements for name in attrs if name.startswith("on")]


def test_missing_figures_leave_dashes_and_no_folder_leaves_no_link(made: Callable[..., Results]) -> None:
    page = study_page(made({}), [("Map", heat(made({})))], [])
    assert "0 of 12" in page
    assert "report.html" not in page
    assert "No finished run has the figure test.rank_ic." in page


def test_saved_figures_are_the_same_bytes_each_time(results: Results, tmp_path: Path) -> None:
    (drawing,) = heat(results).drawings
    paths = save_drawing(drawing, tmp_path / "new")
    assert [path.name for path in paths] == ["made-heatmap-test-rank-ic.svg", "made-heatmap-test-rank-ic.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    before = [path.read_bytes() for path in paths]
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "none", "savefig.facecolor": "red", "savefig.dpi": 10}):
        (again,) = heat(results).drawings  # drawn anew, whatever the user has set
        assert [path.read_bytes() for path in save_drawing(again, tmp_path)] == before
    assert b"<dc:date>" not in before[0]
    assert b"<text" not in before[0]  # letters are shapes


def test_a_png_has_200_dots_an_inch(results: Results) -> None:
    (drawing,) = heat(results).drawings
    content = png_bytes(drawing)
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == pytest.approx(tuple(drawing.figure.get_size_inches() * 200), abs=1)


def test_settings_of_matplotlib_are_left_alone(results: Results, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    (drawing,) = heat(results).drawings
    save_drawing(drawing, tmp_path)
    study_page(results, [("Map", heat(results))], [])
    assert dict(mpl.rcParams) == before


def test_an_inline_figure_says_what_it_is_and_carries_no_comments() -> None:
    from matplotlib.figure import Figure

    with styled():
        figure = Figure((2, 1))
        figure.subplots().set_title("a -- b --!> c")
    drawing = Drawing("one", "Losses & <gains>", figure)
    assert b"<!-- a" in svg_bytes(drawing)
    svg = inline_svg(drawing, "f9-")
    assert "<!--" not in svg
    assert 'aria-label="Losses &amp; &lt;gains&gt;"' in svg
    assert svg.startswith("<svg role=")
    assert 'id="f9-figure_1"' in svg


def test_settings_on_top_of_all_are_told(made: Callable[..., Results]) -> None:
    results = made({})
    grid = replace(results.grid, base="smoke", on_top=["tasks.return.delay=1", "training.max_epochs=3"])
    text = "".join(read(study_page(replace(results, grid=grid), [], [])).text)
    assert "starts from the config smoke;" in text
    assert "on top of all: tasks.return.delay=1; training.max_epochs=3." in text
