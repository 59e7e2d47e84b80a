"""Tables as Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from mimstocr.errors import ConfigError
from mimstocr.studies.exhibits import Entry, Table
from mimstocr.studies.results import Results
from mimstocr.studies.show import Showing, write_showing
from mimstocr.studies.write import comma_separated, latex, markdown

TABLE = Table(
    name="made",
    title="A & B_1",
    header=["backbone", "method", "IC ↑"],
    rows=[
        [Entry("LSTM"), Entry("EW|x"), Entry("0.06 (1.0) ×2", "best", 0.0612345)],
        [Entry("LSTM"), Entry("50 %"), Entry("0.05 (–) ×1", "second", 0.05)],
        [Entry("GATs"), Entry("EW|x"), Entry("–")],
    ],
    labels=2,
    notes=["std ×10⁻³"],
)


def test_markdown() -> None:
    assert markdown(TABLE).splitlines() == [
        "**A & B_1**",
        "",
        "| backbone | method | IC ↑ |",
        "| :-- | :-- | --: |",
        r"| LSTM | EW\|x | **0.06 (1.0) ×2** |",
        "| LSTM | 50 % | <u>0.05 (–) ×1</u> |",
        r"| GATs | EW\|x | – |",
        "",
        "std ×10⁻³.  ",
    ]


def test_latex() -> None:
    assert latex(TABLE).splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{A \& B\_1}",
        r"\begin{tabular}{llr}",
        r"\toprule",
        r"backbone & method & IC $\uparrow$ \\",
        r"\midrule",
        r"LSTM & EW|x & \textbf{0.06 (1.0) $\times$2} \\",
        r" & 50 \% & \underline{0.05 (--) $\times$1} \\",
        r"\midrule",
        r"GATs & EW|x & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\small std $\times$10$^{-3}$.",
        r"\end{table}",
    ]


def test_csv_has_the_numbers_behind_the_places() -> None:
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows == [
        ["backbone", "method", "IC ↑"],
        ["LSTM", "EW|x", "0.0612345"],
        ["LSTM", "50 %", "0.05"],
        ["GATs", "EW|x", "–"],
    ]


def test_two_of_one_name_are_refused(made: Callable[..., Results], tmp_path: Path) -> None:
    table = {"kind": "table", "rows": ["method", "rate"]}
    results = made({}, show=[table, table])
    shows = [("", exhibit.make(results)) for exhibit in results.grid.study.show]
    with pytest.raises(ConfigError, match="study made: what it shows would write made twice"):
        write_showing(Showing(results, shows, []), tmp_path / "shown")
    assert not (tmp_path / "shown").exists()


def test_csv_of_means_over_seeds_has_all_that_the_text_says() -> None:
    entry = Entry("0.06 (1.0) ×2 at fast", "best", 0.061, std=0.001, seeds=2, chosen="fast")
    table = Table("made", "made", ["method", "IC", "RankIC"], [[Entry("EW"), entry, Entry("–")]], 1)
    rows = list(csv.reader(io.StringIO(comma_separated(table))))
    assert rows == [
        ["method", "IC", "IC std", "IC seeds", "IC chosen", "RankIC"],
        ["EW", "0.061", "0.001", "2", "fast", "–"],
    ]
    assert comma_separated(Table("made", "made", ["method", "IC"], [], 1)) == "method,IC\n"
