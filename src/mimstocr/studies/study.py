"""The file of a study: a base config, axes of settings that are crossed to cells, seeds, and what to show of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mimstocr.components import Settings, near, readable
from mimstocr.config import Config, differences, load_config, make_config, read_yaml
from mimstocr.data.panel import few, repeated
from mimstocr.errors import ConfigError
from mimstocr.overrides import apply_overrides, apply_settings
from mimstocr.studies.exhibits import AnyExhibit
from mimstocr.studies.exhibits.base import of_validation

Level = dict[str, Any]
"""Dotted settings, such as {balancer: cqb, training.learning_rate: 0.001}."""
NO_LEVEL = "-"
"""Stands where a cell has no level of an axis, as it is not crossed with it."""


class Choice(Settings):
    """An axis whose level is not shown but chosen, for every other cell, by a figure on the validation split."""

    axis: str
    """The axis, such as learning rate."""
    by: str = "valid.rank_ic"
    """The figure whose mean over seeds is highest at the level that is chosen; on the validation split."""

    @field_validator("by")
    @classmethod
    def _on_validation(cls, by: str) -> str:
        return of_validation(by)


class Beside(Settings):
    """Cells that stand beside the others, such as baselines that no loss trains: crossed with some axes alone."""

    axis: str
    """The axis among whose levels they stand."""
    across: tuple[str, ...] = ()
    """The axes that they are crossed with; at the others they have no level, and show a dash."""
    levels: Annotated[dict[str, Level], Field(min_length=1)]
    """Their levels of the axis, each a name and its settings."""


class Smoke(Settings):
    """What makes the study small enough to try: minutes, on data that come with a package."""

    base: str = "smoke"
    """The config to start from."""
    set: Level = {}
    """Settings of all cells, on top of everything else in the file."""
    at: dict[str, dict[str, Level]] = {}
    """Axis to levels to settings of the cells at that level, on top of `set`, such as an agent's few steps."""
    only: dict[str, tuple[str, ...]] = {}
    """Axis to the levels that are kept; the others keep all. Cells beside stay where they have no level of the axis."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    """Seeds of each cell."""


class Study(Settings):
    """A grid of runs and what to show of them."""

    title: str
    """What it finds out, in a line."""
    base: str = "csi300"
    """The config that all cells start from: a shipped one, or a file beside the study."""
    set: Level = {}
    """Settings of all cells."""
    axes: Annotated[dict[str, dict[str, Level]], Field(min_length=1)]
    """Axis to its levels, each a name and its settings; the cells are all combinations."""
    beside: tuple[Beside, ...] = ()
    """Cells that are not crossed with every axis."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds of each cell: one run each (paper: three runs)."""
    choose: Choice | None = None
    """An axis whose level is chosen by validation."""
    show: Annotated[tuple[AnyExhibit, ...], Field(min_length=1)]
    """Its tables and figures."""
    smoke: Smoke = Smoke()
    """Its small form."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        self._check_axes()
        self._check_beside()
        self._check_smoke()
        if self.choose is not None and self.choose.axis not in self.axes:
            raise ValueError(f"choose.axis: unknown axis {self.choose.axis!r}; {near(self.choose.axis, self.axes)}")
        self._check_show()
        for seeds in (self.seeds, self.smoke.seeds):
            check_seeds(seeds)
        if twice := repeated([cell_name(levels) for levels in self.combinations()]):
            raise ValueError(f"two cells would be called {few(twice)}; rename a level")
        return self

    def _check_axes(self) -> None:
        for axis, levels in self.axes.items():
            if not levels:
                raise ValueError(f"axes.{axis}: expected at least one level, such as {{LSTM: {{backbone: lstm}}}}")
            if NO_LEVEL in levels:
                raise ValueError(
                    f"axes.{axis}: a level cannot be called {NO_LEVEL!r}, which stands for none; rename it"
                )

    def _check_beside(self) -> None:
        known = {axis: set(levels) for axis, levels in self.axes.items()}
        for group in self.beside:
            for name in (group.axis, *group.across):
                if name not in self.axes:
                    where = "axis" if name == group.axis else "across"
                    raise ValueError(f"beside.{where}: unknown axis {name!r}; {near(name, self.axes)}")
            if group.axis in group.across:
                raise ValueError(f"beside.across: they stand among the levels of {group.axis}; leave it out of across")
            if self.choose is not None and group.axis == self.choose.axis:
                raise ValueError(
                    f"beside.axis: validation chooses the level of {group.axis}; name an axis that is shown"
                )
            if taken := next((level for level in group.levels if level in (*known[group.axis], NO_LEVEL)), None):
                raise ValueError(f"beside.levels: {group.axis} has a level {taken!r} already; rename it")
            known[group.axis] |= set(group.levels)

    def _check_smoke(self) -> None:
        named: list[tuple[str, dict[str, Iterable[str]]]] = [
            ("only", dict(self.smoke.only)),
            ("at", dict(self.smoke.at)),
        ]
        for setting, levels_of in named:
            for axis, levels in levels_of.items():
                if axis not in self.axes:
                    raise ValueError(f"smoke.{setting}: unknown axis {axis!r}; {near(axis, self.axes)}")
                for level in levels:
                    if level not in (known := self.levels(axis)):
                        raise ValueError(f"smoke.{setting}.{axis}: unknown level {level!r}; {near(level, known)}")

    def _check_show(self) -> None:
        for exhibit in self.show:
            for axis in exhibit.axes():
                if axis not in self.shown_axes:
                    raise ValueError(f"show.{exhibit.kind}: unknown axis {axis!r}; {near(axis, self.shown_axes)}")
            hidden = [axis for axis in self.shown_axes if len(self.levels(axis)) > 1 and axis not in exhibit.axes()]
            if exhibit.complete and hidden:
                raise ValueError(
                    f"show.{exhibit.kind}: {', '.join(hidden)} is in {exhibit.complete}, so cells would hide "
                    "one another; name it, or let validation choose its level (choose)"
                )

    def levels(self, axis: str) -> dict[str, Level]:
        """The levels of an axis and what they set, those of cells beside after those that are crossed."""
        found = dict(self.axes.get(axis, {}))
        for group in self.beside:
            found |= group.levels if group.axis == axis else {}
        return found

    def combinations(self) -> list[dict[str, str]]:
        """Axis to level of each cell, in the order of the file, those beside after those that are crossed."""
        grids: list[list[Iterable[str]]] = [list(self.axes.values())]
        for group in self.beside:
            crossed = {axis: self.axes[axis] for axis in group.across} | {group.axis: group.levels}
            grids.append([crossed.get(axis, (NO_LEVEL,)) for axis in self.axes])
        return [dict(zip(self.axes, levels, strict=True)) for grid in grids for levels in itertools.product(*grid)]

    @property
    def shown_axes(self) -> list[str]:
        """The axes but for the one that is chosen."""
        return [axis for axis in self.axes if self.choose is None or axis != self.choose.axis]


@dataclass(frozen=True)
class Cell:
    """One combination of levels."""

    levels: Mapping[str, str]
    """Axis to level."""
    config: Config
    """What its runs are made of, without their seed and place."""

    @property
    def name(self) -> str:
        """Its levels, such as `CSI 300 / LSTM / EW`."""
        return cell_name(self.levels)

    def run(self, seed: int, out: Path) -> Config:
        """The config of one run of it: alike settings and seed are one folder, whatever study asks for them."""
        config = self.config
        learner = config.agent.kind if config.agent else f"{config.backbone.kind}-{config.balancer.kind}"
        name = f"{learner}-{_address(config)}-seed{seed}"
        return self.config.model_copy(update={"seeds": (seed,), "out": out / "cells", "name": name})


@dataclass(frozen=True)
class Grid:
    """A study with its cells settled: what is run and shown."""

    name: str
    study: Study
    cells: Sequence[Cell]
    seeds: Sequence[int]
    base: str
    """The config that its cells start from."""
    on_top: Sequence[str] = ()
    """Settings that were put on top of every cell: those of the small form, and of the command line."""

    @property
    def names(self) -> set[str]:
        """Of all cells of the study, also of those that are not run here."""
        return {cell_name(levels) for levels in self.study.combinations()}

    def part(self, only: Mapping[str, Iterable[str]], seeds: Sequence[int] | None = None) -> Grid:
        """The cells at some levels of some axes, and other seeds; cells beside stay where they have none of an axis.

        Raises ConfigError on an unknown axis or level.
        """
        for axis, levels in only.items():
            known = list(self.study.levels(axis))
            if not known:
                raise ConfigError(f"unknown axis {axis!r} of study {self.name}; {near(axis, self.study.axes)}")
            for level in levels:
                if level not in known:
                    raise ConfigError(f"unknown level {level!r} of axis {axis}; {near(level, known)}")
        try:
            check_seeds(seeds or ())
        except ValueError as error:
            raise ConfigError(f"--seeds: {error}") from None
        kept = [cell for cell in self.cells if within(cell.levels, only)]
        if not kept:
            raise ConfigError(f"study {self.name} has no cell at these levels")
        return replace(self, cells=kept, seeds=tuple(seeds) if seeds else self.seeds)


def cell_name(levels: Mapping[str, str]) -> str:
    """The levels that a cell has, such as `CSI 300 / LSTM / EW`."""
    return " / ".join(level for level in levels.values() if level != NO_LEVEL)


def within(levels: Mapping[str, str], only: Mapping[str, Iterable[str]]) -> bool:
    """Whether a cell is at one of the levels of each axis that is named, but for axes of which it has no level."""
    return all(levels[axis] == NO_LEVEL or levels[axis] in kept for axis, kept in only.items())


def check_seeds(seeds: Iterable[int]) -> None:
    """Raise ValueError on a seed below 0 or one that comes twice."""
    seeds = list(seeds)
    if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise ValueError(f"expected seeds of 0 or more, each once, got {seeds}")


def load_study(path: Path | str, overrides: Iterable[str] = (), *, smoke: bool = False) -> Grid:
    """The study of a YAML file, or one that comes with the package, with `key.sub=value` on top of every cell.

    smoke: its small form. Raises ConfigError, also when two cells come out as the same run.
    """
    file = Path(path)
    shipped = shipped_studies()
    if not file.exists() and str(path) in shipped:
        file = shipped[str(path)]
    if not file.exists():
        raise ConfigError(f"no study {path}; write one, or name one that is shipped; {near(file.stem, shipped)}")
    try:
        study = Study(**read_yaml(file))
    except ValidationError as error:
        raise readable(error, str(file)) from None
    name = f"{file.stem}-smoke" if smoke else file.stem
    overrides = list(overrides)
    cells = _cells(study, name, file.parent, overrides, smoke)
    small = _small(study.smoke) if smoke else []
    seeds, base = (study.smoke.seeds, study.smoke.base) if smoke else (study.seeds, study.base)
    return Grid(name, study, cells, seeds, base, [*small, *overrides])


def shipped_studies() -> dict[str, Path]:
    """Name to file of the studies that come with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "files").glob("*.yaml"))}


def config_hash(config: Config) -> str:
    """Ten letters for the settings that a result depends on, wherever its data lie and whatever computed it.

    Settings at their default do not enter, so that a setting that comes with a later version, off by default,
    leaves the hashes of older results as they were.
    """
    return _digest(_identity(config, exclude_defaults=True), 5)


def otherwise(saved: Config, asked: Config) -> str:
    """Settings of the hash, or seeds, in which a run's config differs from the asked one, in words; empty: none."""
    if config_hash(saved) == config_hash(asked) and saved.seeds == asked.seeds:
        return ""
    trees = [{**_identity(config), "seeds": list(config.seeds)} for config in (saved, asked)]
    return differences(*map(_dotted, trees))


def _identity(config: Config, *, exclude_defaults: bool = False) -> dict[str, Any]:
    """The settings that a result depends on."""
    plain = config.model_dump(mode="json", exclude_defaults=exclude_defaults, exclude={"name", "out", "seeds"})
    for key in ("device", "threads", "checkpoint_seconds", "test_curve"):
        plain.get("training", {}).pop(key, None)
    if not plain.get("training"):
        plain.pop("training", None)
    plain["data"] = {**plain.get("data", {}), "source": config.data.source.partition(":")[0]}
    plain["data"]["concepts"] = bool(_concepts(config))
    for key in ("store", "refresh"):  # where prices were kept, and when they were fetched, is in their fingerprint
        plain["data"].pop(key, None)
    if plain["data"].pop("extra", None) is not None and "extra" in config.features.reads:
        plain["data"]["extra"] = True
    plain["order of the tasks"] = list(config.tasks)
    return plain


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {prefix + key: value}
    return flat


def _address(config: Config) -> str:
    places = [config.data.source, _concepts(config)]
    if config.data.extra is not None and "extra" in config.features.reads:
        places.append(str(config.data.extra))
    return config_hash(config) + _digest(places, 2)


def _concepts(config: Config) -> str | None:
    """The concept table, where it has a say."""
    table = config.data.concepts
    return str(table) if table is not None and "concepts" in config.backbone.reads else None


def _digest(content: Any, size: int) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=size).hexdigest()


def _cells(study: Study, name: str, folder: Path, overrides: list[str], smoke: bool) -> list[Cell]:
    base = study.smoke.base if smoke else study.base
    beside = folder / base
    raw = load_config(beside if beside.is_file() else base).plain()
    raw.pop("name")
    defaults = Config().plain()
    cells: list[Cell] = []
    seen: dict[str, str] = {}
    for levels in study.combinations():
        if smoke and not within(levels, study.smoke.only):
            continue
        settings = _settings(study, levels, smoke)
        called = cell_name(levels)
        where = f"{name}, cell {called}"
        try:
            tree = apply_overrides(apply_settings(raw, settings, defaults), overrides, defaults)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        cell = Cell(levels, make_config({**tree, "name": slug(name)}, where))
        address = _address(cell.config)
        if address in seen:
            raise ConfigError(
                f"{name}: cells {seen[address]!r} and {called!r} come out as the same run; "
                "let an axis set what makes them differ, and no override undo it"
            )
        seen[address] = called
        cells.append(cell)
    return cells


def _settings(study: Study, levels: Mapping[str, str], smoke: bool) -> list[tuple[str, Any]]:
    """What a cell sets, the last word last."""
    settings = list(study.set.items())
    for axis, level in levels.items():
        settings += study.levels(axis).get(level, {}).items()
    if smoke:
        settings += study.smoke.set.items()
        for axis, level in levels.items():
            settings += study.smoke.at.get(axis, {}).get(level, {}).items()
    return settings


def _small(smoke: Smoke) -> list[str]:
    """What the small form sets, in words."""
    common = [f"{path}={value}" for path, value in smoke.set.items()]
    return common + [
        f"{axis} {level}: {path}={value}"
        for axis, levels in smoke.at.items()
        for level, pairs in levels.items()
        for path, value in pairs.items()
    ]


def slug(name: str) -> str:
    """The name with what a file name should not have as dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
