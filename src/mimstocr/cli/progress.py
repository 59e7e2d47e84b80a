"""The live display of a training: losses, what the balancer does, time left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mimstocr.config import Config
from mimstocr.training.loop import Moment, Watcher


@contextmanager
def progress(console: Console, config: Config) -> Iterator[Watcher]:
    """A bar a seed on a terminal, and a line an epoch everywhere."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}", style="dim"),
        TextColumn("at most"),
        TimeRemainingColumn(elapsed_when_finished=True, compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        yield _Display(console, bars, config)


class _Display:
    def __init__(self, console: Console, bars: Progress, config: Config) -> None:
        self.console = console
        self.bars = bars
        self.config = config
        self.bar: dict[int, TaskID] = {}
        self.learned = list(config.learned())

    def step(self, moment: Moment) -> None:
        """Move the bar: it is full after the last epoch there may be; early stopping ends sooner."""
        epochs = self.config.training.max_epochs
        if moment.seed not in self.bar:
            self.bar[moment.seed] = self.bars.add_task("", total=epochs * moment.steps, told="")
        told = [f"{name} {value:.4f}" for name, value in moment.losses.items()]
        self.bars.update(
            self.bar[moment.seed],
            completed=(moment.epoch - 1) * moment.steps + moment.step,
            description=f"seed {moment.seed} epoch {moment.epoch}/{epochs}{self._stage(moment.stage)} "
            f"step {moment.step}/{moment.steps}",
            told="  ".join(told + _balancing(moment.telemetry)),
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        parts = [f"seed {row['seed']} epoch {row['epoch']:>3}{self._stage(row.get('stage', 0))}"]
        active = row.get("active", self.learned)
        parts += [f"{name} {row['train'][name]:.4f}/{row['valid'][name]:.4f}" for name in active]
        parts.append(f"valid IC {_number(row['ic'])} RankIC {_number(row['rank_ic'])}")
        parts += _balancing(row)
        parts.append(f"{row['seconds']:.1f} s{'  best' if row['best'] else ''}")
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def _stage(self, stage: int) -> str:
        """Where the curriculum stands, if there is one."""
        stages = len(self.config.training.curriculum)
        if stage == 0:
            return ""
        return " joint" if stage > stages else f" stage {stage}/{stages}"


def _balancing(told: Mapping[str, Any]) -> list[str]:
    """beta and decay, of a balancer that has them."""
    parts = []
    if "beta" in told:
        parts.append("beta " + " ".join(f"{value:.3f}" for value in told["beta"] if not math.isnan(value)))
    if "decay" in told:
        parts.append(f"decay {told['decay'][0]:.2e}")
    return parts


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:+.4f}"
