"""`mimstocr backtest`: what the ranking would have earned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    k: Annotated[int | None, typer.Option("--k", "-k", min=1, help="Stocks held; default: as configured.")] = None,
    cost: Annotated[
        float | None, typer.Option(min=0, help="Fraction of the traded value, each way; default: as configured.")
    ] = None,
    delay: Annotated[
        int | None, typer.Option(min=0, help="Trading days from score to fill; default: that of the label.")
    ] = None,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the daily table there as CSV.")] = None,
) -> None:
    """Follow the strategy over a split: net, gross, the universe's mean and the index, over the same days."""
    from mimstocr.cli.tables import print_backtest
    from mimstocr.errors import ConfigError
    from mimstocr.runs import RunFolder
    from mimstocr.workflow import run_backtest

    if output is not None and output.exists():
        raise ConfigError(f"{output} exists already; nothing was written over, choose another name")
    result = run_backtest(run, k=k, cost=cost, delay=delay, split=split)
    if output is not None:
        result.table().write_csv(output)
    config = RunFolder.open(run).config()
    filled = config.priced()[1].delay if delay is None else delay
    terms = f"fills {filled} days after the score, cost {config.backtest.cost if cost is None else cost:.2%} each way"
    title = f"{run.name}: {result.days[0]} to {result.days[-1]}, {terms}"
    print_backtest(Console(), result.metrics, title, result.counts)
