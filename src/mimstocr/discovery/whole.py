"""Auxiliary-task discovery: affinity on held-out days, forward selection, and what they came to, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mimstocr.components import near
from mimstocr.config import Config, make_config
from mimstocr.data.panel import few, repeated
from mimstocr.discovery.affinity import Affinity, AffinityPlan, find_affinity
from mimstocr.discovery.forward import Selection, check_monitor, most_trials, select
from mimstocr.discovery.show import affinity_tables, selection_table
from mimstocr.discovery.watch import DiscoveryWatcher, Unwatched
from mimstocr.errors import ConfigError
from mimstocr.predictions import output_columns
from mimstocr.report.formats import counted
from mimstocr.runs import RunFolder
from mimstocr.sharing.hierarchical import Hierarchical
from mimstocr.studies.exhibits.base import Table
from mimstocr.studies.write import WRITERS

Method = Literal["affinity", "forward", "both"]


@dataclass(frozen=True)
class Discovery:
    """What was found of the candidates."""

    folder: Path
    """discovery.json, and each table as Markdown, LaTeX and CSV."""
    main: str
    candidates: tuple[str, ...]
    affinity: Affinity | None
    """None: not asked for, or stopped before it was whole."""
    selection: Selection | None
    """None: not asked for, or stopped before it began."""
    stopped: bool
    """A stop was asked for: all is saved, and the same call goes on."""

    @property
    def tables(self) -> list[Table]:
        """All of it to look at."""
        tables = affinity_tables(self.affinity) if self.affinity else []
        return [*tables, *([selection_table(self.selection, self.main)] if self.selection else [])]


def discover(
    config: Config,
    *,
    candidates: Sequence[str] | None = None,
    method: Method = "both",
    affinity: AffinityPlan | None = None,
    min_gain: float = 0.0,
    max_tasks: int | None = None,
    jobs: int | None = None,
    watch: DiscoveryWatcher | None = None,
) -> Discovery:
    """Which of a config's auxiliary tasks help its main one, by the validation split alone.

    candidates: some of the auxiliary tasks; by default all that are learned. affinity: how it is measured. min_gain:
    of the validation figure (training.monitor) that a task must bring to be taken. max_tasks: most tasks in the set,
    the main one among them. jobs: runs at once. What was found is written into the folder NAME-discovery after each
    part. A signal stops it, saved, and the same call goes on. Raises ConfigError for what cannot be compared.
    """
    if config.agent is not None:
        raise ConfigError(f"tasks are compared on a network, but agent is {config.agent.kind}; leave it out (agent=)")
    main, chosen = _tasks(config, candidates)
    most = len(chosen) + 1 if max_tasks is None else max_tasks
    if most < 2:
        raise ConfigError(f"expected at least 2 tasks at most, the main one and another, got {most}")
    if method != "affinity":
        check_monitor(config.training.monitor, main)
        _check_sets(config, main)
    config = _limited(config, [main, *chosen])
    watch = watch or Unwatched()
    place = config.out.expanduser() / f"{config.name}-discovery"
    found = Discovery(place, main, tuple(chosen), None, None, stopped=False)
    if method != "forward":
        measured, stopped = find_affinity(config, affinity or AffinityPlan(), place, watch)
        found = replace(found, affinity=measured, stopped=stopped)
        if measured:
            _write(found, config)
        if stopped:
            return found
    if method != "affinity":
        n, seeds = most_trials(len(chosen), most - 1), len(config.seeds)
        watch.say(f"forward selection: at most {counted(n, 'set')} of tasks, {counted(n * seeds, 'training')} in all")
        selection = select(config, main, chosen, min_gain=min_gain, max_added=most - 1, jobs=jobs, watch=watch)
        found = replace(found, selection=selection, stopped=selection.stopped)
        _write(found, config)
    return found


def _tasks(config: Config, candidates: Sequence[str] | None) -> tuple[str, list[str]]:
    """The main task and the candidates, in their order in the config."""
    settled = [name for name in config.settled_tasks() if not config.training.learn or name in config.training.learn]
    learned = list(config.learned())
    if len(learned) < len(settled) or len(learned) < 2:
        raise ConfigError(
            f"discovery needs at least two tasks that are learned together; with balancer {config.balancer.kind} "
            f"there is {few(learned)} alone"
        )
    if config.training.curriculum:
        raise ConfigError(
            "a curriculum orders tasks that are chosen already: discover without it (training.curriculum=[])"
        )
    main, *others = learned
    asked = list(candidates) if candidates is not None else others
    if not asked or repeated(asked):
        raise ConfigError(f"expected candidates, each once, of {few(others)}; got {few(asked) or 'none'}")
    if unknown := next((name for name in asked if name not in others), None):
        why = "is the main task" if unknown == main else "is no learned task"
        raise ConfigError(f"candidate {unknown!r} {why}; {near(unknown, others)}")
    return main, [name for name in others if name in asked]


def _check_sets(config: Config, main: str) -> None:
    """Raise ConfigError for settings that name other tasks than the main one, which sets without them cannot have."""
    known = output_columns({main: config.learned()[main]})
    if other := [column for column in config.backtest.strategy.reads if column not in known]:
        raise ConfigError(
            f"backtest.strategy reads {few(other)}, which sets of tasks without it do not have; try them with a "
            "strategy that reads the score alone, such as backtest.strategy={kind: top_k}"
        )
    if isinstance(config.sharing, Hierarchical) and config.sharing.levels is not None:
        raise ConfigError(
            "sharing.levels names all learned tasks, and forward selection trains some of them at a time; leave it out "
            "(sharing.levels=null), and the main task is above all others"
        )


def _limited(config: Config, tasks: Sequence[str]) -> Config:
    """The config that learns these alone; the others are configured still, so that the days stay the same."""
    learn = tuple(tasks) if len(tasks) < len(config.settled_tasks()) else ()
    raw = config.plain()
    return make_config({**raw, "training": {**raw["training"], "learn": learn}})


def _write(found: Discovery, config: Config) -> None:
    """discovery.json and the tables, each whole or not at all."""
    found.folder.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(found.folder)
    content: dict[str, Any] = {"main": found.main, "candidates": list(found.candidates), "config": config.plain()}
    if found.affinity:
        content["affinity"] = _plain(asdict(found.affinity))
    if found.selection:
        content["selection"] = {
            **asdict(found.selection),
            "chosen": found.selection.chosen,
            "finished": found.selection.finished,
        }
    folder.write_json("discovery.json", content)
    for table in found.tables:
        for suffix, write in WRITERS.values():
            folder.write_text(f"{table.name}.{suffix}", write(table))


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """Arrays as lists."""
    return {
        key: _plain(value) if isinstance(value, dict) else value.tolist() if hasattr(value, "tolist") else value
        for key, value in content.items()
    }
