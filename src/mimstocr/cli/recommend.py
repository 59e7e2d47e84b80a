"""`mimstocr recommend`: the list of a day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


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
    top: Annotated[int | None, typer.Option(min=1, help="Only the best so many.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Another address, read with the run's data settings, such as newer prices.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write CSV there instead.")] = None,
) -> None:
    """Rank the stocks of a day, best first; by default the last day of the data, whose outcome is not known yet."""
    from mimstocr.cli.days import read_day
    from mimstocr.cli.tables import print_list
    from mimstocr.errors import ConfigError
    from mimstocr.live import recommend, stale

    ranked = recommend(run, day=None if day is None else read_day(day, "--date"), top=top, source=source)
    for note in stale(run, ranked["date"].sort()[-1]):
        typer.echo(f"note: {note}", err=True)
    if output is not None:
        if output.exists():
            raise ConfigError(f"{output} exists already; nothing was written over, choose another name")
        ranked.write_csv(output)
        return
    print_list(Console(), ranked, f"{run.name}: scores at the close of {ranked['date'].sort()[-1]}")
