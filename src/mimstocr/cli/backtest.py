"""`mimstocr backtest`: what the ranking would have earned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings of the backtest, such as market=cn_a_share strategy=topk_dropout strategy.k=30 delay=1 "
            "capital=1e7 market.commission=0.0005."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD[THH:MM]", help="List each order of this day: what was filled, why not, its costs."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the daily table, or the orders explained, as CSV.")
    ] = None,
) -> None:
    """Follow a strategy in a market over a split: net, gross, the universe's mean and the index over the same days."""
    from mimstocr.cli.days import read_day
    from mimstocr.cli.tables import print_backtest, print_orders, terms_in_words
    from mimstocr.data.panel import day_text
    from mimstocr.errors import ConfigError
    from mimstocr.workflow import explain_day, run_backtest

    if output is not None and output.exists():
        raise ConfigError(f"{output} exists already; nothing was written over, choose another name")
    if explain is not None:
        told = explain_day(run, read_day(explain, "--explain"), overrides=overrides or (), split=split)
        if output is not None:
            told.orders.write_csv(output)
        print_orders(Console(), told)
        return
    result = run_backtest(run, overrides=overrides or (), split=split)
    if output is not None:
        result.table().write_csv(output)
    title = f"{run.name}: {day_text(result.days[0])} to {day_text(result.days[-1])}, {terms_in_words(result.settings)}"
    print_backtest(Console(), result.metrics, title, result.counts)
    orders = result.net.reasons()
    total = max(sum(orders.values()), 1)
    told_orders = ", ".join(f"{reason} {n / total:.1%}" for reason, n in orders.items())
    Console().print(f"{total} orders: {told_orders}", highlight=False, soft_wrap=True)
    paid = ", ".join(f"{kind.replace('_', ' ')} {share:.2%}" for kind, share in result.costs_by_kind().items())
    if paid:
        Console().print(f"paid, of the capital: {paid}", highlight=False, soft_wrap=True)
    for note in result.notes():
        Console().print(f"note: {note}", highlight=False, soft_wrap=True)
