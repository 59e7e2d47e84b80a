"""The ledger: one row a finished run, in a CSV file that can be committed, so that results add up over days."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mimstocr.errors import RunError

KEY = ("study", "cell", "seed", "config", "data")
ABOUT = (*KEY, "device", "version", "finished")


@dataclass(frozen=True)
class Row:
    """One run."""

    study: str
    cell: str
    seed: int
    config: str
    """`config_hash` of its settings."""
    data: str
    """Fingerprint of its panel."""
    device: str
    version: str
    """Of mimstocr."""
    finished: str
    """The day on which it finished, ISO."""
    figures: Mapping[str, float]
    """Best epoch, epochs, seconds, and all metrics."""


@dataclass(frozen=True)
class Ledger:
    """A CSV file of rows; columns are the union of what the rows have."""

    path: Path

    def rows(self) -> list[Row]:
        """All rows, each run once; none when the file is not there.

        Raises RunError naming the line that cannot be read, or two lines that tell different figures of one run.
        """
        if not self.path.is_file():
            return []
        found: dict[tuple[str | int, ...], tuple[int, Row]] = {}
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in ABOUT if name not in (reader.fieldnames or ())]:
                raise RunError(
                    f"{self.path}: expected a ledger with columns {', '.join(ABOUT)}; it lacks {', '.join(missing)}"
                )
            for line in reader:
                try:
                    if None in line.values() or None in line:
                        raise ValueError(f"expected {len(reader.fieldnames or ())} values")
                    figures = {name: float(value) for name, value in line.items() if name not in ABOUT and value}
                    about = {name: line[name] for name in ABOUT if name != "seed"}
                    row = Row(seed=int(line["seed"]), figures=figures, **about)
                except (TypeError, ValueError) as error:
                    raise RunError(f"{self.path}, line {reader.line_num}: not a row of a ledger ({error})") from None
                first, kept = found.setdefault(_key(row), (reader.line_num, row))
                if other := _contrary(kept, row):
                    raise RunError(
                        f"{self.path}, lines {first} and {reader.line_num}: two rows of study {row.study}, cell "
                        f"{row.cell}, seed {row.seed} have the same settings and data but other figures ({other}), as "
                        "a merge may leave them; delete the row that is wrong"
                    )
        return [row for _, row in found.values()]

    def add(self, row: Row) -> None:
        """Put a row in, in place of an older one of the same study, cell, seed, settings and data.

        Other processes wait meanwhile; a row that is there already is not written again.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            rows = self.rows()
            place = next((i for i, old in enumerate(rows) if _key(old) == _key(row)), len(rows))
            if place < len(rows) and _written(rows[place]) == _written(row):
                return
            rows[place : place + 1] = [row]
            self._write(rows)

    def _write(self, rows: list[Row]) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row.figures))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*ABOUT, *names])
        for row in rows:
            figures = _written(row)
            writer.writerow([*(getattr(row, name) for name in ABOUT), *(figures.get(name, "") for name in names)])
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(text.getvalue())
        partial.replace(self.path)


def _key(row: Row) -> tuple[str | int, ...]:
    return tuple(getattr(row, name) for name in KEY)


def _contrary(one: Row, other: Row) -> str:
    """A figure that both rows of a run have and differ in, in words; empty when none does. Seconds do not count."""
    here, there = _written(one), _written(other)
    name = next((name for name in here if name != "seconds" and name in there and here[name] != there[name]), None)
    return "" if name is None else f"{name}: {here[name]} and {there[name]}"


def _written(row: Row) -> dict[str, str]:
    """Its figures as the file has them."""
    return {name: f"{value:.6g}" for name, value in row.figures.items()}
