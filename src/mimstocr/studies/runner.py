"""Runs what is missing of a study, several at once, each in a process of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol

import torch

from mimstocr.config import Config
from mimstocr.runs import RunFolder
from mimstocr.studies.cores import usable_cores
from mimstocr.studies.ledger import Ledger, Row
from mimstocr.studies.results import failure_file, look
from mimstocr.studies.study import Cell, Grid, config_hash
from mimstocr.training.interrupt import Stop, stop_on_signal

LOOK_SECONDS = 0.2
LAST_LINES = 30
"""Lines of a run's error output that are kept when it ends without a word."""


@dataclass(frozen=True)
class Job:
    """One run that is to be made."""

    cell: Cell
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Cell and seed."""
        return f"{self.cell.name} seed {self.seed}"


class Ending(NamedTuple):
    """How a run ended."""

    state: Literal["finished", "stopped", "failed", "in use"]
    """Stopped: saved, at its own study's wish. In use: another process is at work in its folder."""
    why: str = ""
    """Of what failed or is in use."""


class StudyWatcher(Protocol):
    """Is told how a study goes."""

    def begin(self, n_runs: int, n_finished: int, jobs: list[Job]) -> None:
        """Before the first run: how many there are, how many are finished already, and what is to be done."""

    def started(self, job: Job) -> None:
        """A run has begun, or goes on where it was stopped."""

    def step(self, job: Job, moment: Mapping[str, Any]) -> None:
        """A few times a second: epoch, step, steps and losses; of a rolling model also period and periods."""

    def epoch(self, job: Job, row: Mapping[str, Any]) -> None:
        """After an epoch: its line of the history."""

    def ended(self, job: Job, ending: Ending) -> None:
        """A run has ended."""


@dataclass(frozen=True)
class Outcome:
    """What `run_study` did."""

    finished: list[Job]
    failed: dict[str, str]
    """Name of a run to why it failed; the others went on."""
    stopped: bool
    """A stop was asked for: what was under way is saved and goes on at the next call."""
    in_use: dict[str, str] = field(default_factory=dict)
    """Name of a run to who has its folder: another process is at work in it, and nothing was done."""


class Silent:
    """A watcher that says nothing."""

    def begin(self, n_runs: int, n_finished: int, jobs: list[Job]) -> None:
        """Say nothing."""

    def started(self, job: Job) -> None:
        """Say nothing."""

    def step(self, job: Job, moment: Mapping[str, Any]) -> None:
        """Say nothing."""

    def epoch(self, job: Job, row: Mapping[str, Any]) -> None:
        """Say nothing."""

    def ended(self, job: Job, ending: Ending) -> None:
        """Say nothing."""


def run_study(
    grid: Grid,
    out: Path,
    *,
    jobs: int | None = None,
    watcher: StudyWatcher | None = None,
    ledger: Ledger | None = None,
) -> Outcome:
    """Run every cell and seed that has not finished, `jobs` at once; finished runs get their row in the ledger.

    out: the folder of all runs. ledger: by default `ledger.csv` in it. jobs: none for as many as this process has
    cores (over training.threads), or CUDA devices where the runs use them. The first seed of all cells comes before the
    second of any. A run that fails, or is killed, is reported and the rest go on, as is one whose folder another
    process has. A signal stops all, saved. Raises RunError when a run finished with other settings than its cell's.
    """
    watcher = watcher or Silent()
    ledger = ledger or Ledger(out / "ledger.csv")
    ledger.rows()  # one that cannot be read says so before hours of training, not after
    todo, done = [], 0
    for seed in grid.seeds:
        for cell in grid.cells:
            job = Job(cell, seed, cell.run(seed, out))
            if look(cell, seed, out).state == "finished":
                done += 1
                ledger.add(row_of(grid, job))
            else:
                todo.append(job)
    watcher.begin(len(todo) + done, done, list(todo))
    outcome = Outcome([], {}, False)
    if not todo:
        return outcome
    with stop_on_signal() as stop:
        crew = _Crew(todo, jobs or default_jobs(todo[0].config), watcher, stop)
        try:
            for job, ending in crew.work():
                if ending.state == "failed":
                    place = failure_file(job.config)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_text(ending.why)
                    outcome.failed[job.name] = ending.why
                elif ending.state == "in use":
                    outcome.in_use[job.name] = ending.why
                elif ending.state == "finished":
                    outcome.finished.append(job)
                    ledger.add(row_of(grid, job))
                watcher.ended(job, ending)
        finally:
            crew.kill()
        return replace(outcome, stopped=bool(stop))


def default_jobs(config: Config) -> int:
    """Runs at once that use the machine without crowding it."""
    if uses_cuda(config):
        return max(1, torch.cuda.device_count())  # without any, each run says so itself
    return max(1, usable_cores() // config.training.threads)


def uses_cuda(config: Config) -> bool:
    """Whether a run of this config computes on a CUDA device."""
    device = config.training.device
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def row_of(grid: Grid, job: Job) -> Row:
    """The ledger's row of a finished run."""
    folder = RunFolder(job.config.folder)
    environment = folder.read_json("environment.json")
    on = environment["device"]
    return Row(
        study=grid.name,
        cell=job.cell.name,
        seed=job.seed,
        config=config_hash(job.cell.config),
        data=environment["data_fingerprint"],
        device=on if on == "cpu" else f"{on} {environment['device_name']}",
        version=environment["mimstocr"],
        finished=date.fromtimestamp((folder.path / "metrics.json").stat().st_mtime).isoformat(),
        figures=look(job.cell, job.seed, job.config.out.parent).figures,
    )


class _Crew:
    """So many processes at once, each with a run."""

    def __init__(self, todo: list[Job], size: int, watcher: StudyWatcher, stop: Stop) -> None:
        self._todo = list(reversed(todo))
        self._watcher = watcher
        self._stop = stop
        self._free = list(range(size))
        self._said: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()
        self._running: set[_Process] = set()

    def work(self) -> Iterator[tuple[Job, Ending]]:
        """The runs as they end."""
        asked = False
        while self._running or (self._todo and not self._stop):
            while self._free and self._todo and not self._stop:
                self._start(self._todo.pop())
            if self._stop and not asked:
                asked = True
                for process in self._running:
                    process.terminate()
            try:
                process, message = self._said.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                self._running.discard(process)
                self._free.append(process.slot)
                ending = process.ending(asked)
                process.close()
                yield process.job, ending
            elif "step" in message:
                self._watcher.step(process.job, message["step"])
            elif "epoch" in message:
                self._watcher.epoch(process.job, message["epoch"])
            else:
                process.last = message

    def _start(self, job: Job) -> None:
        slot = self._free.pop(0)
        failure_file(job.config).unlink(missing_ok=True)
        self._running.add(_Process(job, slot, self._said))
        self._watcher.started(job)

    def kill(self) -> None:
        """End what still runs, at once."""
        for process in self._running:
            process.kill()
            process.close()


class _Process:
    """One run's process, and a thread that listens to it."""

    def __init__(self, job: Job, slot: int, said: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]]) -> None:
        self.job = job
        self.slot = slot
        self.last: dict[str, Any] = {}
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115  (read when the process has ended)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mimstocr.studies.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **_threads(job.config.training.threads)},
            start_new_session=True,  # a Ctrl-C at the terminal comes to us alone, and we hand it on
        )
        self._listener = threading.Thread(target=self._listen, args=(said,), daemon=True)
        self._listener.start()

    def _listen(self, said: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with self._process.stdin as stdin:
                json.dump(_placed(self.job.config, self.slot).plain(), stdin)
            with self._process.stdout as stdout:
                for line in stdout:
                    said.put((self, json.loads(line)))
        except (BrokenPipeError, json.JSONDecodeError):
            pass  # it died while it read or wrote; how is told by its exit and its last words
        self._process.wait()
        said.put((self, None))

    def ending(self, stopping: bool) -> Ending:
        """How it ended; stopping: it was asked to."""
        if "failed" in self.last:
            return Ending("failed", self.last["failed"])
        if "in_use" in self.last:
            return Ending("in use", self.last["in_use"])
        if self.last.get("finished"):
            return Ending("finished")
        if stopping:
            return Ending("stopped")
        if "finished" in self.last:
            return Ending("failed", "stopped from outside, saved; the same study goes on with it")
        self._errors.seek(0)
        words = "".join(self._errors.readlines()[-LAST_LINES:])
        why = f"the process ended with {self._process.returncode} before it was done\n{words}".rstrip()
        return Ending("failed", why)

    def terminate(self) -> None:
        """Ask it to stop, saved."""
        self._process.terminate()

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    def close(self) -> None:
        """Let go of its files; it has ended or been killed."""
        self._process.wait()
        self._listener.join()
        self._errors.close()


def _placed(config: Config, slot: int) -> Config:
    """The config on the slot's own CUDA device, where it uses one and names none."""
    if not uses_cuda(config) or ":" in config.training.device or not torch.cuda.device_count():
        return config
    device = f"cuda:{slot % torch.cuda.device_count()}"
    return config.model_copy(update={"training": config.training.model_copy(update={"device": device})})


def _threads(n: int) -> dict[str, str]:
    """What keeps the libraries of a process to n threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {**{name: str(n) for name in names}, "OMP_WAIT_POLICY": "PASSIVE"}
