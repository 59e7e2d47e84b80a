"""`mimstocr config`: the whole tree of settings."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE ...]", help="Print this config, complete, instead.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the whole tree with defaults and meanings, as YAML to start a config from."""
    import yaml

    from mimstocr.config import Config, describe, load_config

    if not arguments:
        typer.echo(describe(Config()))
        return
    files = [text for text in arguments if "=" not in text]
    config = load_config(files[0] if files else "demo", [text for text in arguments if "=" in text])
    typer.echo(yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True), nl=False)
