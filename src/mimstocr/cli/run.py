"""`mimstocr run`: train, predict, evaluate, backtest and report."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE ...]",
            help="A YAML file, a run folder or a shipped config (demo, csi300), then settings on top of it.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of that name.")] = False,
) -> None:
    """Train, predict, evaluate, backtest and report, into runs/NAME.

    Ctrl-C stops it, saved; the same command with --resume goes on with the same numbers.
    """
    from mimstocr.cli.progress import progress
    from mimstocr.cli.tables import print_summary
    from mimstocr.config import load_config
    from mimstocr.errors import ConfigError
    from mimstocr.workflow import run

    arguments = arguments or []
    files = [text for text in arguments if "=" not in text]
    if len(files) > 1:
        raise ConfigError(f"expected one config, got {' and '.join(files)}; settings are written key=value")
    config = load_config(files[0] if files else "demo", [text for text in arguments if "=" in text])
    console = Console()
    with progress(console, config) as watcher:
        result = run(config, resume=resume, watcher=watcher)
    if not result.finished:
        console.print(f"stopped and saved; go on with: mimstocr run {result.folder.path} --resume", soft_wrap=True)
        raise typer.Exit(130)
    print_summary(console, result)
