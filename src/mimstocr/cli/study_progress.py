"""The live display of a study: how many runs are done, and where each that runs stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mimstocr.studies.runner import Ending, Job, StudyWatcher


@contextmanager
def study_progress(console: Console, name: str) -> Iterator[StudyWatcher]:
    """A bar for the study and one a run on a terminal; a line a run that begins or ends everywhere."""
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}", style="dim", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        yield _Display(console, bars, name)


class _Display:
    def __init__(self, console: Console, bars: Progress, name: str) -> None:
        self.console = console
        self.bars = bars
        self.name = name
        self.whole: TaskID | None = None
        self.bar: dict[str, TaskID] = {}
        self.best: dict[str, str] = {}
        self.n_runs = self.done = self.failed = 0

    def begin(self, n_runs: int, n_finished: int, jobs: list[Job]) -> None:
        """The bar of the study."""
        self._say(f"{self.name}: {n_runs} runs, {n_finished} finished before, {len(jobs)} to do")
        self.n_runs, self.done = n_runs, n_finished
        self.whole = self.bars.add_task(self.name, total=n_runs, completed=n_finished, told=self._account())

    def started(self, job: Job) -> None:
        """A bar for the run."""
        self._say(f"{job.name}: begun in {job.config.folder}")
        self.bar[job.name] = self.bars.add_task(job.name, total=None, told="reading data")

    def step(self, job: Job, moment: Mapping[str, Any]) -> None:
        """Move the bar: it is full after the last epoch there may be, early stopping ends sooner; then by period."""
        epochs = job.config.epochs_at_most
        losses = "  ".join(f"{task} {_loss(value)}" for task, value in moment["losses"].items())
        total, completed = epochs * moment["steps"], (moment["epoch"] - 1) * moment["steps"] + moment["step"]
        where = f"epoch {moment['epoch']}/{epochs}"
        if "period" in moment:
            number, total = moment["periods"]
            completed, where = number - 1, f"period {moment['period']}"
        told = f"{where}  {losses}  {self.best.get(job.name, '')}"
        self.bars.update(self.bar[job.name], total=total, completed=completed, told=told)

    def epoch(self, job: Job, row: Mapping[str, Any]) -> None:
        """Remember the best so far."""
        if row["best"]:
            key, name = ("rank_ic", "RankIC") if job.config.agent is None else ("sharpe", "Sharpe")
            shown = "-" if row[key] is None else f"{row[key]:+.4f}"
            self.best[job.name] = f"valid {name} {shown} (epoch {row['epoch']})"

    def ended(self, job: Job, ending: Ending) -> None:
        """Its last line."""
        self.bars.remove_task(self.bar.pop(job.name))
        if ending.why:
            lines = ending.why.strip().splitlines()
            self._say(f"{job.name}: {ending.state}: {lines[-1] if lines[0].startswith('Traceback') else lines[0]}")
        else:
            told = "finished" if ending.state == "finished" else "stopped, saved"
            self._say(f"{job.name}: {told}  {self.best.get(job.name, '')}")
        self.failed += ending.state == "failed"
        if self.whole is not None:
            self.done += ending.state == "finished"
            self.bars.update(self.whole, completed=self.done, told=self._account())

    def _account(self) -> str:
        return f"{self.done} of {self.n_runs} runs" + (f", {self.failed} failed" if self.failed else "")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
