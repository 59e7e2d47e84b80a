"""`mimstocr positions`: the weights to hold after a day."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class Format(StrEnum):
    """How the weights are printed."""

    table = "table"
    csv = "csv"
    json = "json"


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    day: Annotated[
        str | None,
        typer.Option(
            "--date",
            metavar="YYYY-MM-DD[THH:MM]",
            help="A trading day, or the time of a bar within the day; default: the last of the data.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Another address, read with the run's data settings, such as newer prices.")
    ] = None,
    shape: Annotated[
        Format, typer.Option("--format", help="table: to read; csv: the weights; json: everything.")
    ] = Format.table,
) -> None:
    """Print the weights that a run of positions, or of an agent, wants to hold after a day's close.

    They are those that its backtest would trade: longs, shorts, and the cash that is in no position.
    """
    import json

    from mimstocr.cli.days import read_day
    from mimstocr.cli.tables import print_positions
    from mimstocr.live import positions

    found = positions(run, day=None if day is None else read_day(day, "--date"), source=source)
    if shape is Format.csv:
        typer.echo(found.table.write_csv(), nl=False)
    elif shape is Format.json:
        typer.echo(json.dumps(found.plain(), indent=1))
    else:
        print_positions(Console(), found, run.resolve().name)
