"""Tables as text: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from mimstocr.studies.exhibits.base import Entry, Table


def markdown(table: Table) -> str:
    """A GitHub table: best bold, second underlined, notes below."""
    dress = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}
    lines = [f"**{_cell(table.title)}**", "", _row([_cell(name) for name in table.header])]
    lines.append(_row([":--"] * table.labels + ["--:"] * (len(table.header) - table.labels)))
    lines += [_row([dress[entry.mark].format(_cell(entry.text)) for entry in row]) for row in table.rows]
    lines += ["", *(f"{_cell(note)}.  " for note in table.notes)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A booktabs table: best bold, second underlined; a level that repeats the row above is left blank."""
    dress = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
    columns = "l" * table.labels + "r" * (len(table.header) - table.labels)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(_tex(name) for name in table.header) + r" \\", r"\midrule"]
    before: list[str] = []
    for row in table.rows:
        labels = [entry.text for entry in row[: table.labels]]
        shown = [
            "" if labels[: i + 1] == before[: i + 1] and i + 1 < table.labels else labels[i] for i in range(len(labels))
        ]
        if before and labels[0] != before[0] and table.labels > 1:
            lines.append(r"\midrule")
        figures = [dress[entry.mark].format(_tex(entry.text)) for entry in row[table.labels :]]
        lines.append(" & ".join([*(_tex(label) for label in shown), *figures]) + r" \\")
        before = labels
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\small {_tex(note)}." for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def comma_separated(table: Table) -> str:
    """CSV: the number behind each place at full precision, else its text.

    A column of means over seeds has columns for their standard deviation and number beside it, and for the level
    that validation chose.
    """
    columns = list(zip(*table.rows, strict=True))
    more = [[part for part in PARTS if any(getattr(entry, part) is not None for entry in column)] for column in columns]
    more += [[] for _ in range(len(table.header) - len(more))]  # a table without rows
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([text for name, parts in zip(table.header, more, strict=True) for text in _heads(name, parts)])
    for row in table.rows:
        writer.writerow([text for entry, parts in zip(row, more, strict=True) for text in _values(entry, parts)])
    return out.getvalue()


PARTS = ("std", "seeds", "chosen")
"""What a mean over seeds has beside it in CSV."""

WRITERS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": ("md", markdown),
    "latex": ("tex", latex),
    "csv": ("csv", comma_separated),
}
"""Format to the suffix of its file and what writes it."""


def _heads(name: str, parts: list[str]) -> list[str]:
    return [name, *(f"{name} {part}" for part in parts)]


def _values(entry: Entry, parts: list[str]) -> list[str]:
    beside = [getattr(entry, part) for part in parts]
    return [entry.text if entry.value is None else repr(entry.value), *("" if x is None else str(x) for x in beside)]


def _row(parts: list[str]) -> str:
    return "| " + " | ".join(parts) + " |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    special |= {"\N{MULTIPLICATION SIGN}": r"$\times$", "\N{UPWARDS ARROW}": r"$\uparrow$", "\N{EN DASH}": "--"}
    text = text.replace("\u207b\u00b3", "\0")
    return "".join(special.get(sign, sign) for sign in text).replace("\0", "$^{-3}$")
