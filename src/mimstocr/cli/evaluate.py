"""`mimstocr evaluate`: the evidence of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Recompute the evidence of a finished run from its predictions."""
    import json

    from mimstocr.cli.tables import print_evidence
    from mimstocr.runs import finite
    from mimstocr.workflow import evaluate

    evidence = evaluate(run, split=split)
    if as_json:
        typer.echo(json.dumps(finite(evidence), indent=1))
    else:
        print_evidence(Console(), evidence, f"{run.name}: {split}")
