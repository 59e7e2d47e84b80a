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
from mimstocr.errors import ConfigError
from mimstocr.overrides import apply_overrides, apply_settings
from mimstocr.studies.exhibits import AnyExhibit

Level = dict[str, Any]
"""Dotted settings, such as {balancer: cqb, training.learning_rate: 0.001}."""


class Choice(Settings):
    """An axis whose level is not shown but chosen, for every other cell, by a figure on the validation split."""

    axis: str
    """The axis, such as learning rate."""
    by: str = "valid.rank_ic"
    """The figure whose mean over seeds is highest at the level that is chosen; on the validation split."""

    @field_validator("by")
    @classmethod
    def _on_validation(cls, by: str) -> str:
        if not by.startswith("valid."):
            raise ValueError(f"expected a figure of the validation split, such as valid.rank_ic, got {by!r}")
        return by


class Smoke(Settings):
    """What makes the study small enough to try: minutes, on data that come with a package."""

    base: str = "smoke"
    """The config to start from."""
    set: Level = {}
    """Settings of all cells, on top of everything else in the file."""
    only: dict[str, tuple[str, ...]] = {}
    """Axis to the levels that are kept; the others keep all."""
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
        for axis, levels in self.axes.items():
            if not levels:
                raise ValueError(f"axes.{axis}: expected at least one level, such as {{LSTM: {{backbone: lstm}}}}")
        for axis in self.smoke.only:
            if axis not in self.axes:
                raise ValueError(f"smoke.only: unknown axis {axis!r}; {near(axis, self.axes)}")
        if self.choose is not None and self.choose.axis not in self.axes:
            raise ValueError(f"choose.axis: unknown axis {self.choose.axis!r}; {near(self.choose.axis, self.axes)}")
        for exhibit in self.show:
            for axis in exhibit.axes():
                if axis not in self.shown_axes:
                    raise ValueError(f"show.{exhibit.kind}: unknown axis {axis!r}; {near(axis, self.shown_axes)}")
            hidden = [axis for axis in self.shown_axes if len(self.axes[axis]) > 1 and axis not in exhibit.axes()]
            if exhibit.complete and hidden:
                raise ValueError(
                    f"show.{exhibit.kind}: {', '.join(hidden)} is in neither rows nor columns, so cells would hide "
                    "one another; name it, or let validation choose its level (choose)"
                )
        for axis, kept in self.smoke.only.items():
            for level in kept:
                if level not in self.axes[axis]:
                    raise ValueError(f"smoke.only.{axis}: unknown level {level!r}; {near(level, self.axes[axis])}")
        for seeds in (self.seeds, self.smoke.seeds):
            check_seeds(seeds)
        return self

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
        return " / ".join(self.levels.values())

    def run(self, seed: int, out: Path) -> Config:
        """The config of one run of it: alike settings and seed are one folder, whatever study asks for them."""
        name = f"{self.config.backbone.kind}-{self.config.balancer.kind}-{_address(self.config)}-seed{seed}"
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
        return {" / ".join(levels) for levels in itertools.product(*self.study.axes.values())}

    def part(self, only: Mapping[str, Iterable[str]], seeds: Sequence[int] | None = None) -> Grid:
        """The cells at some levels of some axes, and other seeds. Raises ConfigError on an unknown axis or level."""
        for axis, levels in only.items():
            known = list(self.study.axes.get(axis, {}))
            if not known:
                raise ConfigError(f"unknown axis {axis!r} of study {self.name}; {near(axis, self.study.axes)}")
            for level in levels:
                if level not in known:
                    raise ConfigError(f"unknown level {level!r} of axis {axis}; {near(level, known)}")
        try:
            check_seeds(seeds or ())
        except ValueError as error:
            raise ConfigError(f"--seeds: {error}") from None
        kept = [cell for cell in self.cells if all(cell.levels[axis] in levels for axis, levels in only.items())]
        if not kept:
            raise ConfigError(f"study {self.name} has no cell at these levels")
        return replace(self, cells=kept, seeds=tuple(seeds) if seeds else self.seeds)


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
    small = [f"{path}={value}" for path, value in study.smoke.set.items()] if smoke else []
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
    axes = {
        axis: [level for level in levels if not smoke or level in study.smoke.only.get(axis, levels)]
        for axis, levels in study.axes.items()
    }
    cells: list[Cell] = []
    seen: dict[str, str] = {}
    for combination in itertools.product(*axes.values()):
        levels = dict(zip(axes, combination, strict=True))
        settings = [
            *study.set.items(),
            *(pair for axis, level in levels.items() for pair in study.axes[axis][level].items()),
            *(study.smoke.set.items() if smoke else ()),
        ]
        cell_name = " / ".join(combination)
        where = f"{name}, cell {cell_name}"
        try:
            tree = apply_overrides(apply_settings(raw, settings, defaults), overrides, defaults)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        cell = Cell(levels, make_config({**tree, "name": slug(name)}, where))
        address = _address(cell.config)
        if address in seen:
            raise ConfigError(
                f"{name}: cells {seen[address]!r} and {cell_name!r} come out as the same run; "
                "let an axis set what makes them differ, and no override undo it"
            )
        seen[address] = cell_name
        cells.append(cell)
    return cells


def slug(name: str) -> str:
    """The name with what a file name should not have as dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
