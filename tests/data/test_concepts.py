"""Concept tables at the door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimstocr.data.concepts import add_concepts, concept_names, read_concepts
from mimstocr.data.panel import Panel, fingerprint, make_panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel
from mimstocr.errors import DataError


def panel_of(*symbols: str) -> Panel:
    days = np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]")
    return make_panel({"close": np.ones((3, len(symbols)))}, days, symbols, source="made")


def written(folder: Path, text: str) -> Path:
    path = folder / "concepts.csv"
    path.write_text(text)
    return path


def test_many_to_many_each_once(tmp_path: Path) -> None:
    table = read_concepts(written(tmp_path, "symbol,concept\nA,x\nA,y\nB, x \nA,x\n"))
    panel = add_concepts(panel_of("B", "A"), table, "table")
    assert concept_names(panel) == ["x", "y"]
    assert panel["concepts"].values.tolist() == [[True, False], [True, True]]


def test_two_columns_of_any_name_will_do(tmp_path: Path) -> None:
    assert read_concepts(written(tmp_path, "stock,industry\nA,x\n")).rows() == [("A", "x")]


def test_symbols_missing_and_unknown_are_counted_and_said(tmp_path: Path) -> None:
    table = read_concepts(written(tmp_path, "symbol,concept\nA,x\nZ,x\nZ,alone\n"))
    panel = add_concepts(panel_of("A", "B", "C"), table, "table")
    assert panel.attrs["notes"] == [
        "table: 1 concepts of 1 of 3 symbols",
        "table: 2 symbols have no concept (B, C)",
        "table: 1 of its symbols are not among the prices (Z)",
    ]
    assert not panel["concepts"].values[1:].any()


def test_the_fingerprint_knows_the_concepts(tmp_path: Path) -> None:
    bare = panel_of("A", "B")
    one = add_concepts(bare, read_concepts(written(tmp_path, "symbol,concept\nA,x\n")), "table")
    other = add_concepts(one, read_concepts(written(tmp_path, "symbol,concept\nB,x\n")), "table")
    assert len({fingerprint(panel) for panel in (bare, one, other)}) == 3
    assert not one["concepts"].values.flags.writeable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("symbol,concept\n", "no row in it"),
        ("a,b,c\n1,2,3\n", "expected the columns symbol and concept, got a, b, c"),
        ("symbol,concept\nA,x\nB,\n", "1 rows lack a symbol or a concept, the first on line 3"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_concepts(written(tmp_path, text))


def test_a_missing_file_and_a_table_of_another_market_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_concepts(tmp_path / "none.csv")
    table = read_concepts(written(tmp_path, "symbol,concept\nSH600000,bank\n"))
    with pytest.raises(DataError, match=r"none of its symbols is in made .it has SH600000; the prices have A, B"):
        add_concepts(panel_of("A", "B"), table, "table")


def test_the_setting_brings_them_into_the_panel(prices: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "symbol,concept\nS00,x\nS01,x\n")
    panel = load_panel(DataSettings(source=f"parquet:{prices}", concepts=path))
    assert panel["concepts"].values[:, 0].tolist() == [True, True] + [False] * 10
