"""`mimstocr data`: look at a source, convert it, and fetch from online ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from mimstocr.data import DataSettings
    from mimstocr.data.online import Account, Feed, Watcher

app = typer.Typer(help="Look at prices, convert them, and fetch them.", no_args_is_help=True)

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


@app.command("update")
def update_command(
    source: Annotated[str, typer.Argument(help="Address of an online source, such as yahoo:AAPL,MSFT.")],
    settings: Settings = None,
) -> None:
    """Fetch what the local store lacks of an online source, and say what came."""
    from mimstocr.data.online import check, feed_of, update

    asked = _settings(source, settings)
    feed, console = feed_of(asked), Console()
    with _progress(console) as watcher:
        accounts = update(feed, asked, watcher)
    _print_accounts(console, accounts, feed)
    check(accounts, feed, asked)


@contextmanager
def _progress(console: Console) -> Iterator[Watcher]:
    """A live line on a terminal."""
    from mimstocr.data.online import Moment, when

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}", style="dim"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("asking", total=None, told="")

        def show(moment: Moment) -> None:
            bar.update(
                task,
                total=moment.symbols,
                completed=moment.number - 1,
                description=f"{moment.number}/{moment.symbols} {moment.symbol}",
                told=f"{moment.rows:,} bars to {when(moment.through, '1d')}",
            )

        yield show


def _print_accounts(console: Console, accounts: Sequence[Account], feed: Feed) -> None:
    from mimstocr.data.online import told, when

    table = Table()
    for name in ("symbol", "bars", "first", "last", "new", "revised", ""):
        table.add_column(name, justify="right" if name in ("bars", "new", "revised") else "left", no_wrap=bool(name))
    for account in accounts:
        ends = ["–" if time is None else when(time, feed.interval) for time in (account.first, account.last)]
        counts = [f"{number:,}" for number in (account.rows, account.new, account.revised)]
        table.add_row(account.symbol, counts[0], *ends, *counts[1:], "failed" if account.failure else "")
    # a narrow terminal breaks lines rather than losing figures
    Console(width=max(console.width, Console(width=1000).measure(table).maximum), file=console.file).print(table)
    for note in [*feed.notes(), *told(accounts)]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def _settings(source: str, overrides: list[str] | None) -> DataSettings:
    from pydantic import ValidationError

    from mimstocr.components import readable
    from mimstocr.data import DataSettings
    from mimstocr.overrides import apply_overrides

    # the key as in a config, data.start, means the same here
    own = [text.removeprefix("data.") for text in overrides or ()]
    try:
        return DataSettings(**apply_overrides({}, own, {}), source=source)
    except ValidationError as error:
        raise readable(error, "data") from None
