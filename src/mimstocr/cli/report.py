"""`mimstocr report`: the HTML report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Make report.html of a finished run again, and print where it is."""
    from mimstocr.workflow import write_report

    typer.echo(write_report(run))
