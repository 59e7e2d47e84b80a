"""`mimstocr study`: run what is missing of a study, and show what it came to."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mimstocr.studies.study import Grid


class Format(StrEnum):
    """How tables are printed."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


def command(
    study: Annotated[str, typer.Argument(help="A YAML file, or a shipped study, such as table1.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE ...]",
            help="Settings on top of every cell, such as data.source=qlib:PATH.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Run nothing; show what has finished.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="The small form, on data that come with a package.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="AXIS=LEVEL,LEVEL", help="Cells at these levels alone.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2", help="Other seeds than the file's.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once; by default one a core that this process may use, or a CUDA device."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Compare every cell to the one with this level, such as EW.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How tables are printed.")] = Format.TERMINAL,
    out: Annotated[Path, typer.Option(help="Folder of all runs and what is made of them.")] = Path("runs"),
    ledger: Annotated[
        Path | None, typer.Option(help="CSV of one row a finished run; by default ledger.csv under --out.")
    ] = None,
) -> None:
    """Run what is missing of a study, and show its tables and figures.

    Cells that agree in all settings are run once, whatever study asks for them. Ctrl-C stops all, saved; the same
    command goes on. A run that fails, or that another process has in use, is reported, and the rest go on.
    """
    from mimstocr.cli.study_progress import study_progress
    from mimstocr.cli.tables import print_table
    from mimstocr.studies.ledger import Ledger
    from mimstocr.studies.runner import run_study
    from mimstocr.studies.show import show_study, write_showing
    from mimstocr.studies.study import load_study
    from mimstocr.studies.write import WRITERS

    grid = _part(load_study(study, settings or (), smoke=smoke), only or [], seeds)
    book = Ledger(ledger or out / "ledger.csv")
    talk = Console(stderr=True)  # what is not a table stays out of a pipe
    left = stopped = False
    if not show:
        with study_progress(talk, grid.name) as watcher:
            outcome = run_study(grid, out, jobs=jobs, watcher=watcher, ledger=book)
        left, stopped = bool(outcome.failed or outcome.in_use), outcome.stopped
    showing = show_study(grid, out, book, against)
    page = write_showing(showing, out / "studies" / grid.name)
    for table in showing.tables:
        if output is Format.TERMINAL:
            print_table(Console(), table)
        else:
            typer.echo(WRITERS[output.value][1](table))
    talk.print(f"{showing.account()}; all of it in {page.parent}", soft_wrap=True, highlight=False, markup=False)
    if stopped:
        talk.print("stopped and saved; the same command goes on", highlight=False)
        raise typer.Exit(130)
    if left:
        raise typer.Exit(3)


def _part(grid: Grid, only: list[str], seeds: str | None) -> Grid:
    from mimstocr.errors import ConfigError

    levels: dict[str, list[str]] = {}
    for text in only:
        axis, equals, names = text.partition("=")
        if not equals or not names:
            raise ConfigError(f"--only: expected AXIS=LEVEL,LEVEL, got {text!r}")
        axis = axis.strip()
        whole = names in grid.study.levels(axis)  # a level may have a comma in its name
        levels.setdefault(axis, []).extend([names] if whole else [name.strip() for name in names.split(",")])
    try:
        numbers = [int(seed) for seed in seeds.split(",")] if seeds else None
    except ValueError:
        raise ConfigError(f"--seeds: expected numbers such as 0,1,2, got {seeds!r}") from None
    return grid.part(levels, numbers)
