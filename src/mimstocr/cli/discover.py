"""`mimstocr discover`: which auxiliary tasks help the main one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mimstocr.config import Config
    from mimstocr.studies.runner import StudyWatcher
    from mimstocr.training.loop import Watcher


class Method(StrEnum):
    """How candidates are judged."""

    AFFINITY = "affinity"
    FORWARD = "forward"
    BOTH = "both"


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE ...]",
            help="A YAML file, a run folder or a shipped config, then settings on top of it.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Some of the auxiliary tasks; by default all that are learned.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="Gradients on held-out days, trial after trial, or both.")
    ] = Method.BOTH,
    epochs: Annotated[int, typer.Option(min=1, help="Of the training on which affinity is measured.")] = 5,
    days: Annotated[int, typer.Option(min=1, help="Validation days on which affinity is measured.")] = 30,
    step: Annotated[
        float | None, typer.Option(help="Step along a gradient that is tried; by default training.learning_rate.")
    ] = None,
    min_gain: Annotated[float, typer.Option(help="Gain of the validation figure that a task must bring.")] = 0.0,
    max_tasks: Annotated[int | None, typer.Option(min=2, help="Most tasks in the set, main task included.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; by default one a core, or a CUDA device.")
    ] = None,
) -> None:
    """Which auxiliary tasks help the main one, by the validation split alone; into runs/NAME-discovery.

    Ctrl-C stops it, saved; the same command goes on, and nothing is trained twice.
    """
    from mimstocr.cli.tables import print_table
    from mimstocr.config import load_config
    from mimstocr.discovery import discover
    from mimstocr.discovery.affinity import AffinityPlan
    from mimstocr.errors import ConfigError

    arguments = arguments or []
    files = [text for text in arguments if "=" not in text]
    if len(files) > 1:
        raise ConfigError(f"expected one config, got {' and '.join(files)}; settings are written key=value")
    config = load_config(files[0] if files else "demo", [text for text in arguments if "=" in text])
    talk = Console(stderr=True)  # what is not a table stays out of a pipe
    found = discover(
        config,
        candidates=None if candidates is None else [name.strip() for name in candidates.split(",") if name.strip()],
        method=method.value,
        affinity=AffinityPlan(epochs, days, step),
        min_gain=min_gain,
        max_tasks=max_tasks,
        jobs=jobs,
        watch=_Display(talk),
    )
    for table in found.tables:
        print_table(Console(), table)
    if found.stopped:
        talk.print("stopped and saved; the same command goes on", highlight=False)
        raise typer.Exit(130)
    talk.print(f"all of it in {found.folder}", soft_wrap=True, highlight=False, markup=False)
    if found.selection and found.selection.failed:
        talk.print("a round is not decided: its runs failed; the same command tries them again", highlight=False)
        raise typer.Exit(3)


class _Display:
    """Bars on a terminal, lines everywhere."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def training(self, config: Config) -> AbstractContextManager[Watcher]:
        from mimstocr.cli.progress import progress

        return progress(self.console, config)

    def trials(self, name: str) -> AbstractContextManager[StudyWatcher]:
        from mimstocr.cli.study_progress import study_progress

        return study_progress(self.console, name)
