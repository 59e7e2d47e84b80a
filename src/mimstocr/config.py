"""One typed tree of settings. A config file says what differs from the defaults; unknown keys are errors."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from torch import nn

from mimstocr.agents import AnyAgent
from mimstocr.backbones import AnyBackbone
from mimstocr.backbones.recurrent import Lstm
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.balancing import AnyBalancer
from mimstocr.balancing.cqb import Cqb
from mimstocr.components import Component, Settings, near, readable
from mimstocr.data import DataSettings
from mimstocr.data.panel import few, repeated
from mimstocr.data.splits import SplitSettings
from mimstocr.errors import ConfigError
from mimstocr.features import AnyFeatures
from mimstocr.features.alpha360 import Alpha360
from mimstocr.overrides import apply_overrides
from mimstocr.sharing import AnySharing
from mimstocr.sharing.hard import Hard
from mimstocr.tasks import AnyTask, Task
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.settings import EvaluationSettings, TrainingSettings, direction


class Config(Settings):
    """Everything that a run depends on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "demo"
    """The run's folder under `out`: letters, digits, dot, dash and underscore."""
    out: Path = Path("runs")
    """Where run folders go."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    """One training each; scores of several are averaged for the list, and their spread is reported."""
    data: DataSettings = DataSettings()
    """Which prices."""
    splits: SplitSettings = SplitSettings()
    """Which days train, validate and test."""
    features: AnyFeatures = Alpha360()
    """What the model sees."""
    tasks: dict[str, AnyTask] = {"return": Return(), "momentum": MomentumLine()}
    """What the model is asked, by name; the first is the main task, whose score ranks the stocks."""
    backbone: AnyBackbone = Lstm()
    """How a window is read."""
    sharing: AnySharing = Hard()
    """How tasks share the backbone."""
    balancer: AnyBalancer = Cqb()
    """How tasks agree on a step."""
    agent: AnyAgent | None = None
    """An agent that learns what to hold in place of the network; none: the network. With one, backbone, sharing and of
    the loop all but learn, threads and checkpoint_seconds say nothing."""
    training: TrainingSettings = TrainingSettings()
    """The loop."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """The evidence."""
    backtest: BacktestSettings = BacktestSettings()
    """The money."""

    @field_validator("tasks")
    @classmethod
    def _settle_tasks(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        if not tasks:
            raise ValueError("expected at least one task, such as {return: {kind: return}}")
        for name in tasks:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in RESERVED:
                raise ValueError(f"task name {name!r}: use letters, digits, - and _, and none of {', '.join(RESERVED)}")
            if hasattr(nn.ModuleDict(), name):  # which holds the heads by name
                raise ValueError(f"task name {name!r}: torch has a use for it; choose another, such as my_{name}")
        if not any(isinstance(task, Return) for task in tasks.values()):
            raise ValueError(
                "expected a task of kind 'return' among them: its label is what the evidence is measured on"
            )
        asked = [name for entry, task in tasks.items() for name in task.variants(entry)]
        if twice := repeated(asked):
            raise ValueError(
                f"two tasks come out as {few(twice)}; rename one, or leave the horizon out of one's horizons"
            )
        return tasks

    @model_validator(mode="after")
    def _learnable(self) -> Self:
        try:
            learned = self.learned()
            direction(self.training.monitor, learned)
            for stage in self.training.curriculum:
                _check_known("training.curriculum, of the learned tasks", stage.tasks, learned)
            self._check_order(learned)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: each seed once, got {list(self.seeds)}")
        return self

    def _check_order(self, learned: Mapping[str, Task]) -> None:
        """Raise ConfigError when a loss follows an account through days that do not come one after the other."""
        training = self.training
        for name, task in learned.items():
            if not task.loss.sequential:
                continue
            why = f"task {name!r}: loss {task.loss.kind!r} follows an account from day to day; "
            if training.order != "blocks" or training.days_per_step < 2:
                raise ConfigError(
                    f"{why}set training.order to blocks and training.days_per_step to 2 or more (20 is a month), got "
                    f"{training.order} and {training.days_per_step}"
                )
            if training.test_curve > 1:
                raise ConfigError(f"{why}set training.test_curve to 0, or to 1 for all days, got {training.test_curve}")
            if len(self.data.assets) > 1:
                raise ConfigError(
                    f"{why}on days on which an asset class is closed it would count as sold; train on one class"
                )

    def settled_tasks(self) -> dict[str, Task]:
        """All configured tasks, one a horizon, with what they take from the main task, the first, settled."""
        asked = {name: task for entry, tasks in self.tasks.items() for name, task in tasks.variants(entry).items()}
        main = next(iter(asked.values()))
        return {name: task.follow(main) for name, task in asked.items()}

    def learned(self) -> dict[str, Task]:
        """The settled tasks that are learned, as training.learn and the balancer say; the first ranks the stocks."""
        settled = self.settled_tasks()
        _check_known("training.learn", self.training.learn, settled)
        chosen = [name for name in settled if not self.training.learn or name in self.training.learn]
        return {name: settled[name] for name in self.balancer.learned(chosen)}

    def priced(self) -> tuple[str, Return]:
        """The name and task whose raw label the evidence is measured on: the first of kind return."""
        return next((name, task) for name, task in self.settled_tasks().items() if isinstance(task, Return))

    def traded(self, overrides: Iterable[str] = ()) -> BacktestSettings:
        """The settings of the backtest with overrides such as `market=cn_a_share`, and with a delay.

        Raises ConfigError, each problem with the path of its setting.
        """
        raw = apply_overrides(self.backtest.model_dump(mode="json"), overrides, BacktestSettings().model_dump())
        raw["delay"] = self.priced()[1].delay if raw.get("delay") is None else raw["delay"]
        try:
            return BacktestSettings(**raw)
        except ValidationError as error:
            raise readable(error, "backtest") from None

    @property
    def reach(self) -> int:
        """Days after t on which the last of its labels is known."""
        return max(task.reach for task in self.settled_tasks().values())

    @property
    def epochs_at_most(self) -> int:
        """Epochs of a training that is not stopped early; an agent's end with a look at the validation split."""
        return self.training.max_epochs if self.agent is None else self.agent.looks

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.out.expanduser() / self.name

    def plain(self) -> dict[str, Any]:
        """The whole tree in plain types, as YAML and JSON hold it."""
        return self.model_dump(mode="json")


def _check_known(setting: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError when a setting names a task that is not there."""
    known = list(known)
    if unknown := next((name for name in names if name not in known), None):
        raise ConfigError(f"{setting}: no task {unknown!r}; {near(unknown, known)}")


RESERVED = ("date", "symbol", "asset_class", "split", "seed", "score", "label", "reference", "rank")


def make_config(raw: Mapping[str, Any], where: str = "config") -> Config:
    """A Config of plain values. Raises ConfigError, one line a problem, each with the path of the setting."""
    try:
        return Config(**raw)
    except ValidationError as error:
        raise readable(error, where) from None


def load_config(path: Path | str = "demo", overrides: Iterable[str] = ()) -> Config:
    """The config of a YAML file, of a run folder, or one that comes with the package, with overrides on top.

    path: a file, a run folder (its config as used), or a bare name of `shipped_configs`. overrides: texts
    `key.sub=value`, the value as in YAML. Without `name` in the file the run is called as the file.
    Raises ConfigError.
    """
    file = _config_file(Path(path))
    raw = read_yaml(file)
    if file.name == "config.yaml" and file.parent == Path(path):  # a run folder may have been moved
        raw |= {"name": file.parent.resolve().name, "out": str(file.parent.resolve().parent)}
    raw.setdefault("name", file.stem)
    return make_config(apply_overrides(raw, overrides, Config().plain()), str(file))


def shipped_configs() -> dict[str, Path]:
    """Name to file of the configs that come with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "configs").glob("*.yaml"))}


def _config_file(path: Path) -> Path:
    shipped = shipped_configs()
    if path.is_dir():
        return path / "config.yaml"
    if path.exists() or str(path) not in shipped:
        return path
    return shipped[str(path)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError when it is missing, not YAML, or not a mapping."""
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"no config file {path}; write one, or name one that is shipped; {near(path.stem, shipped_configs())}"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; expected a YAML file of settings") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected settings as `key: value`, got a {type(raw).__name__}")
    return raw


def write_yaml(path: Path, config: Config) -> None:
    """The whole tree, written at once."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True))
    partial.replace(path)


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Dotted settings that differ, in words, the first five; empty when none does."""
    keys = sorted(key for key in saved.keys() | asked.keys() if saved.get(key) != asked.get(key))
    told = [f"{key}: then {saved.get(key)!r}, now {asked.get(key)!r}" for key in keys[:5]]
    return "; ".join(told) + (f"; and {len(keys) - 5} more" if len(keys) > 5 else "")


def describe(settings: Settings, indent: str = "") -> str:
    """The tree of settings as YAML, each with its meaning above it."""
    lines = []
    if isinstance(settings, Component):
        lines.append(f"{indent}kind: {settings.kind}")
    for name, field in type(settings).model_fields.items():
        meaning = " ".join((field.description or "").split())
        lines += [f"{indent}# {line}" for line in textwrap.wrap(meaning, width=100 - len(indent))]
        value = getattr(settings, name)
        if isinstance(value, Settings):
            lines += [f"{indent}{name}:", describe(value, indent + "  ")]
        elif isinstance(value, dict) and any(isinstance(inner, Settings) for inner in value.values()):
            lines.append(f"{indent}{name}:")
            for key, inner in value.items():
                lines += [f"{indent}  {key}:", describe(inner, indent + "    ")]
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            shown = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            lines.append(f"{indent}{name}: {shown}")
    return "\n".join(line for line in lines if line)
