"""The live display of a training: losses, what the balancer does, time left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
        if moment.period:
            self._of_period(moment)
            return
        epochs = self.config.epochs_at_most
        if moment.seed not in self.bar:
            self.bar[moment.seed] = self.bars.add_task("", total=epochs * moment.steps, told="")
        told = [f"{name} {value:.4f}" for name, value in moment.losses.items()]
        if self.config.agent is not None:
            told = [f"reward {-value:+.4f}" for value in moment.losses.values()]
        self.bars.update(
            self.bar[moment.seed],
            completed=(moment.epoch - 1) * moment.steps + moment.step,
            description=f"seed {moment.seed} epoch {moment.epoch}/{epochs}{self._stage(moment.stage)} "
            f"step {moment.step}/{moment.steps}",
            told="  ".join(told + _balancing(moment.telemetry)),
        )

    def _of_period(self, moment: Moment) -> None:
        """The seed's bar starts again for the periods of a rolling model."""
        if moment.seed not in self.bar:
            self.bar[moment.seed] = self.bars.add_task("", told="")
        number, count = moment.periods
        self.bars.update(
            self.bar[moment.seed],
            total=count,
            completed=number - 1,
            description=f"seed {moment.seed} period {moment.period} ({number}/{count}) epoch {moment.epoch} "
            f"step {moment.step}/{moment.steps}",
            told="  ".join(f"{name} {value:.4f}" for name, value in moment.losses.items()),
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        if "period" in row:
            parts = [f"seed {row['seed']} period {row['period']} epoch {row['epoch']:>3}"]
            parts += [f"{name} {loss:.4f}" for name, loss in row["train"].items()]
            parts.append(f"{row['days']} days to {row['until']}  {row['seconds']:.1f} s")
            self.console.print("  ".join(parts), highlight=False, soft_wrap=True)
            return
        parts = [f"seed {row['seed']} epoch {row['epoch']:>3}{self._stage(row.get('stage', 0))}"]
        parts += _of_agent(row, self.learned) if self.config.agent else self._of_network(row)
        parts.append(f"{row['seconds']:.1f} s{'  best' if row['best'] else ''}")
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def _of_network(self, row: Mapping[str, Any]) -> list[str]:
        """Losses, the validation IC, and what the balancer did."""
        active = row.get("active", self.learned)
        losses = [f"{name} {row['train'][name]:.4f}/{row['valid'][name]:.4f}" for name in active]
        return [*losses, f"valid IC {_number(row['ic'])} RankIC {_number(row['rank_ic'])}", *_balancing(row)]

    def _stage(self, stage: int) -> str:
        """Where the curriculum stands, if there is one."""
        stages = len(self.config.training.curriculum)
        if stage == 0:
            return ""
        return " joint" if stage > stages else f" stage {stage}/{stages}"


def _of_agent(row: Mapping[str, Any], learned: Sequence[str]) -> list[str]:
    """Steps lived, the mean reward of a step in training and validation, and what the validation account did."""
    rewards = [f"reward {-row['train'][name]:+.4f}/{-row['valid'][name]:+.4f}" for name in learned]
    account = f"valid Sharpe {_number(row['sharpe'])} profit {row['profit']:+.2%} turnover {row['turnover']:.1%}"
    return [f"{row['steps']:,} steps", *rewards, account]


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
