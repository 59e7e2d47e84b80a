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


def doubled(path: Path, *rows: Row) -> Ledger:
    """A file with the rows of several ledgers, as a merge of branches leaves it."""
    lines: list[str] = []
    for number, row in enumerate(rows):
        one = Ledger(path.with_name(f"branch{number}.csv"))
        one.add(row)
        head, line = one.path.read_text().splitlines()
        lines += [line] if lines else [head, line]
    path.write_text("\n".join(lines) + "\n")
    return Ledger(path)


def test_the_same_run_twice_is_one_row(tmp_path: Path) -> None:
    timed = replace(ROW, figures={**ROW.figures, "seconds": 10.0})
    other = replace(timed, seed=1)
    slower = replace(timed, figures={**timed.figures, "seconds": 12.0}, device="cuda H", finished="2026-01-02")
    ledger = doubled(tmp_path / "ledger.csv", timed, other, timed, slower)
    assert ledger.rows() == [timed, other]
    ledger.add(replace(timed, seed=2))
    assert [row.seed for row in Ledger(ledger.path).rows()] == [0, 1, 2]
    assert len(ledger.path.read_text().splitlines()) == 4  # and the file is mended


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"test.ic": 0.08, "epochs": 48}, "test.ic: 0.0712345 and 0.08"),
        ({"test.ic": 0.0712345, "epochs": 47}, "epochs: 48 and 47"),
    ],
)
def test_two_rows_of_one_run_that_differ_are_refused(tmp_path: Path, figures: dict[str, float], said: str) -> None:
    ledger = doubled(tmp_path / "ledger.csv", ROW, replace(ROW, seed=1), replace(ROW, figures=figures))
    before = ledger.path.read_text()
    whose = "ledger.csv, lines 2 and 4: two rows of study table1, cell LSTM / EW, plain, seed 0"
    for use in (ledger.rows, lambda: ledger.add(ROW)):
        with pytest.raises(RunError, match=rf"{whose} .*\({said}\).*; delete the row that is wrong"):
            use()
    assert ledger.path.read_text() == before


def test_other_settings_are_no_contradiction(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, config="x", figures={"test.ic": 1.0, "epochs": 1}), replace(ROW, data="x")]
    assert doubled(tmp_path / "ledger.csv", *rows).rows() == rows


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.add(ROW)
    before = ledger.path.read_text()

    def full(self: Path, text: str) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            ledger.add(replace(ROW, seed=1))
    assert ledger.path.read_text() == before
    ledger.add(replace(ROW, seed=1))
    assert ledger.rows() == [ROW, replace(ROW, seed=1)]
