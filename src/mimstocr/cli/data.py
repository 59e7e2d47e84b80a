"""`mimstocr data`: look at a source, and convert it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mimstocr.data import DataSettings

app = typer.Typer(help="Look at prices, and convert them.", no_args_is_help=True)

Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE ...]", help="Data settings, such as universe=csi300.", show_default=False),
]


@app.command("inspect")
def inspect_command(
    source: Annotated[str, typer.Argument(help="Address scheme:place, such as qlib:FOLDER or csv:prices.csv.")],
    settings: Settings = None,
) -> None:
    """Show what a source holds, what the checks at the door dropped, and what a reader of results must know."""
    from mimstocr.cli.tables import print_inspection
    from mimstocr.data import load_panel
    from mimstocr.data.inspect import inspect_panel

    print_inspection(Console(), inspect_panel(load_panel(_settings(source, settings))))


@app.command("convert")
def convert_command(
    source: Annotated[str, typer.Argument(help="Address scheme:place.")],
    target: Annotated[Path, typer.Argument(help="A new .parquet or .csv file.")],
    settings: Settings = None,
) -> None:
    """Write a source as one long table that parquet: and csv: read back to the same panel."""
    from mimstocr.data import load_panel
    from mimstocr.data.inspect import write_long

    write_long(load_panel(_settings(source, settings)), target)
    typer.echo(target)


def _settings(source: str, overrides: list[str] | None) -> DataSettings:
    from pydantic import ValidationError

    from mimstocr.components import readable
    from mimstocr.data import DataSettings
    from mimstocr.overrides import apply_overrides

    try:
        return DataSettings(**apply_overrides({}, overrides or (), {}), source=source)
    except ValidationError as error:
        raise readable(error, "data") from None
