"""The ledger on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mimstocr.errors import RunError
from mimstocr.studies.ledger import Ledger, Row

ROW = Row(
    "table1", "LSTM / EW, plain", 0, "abc", "def", "cpu", "0.1.0", "2026-01-01", {"test.ic": 0.0712345, "epochs": 48}
)


def test_rows_come_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "ledger.csv")
    assert ledger.rows() == []
    other = replace(ROW, seed=1, figures={"test.ic": -1e-9, "valid.ic": 2.0})
    ledger.add(ROW)
    ledger.add(other)
    assert ledger.rows() == [ROW, other]


def test_a_run_has_one_row(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.add(ROW)
    ledger.add(replace(ROW, seed=1))
    ledger.add(replace(ROW, figures={"test.ic": 0.5}))
    assert [(row.seed, row.figures["test.ic"]) for row in ledger.rows()] == [(0, 0.5), (1, 0.0712345)]


def test_other_settings_and_other_data_have_rows_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    rows = [
        ROW,
        replace(ROW, config="other"),
        replace(ROW, data="other"),
        replace(ROW, cell="x"),
        replace(ROW, study="y"),
    ]
    for row in rows:
        ledger.add(row)
    assert ledger.rows() == rows


def test_a_row_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.add(ROW)
    before = ledger.path.stat().st_mtime_ns
    ledger.add(replace(ROW, figures={**ROW.figures, "test.ic": 0.07123451}))  # the same at six digits
    assert ledger.path.stat().st_mtime_ns == before


def test_a_row_cut_short_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.add(ROW)
    text = ledger.path.read_text()
    ledger.path.write_text(text.rpartition(",")[0] + "\n")
    with pytest.raises(RunError, match=r"ledger.csv, line 2: not a row of a ledger .expected 10 values"):
        ledger.rows()


def test_writers_do_not_lose_each_others_rows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: ledger.add(replace(ROW, seed=seed)), range(24)))
    assert sorted(row.seed for row in ledger.rows()) == list(range(24))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", r"expected a ledger with columns study, cell, seed, .*; it lacks study"),
        (
            "study,cell,seed,config,data,device,version,finished,x\na,b,one,c,d,e,f,g,1\n",
            r"ledger.csv, line 2: not a row",
        ),
        (
            "study,cell,seed,config,data,device,version,finished,x\na,b,1,c,d,e,f,g,no\n",
            r"ledger.csv, line 2: not a row",
        ),
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=said):
        Ledger(path).rows()
    with pytest.raises(RunError, match=said):
        Ledger(path).add(ROW)
    assert path.read_text() == text
