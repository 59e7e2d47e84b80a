"""`mimstocr list`: every registered component."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def command(
    family: Annotated[str | None, typer.Argument(help="Only this family, such as balancers.")] = None,
) -> None:
    """List every registered component, one line each."""
    from mimstocr.catalogue import families
    from mimstocr.components import near
    from mimstocr.errors import ConfigError

    known = families()
    if family is not None and family not in known:
        raise ConfigError(f"unknown family {family!r}; {near(family, known)}")
    table = Table(box=None, pad_edge=False)
    for header in ("family", "kind", "what it is"):
        table.add_column(header, overflow="fold", style="bold" if header == "kind" else None)
    for name, registry in known.items():
        if family in (None, name):
            for kind in registry.names():
                table.add_row(name, kind, registry.summary(kind))
    Console().print(table)
