"""What a study came to: its tables and figures made, and written side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimstocr.data.panel import few, repeated
from mimstocr.errors import ConfigError
from mimstocr.studies.compare import comparisons
from mimstocr.studies.exhibits.base import Drawing, Shows, Table
from mimstocr.studies.ledger import Ledger
from mimstocr.studies.page import save_drawing, study_page
from mimstocr.studies.results import Results, collect
from mimstocr.studies.study import Grid
from mimstocr.studies.write import WRITERS


@dataclass(frozen=True)
class Showing:
    """A study's results and what is made of them."""

    results: Results
    shows: Sequence[tuple[str, Shows]]
    """Title and what the exhibit made, in the order of the file."""
    comparisons: Sequence[Table]

    @property
    def tables(self) -> list[Table]:
        """All tables, comparisons last."""
        return [*(table for _, shows in self.shows for table in shows.tables), *self.comparisons]

    @property
    def drawings(self) -> list[Drawing]:
        """All figures."""
        return [drawing for _, shows in self.shows for drawing in shows.drawings]

    def account(self) -> str:
        """How complete it is, in a line."""
        states = Counter(run.state for run in self.results.runs)
        parts = [f"{states['finished']} of {len(self.results.runs)} runs finished"]
        parts += [f"{states[state]} {state}" for state in ("unfinished", "failed", "missing") if states[state]]
        if known := sum(run.state == "finished" and run.folder is None for run in self.results.runs):
            parts.append(f"{known} known from the ledger alone")
        return "; ".join([", ".join(parts), *self.results.left_out()])


def show_study(grid: Grid, out: Path, ledger: Ledger | None = None, against: str | None = None) -> Showing:
    """Tables, figures and comparisons of what has finished, under `out` or in the ledger.

    Raises ConfigError when `against` is no level that is shown.
    """
    results = collect(grid, out, ledger)
    shows = [(exhibit.title or grid.study.title, exhibit.make(results)) for exhibit in grid.study.show]
    return Showing(results, shows, comparisons(results, against) if against is not None else [])


def write_showing(showing: Showing, folder: Path) -> Path:
    """Every table as Markdown, LaTeX and CSV, every figure as SVG and PNG, all of it as a page. Gives the page.

    Raises ConfigError when two of them would have one name.
    """
    tables = [table.name for table in showing.tables]
    drawings = [drawing.name for drawing in showing.drawings]
    if twice := repeated(tables) + repeated(drawings):
        raise ConfigError(
            f"study {showing.results.grid.name}: what it shows would write {few(twice)} twice; "
            "let its exhibits differ in kind or settings"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for table in showing.tables:
        for suffix, write in WRITERS.values():
            _write(folder / f"{table.name}.{suffix}", write(table))
    for drawing in showing.drawings:
        save_drawing(drawing, folder)
    page = folder / "index.html"
    _write(page, study_page(showing.results, showing.shows, showing.comparisons))
    return page


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
