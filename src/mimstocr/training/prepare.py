"""From a config to everything that training and prediction stand on: panel, splits, features, labels."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimstocr.config import Config
from mimstocr.data import load_panel
from mimstocr.data.assets import OwnCalendar, by_class, class_names, own_calendars
from mimstocr.data.concepts import concept_names
from mimstocr.data.facts import Fact, gather_facts
from mimstocr.data.panel import Days, Matrix, Panel, day_text, days_of, fingerprint, symbols_of, usable
from mimstocr.data.splits import Split, Splits, labelled_days, resolve_splits
from mimstocr.errors import ConfigError, DataError
from mimstocr.features import Fitted
from mimstocr.features.by_class import fit_by_class
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatches
from mimstocr.training.rolling import Period, periods_of


@dataclass(frozen=True)
class Prepared:
    """One config on its data, ready to train."""

    config: Config
    panel: Panel
    days: Days
    splits: Splits
    rows: NDArray[np.bool_]
    """(days, symbols): the cross-sections."""
    fitted: Fitted
    concepts: list[str]
    """The concepts that the backbone reads."""
    classes: list[str]
    """The asset classes, where there are several."""
    portfolio: list[str]
    """The symbols, where the backbone is made for them."""
    learned: dict[str, Task]
    labels: dict[str, Matrix]
    """Every configured task to (days, symbols) raw labels, NaN outside the labelled days of the splits: a label
    ends inside its own split."""
    starts: dict[str, float]
    """Learned task to where its head's bias starts."""
    references: dict[str, Matrix]
    """Learned task to (days, symbols) what one would say without a model, where something is usual."""
    batches: DayBatches
    train_days: list[int]
    """Days that train, those held out for the balancer's indicator left out."""
    valid_days: list[int]
    indicator_days: list[int] | None
    test_days: list[int]
    periods: list[Period]
    """Those that a rolling model is trained for; none: it is not."""
    open_batches: DayBatches | None
    """As `batches`, with labels wherever they end: a rolling model is given days by what is known, not by split."""
    device: torch.device
    notes: list[str]

    @property
    def main(self) -> str:
        """The task whose score ranks the stocks."""
        return next(iter(self.learned))


def prepare(config: Config, *, upto: np.datetime64 | None = None) -> Prepared:
    """Load, split, fit and label.

    upto: the last day or bar of the data that is looked at, where a run began before there were more.
    Raises what the source, the splits and the components raise; DataError when a split has no usable row.
    """
    device = resolve_device(config.training.device)
    panel = load_panel(config.data)
    panel = panel if upto is None else _until(panel, upto)
    if "concepts" in panel and "concepts" not in config.backbone.reads:
        panel = panel.drop_vars(["concepts", "concept"])  # what nobody reads is no part of what a result depends on
    if "extra" in panel and "extra" not in config.features.reads:
        panel = panel.drop_vars(["extra", "column"])
    days = days_of(panel)
    splits = resolve_splits(config.splits, days, config.reach)
    rows = usable(panel)
    calendars = own_calendars(panel)
    inside = {own.name: labelled_days(splits, own.days, config.reach, own.name) for own in calendars}
    fitted = fit_by_class(config.features, calendars, panel["member"].values & _within(len(days), splits.train.days))
    facts = gather_facts(config.backbone.reads, panel)
    labels = {name: _labels(task, calendars, inside, rows) for name, task in config.settled_tasks().items()}
    learned = config.learned()
    targets = {name: _targets(task, calendars, labels[name], rows) for name, task in learned.items()}
    known = np.any([~np.isnan(target) for target in targets.values()], axis=(0, 2))
    usable_days = {
        name: [day for day in range(*split.days.indices(len(days))) if known[day]]
        for name, split in (("train", splits.train), ("valid", splits.valid), ("test", splits.test))
    }
    for name, some in usable_days.items():
        if not some:
            raise DataError(
                f"no stock has a label in the {name} split "
                f"({getattr(splits, name).first} to {getattr(splits, name).last}); "
                "look at the universe and at tradable days with `mimstocr data inspect`"
            )
    train, held_out = _hold_out(usable_days["train"], config.balancer.holdout, _ends(calendars, config.reach))
    for name, target in targets.items():
        _check_varied(name, target[train], splits.train)
    usual = {name: _reference(task, calendars) for name, task in learned.items()}
    windows = fitted.bind(panel, device)

    def batches_of(targets: Mapping[str, Matrix]) -> DayBatches:
        aligned, fixed = config.training.order == "blocks", config.backbone.fixed_portfolio
        return DayBatches(windows, rows, targets, device, facts, aligned=aligned, fixed=fixed)

    periods, open_targets = _rolled(config, splits, days, calendars, rows)
    return Prepared(
        config=config,
        panel=panel,
        days=days,
        splits=splits,
        rows=rows,
        fitted=fitted,
        learned=learned,
        labels=labels,
        starts={name: task.start(targets[name][train]) for name, task in learned.items()},
        references={name: matrix for name, matrix in usual.items() if matrix is not None},
        batches=batches_of(targets),
        train_days=train,
        valid_days=usable_days["valid"],
        indicator_days=held_out,
        test_days=usable_days["test"],
        periods=periods,
        open_batches=batches_of(open_targets) if periods else None,
        device=device,
        concepts=concept_names(panel) if "concepts" in facts else [],
        classes=class_names(panel),
        portfolio=symbols_of(panel) if config.backbone.fixed_portfolio else [],
        notes=[*_notes(config, panel, calendars, fitted, train, rows, facts), *_rolling_notes(config, days, periods)],
    )


def resolve_device(name: str) -> torch.device:
    """The torch device of a setting. Raises ConfigError when it is unknown or not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"training.device: expected cpu, cuda, cuda:N or auto, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"training.device: expected cpu, cuda, cuda:N or auto, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device: {name!r} asked for, but torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return device


def data_account(prepared: Prepared, inspection: Mapping[str, Any]) -> dict[str, Any]:
    """data.json: what the data was, for the report and for whoever asks later."""
    config = prepared.config
    splits = {}
    for name in ("train", "valid", "test"):
        split = getattr(prepared.splits, name)
        splits[name] = {
            "first": str(split.first),
            "last": str(split.last),
            "days": split.days.stop - split.days.start,
            "labelled": split.labelled.stop - split.labelled.start,
            "rows": int(prepared.rows[split.days].sum()),
        }
    tasks, diagnostics = {}, {}
    train = prepared.splits.train.labelled
    for name, task in config.settled_tasks().items():
        label = prepared.labels[name][train]
        known = ~np.isnan(label)
        tasks[name] = {
            "kind": task.kind,
            "target": task.target,
            "loss": task.loss.kind,
            "levels": list(task.levels),
            "reach": task.reach,
            "describe": (type(task).__doc__ or "").strip().partition("\n")[0],
            "train_labels": int(known.sum()),
        }
        if task.levels:
            counts = np.bincount(label[known].astype(np.int64), minlength=task.width)
            tasks[name]["train_shares"] = (counts / max(counts.sum(), 1)).tolist()
            present = known.any(axis=1)  # days on which the task has labels at all
            level = torch.from_numpy(np.where(known, label, 0).astype(np.int64)[present])
            found = task.loss.diagnostics(level, torch.from_numpy(known[present]))
            if name in prepared.learned and found:
                dates = [str(day) for day in prepared.days[train][present]]
                diagnostics[name] = {"days": dates, **{key: value.tolist() for key, value in found.items()}}
    return {
        "inspection": {**inspection, "notes": prepared.notes},
        "splits": splits,
        "features": {
            "kind": config.features.kind,
            "names": list(prepared.fitted.names),
            "window": prepared.fitted.window,
        },
        "learned": list(prepared.learned),
        "main": prepared.main,
        "tasks": tasks,
        "priced": config.priced()[0],
        "delay": config.priced()[1].delay,
        "horizon": config.priced()[1].horizon,
        "days_per_year": int(prepared.panel.attrs["days_per_year"]),
        "diagnostics": diagnostics,
        **_rolling_account(prepared),
    }


def _rolling_account(prepared: Prepared) -> dict[str, Any]:
    """What data.json says of rolling retraining; nothing without."""
    rolling, periods = prepared.config.training.rolling, prepared.periods
    if rolling is None:
        return {}
    tested = [period for period in periods if period.first < prepared.splits.test.days.stop]
    first, last = len(tested[0].train), len(tested[-1].train)
    found = {"periods": len(periods), "test_periods": len(tested), "first_train_days": first, "last_train_days": last}
    return {"rolling": {**rolling.model_dump(mode="json"), **found}}


def environment(prepared: Prepared) -> dict[str, Any]:
    """environment.json: what a run was computed with."""
    import mimstocr

    device = prepared.device
    return {
        "mimstocr": mimstocr.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": prepared.config.training.threads,
        "seeds": list(prepared.config.seeds),
        "data_fingerprint": fingerprint(prepared.panel),
        "symbols": len(symbols_of(prepared.panel)),
    }


def _check_varied(name: str, targets: Matrix, train: Split) -> None:
    """Raise DataError when a task has no label, or always the same one, on the days that train."""
    known = targets[~np.isnan(targets)]
    if known.size == 0 or known.min() == known.max():
        what = f"all {known.size} labels of task {name!r} are alike" if known.size else f"task {name!r} has no label"
        raise DataError(
            f"{what} in the train split ({train.first} to {train.last}), so there is nothing to learn; look at the "
            "data of these days, change the task's settings, or leave it out"
        )


def _until(panel: Panel, last: np.datetime64) -> Panel:
    """The panel without the days after `last`, which its notes tell of."""
    days = days_of(panel)
    stop = int(np.searchsorted(days, last, side="right"))
    if stop in (0, len(days)):
        return panel
    cut = panel.isel(date=slice(stop))
    told = f"the data go on to {day_text(days[-1])}; the run keeps to what it began with, to {day_text(days[stop - 1])}"
    cut.attrs = {**panel.attrs, "notes": [*panel.attrs["notes"], told]}
    return cut


def _within(n_days: int, days: slice) -> NDArray[np.bool_]:
    mask = np.zeros((n_days, 1), dtype=bool)
    mask[days] = True
    return mask


def _labels(
    task: Task, calendars: Sequence[OwnCalendar], inside: Mapping[str, NDArray[np.bool_]], rows: NDArray[np.bool_]
) -> Matrix:
    """(days, symbols) labels of the true rows that end inside their split, each class on its own calendar."""

    def of_class(own: OwnCalendar) -> Matrix:
        return np.where(inside[own.name][:, None] & own.part(rows), task.labels(own.panel), np.float32(np.nan))

    return by_class(calendars, of_class)


def _targets(task: Task, calendars: Sequence[OwnCalendar], labels: Matrix, rows: NDArray[np.bool_]) -> Matrix:
    """(days, symbols) what the loss is given; each class is normalised by itself."""
    return by_class(calendars, lambda own: task.targets(own.part(labels), own.part(rows)))


def _rolled(
    config: Config, splits: Splits, days: Days, calendars: Sequence[OwnCalendar], rows: NDArray[np.bool_]
) -> tuple[list[Period], dict[str, Matrix]]:
    """The periods of a rolling model, and the targets of the learned tasks wherever their labels end."""
    if config.training.rolling is None:
        return [], {}
    everywhere = {own.name: np.ones(len(own.days), dtype=bool) for own in calendars}
    targets = {
        name: _targets(task, calendars, _labels(task, calendars, everywhere, rows), rows)
        for name, task in config.learned().items()
    }
    known = np.flatnonzero(np.any([~np.isnan(target) for target in targets.values()], axis=(0, 2)))
    known = known[known >= splits.train.days.start]
    ends = _ends(calendars, config.reach)
    return periods_of(config.training.rolling, days, splits.test.days.start, known, ends), targets


def _rolling_notes(config: Config, days: Days, periods: Sequence[Period]) -> list[str]:
    rolling = config.training.rolling
    if rolling is None:
        return []
    fewest, most = (pick(len(period.train) for period in periods) for pick in (min, max))
    return [
        f"rolling: the predictions from {day_text(days[periods[0].first])} on are of {len(periods)} models, one a "
        f"{rolling.every}, each trained on from the one before (epochs: {rolling.epochs}) on {fewest} to {most} days "
        "whose labels were known by then; figures by epoch, the best epoch and sharing.json are of the training before"
    ]


def _reference(task: Task, calendars: Sequence[OwnCalendar]) -> Matrix | None:
    """(days, symbols) what one would say without a model, where the task has something usual."""
    found = {own.name: task.reference(own.panel) for own in calendars}
    known = {name: matrix for name, matrix in found.items() if matrix is not None}
    return by_class(calendars, lambda own: known[own.name]) if known else None


def _ends(calendars: Sequence[OwnCalendar], reach: int) -> NDArray[np.int64]:
    """(days,) the day on which the last label of each day is known; beyond the last where that is not in the data."""
    n_days = len(calendars[0].last)
    ends = np.zeros(n_days, dtype=np.int64)
    for own in calendars:
        later = np.concatenate([own.days[reach:], np.full(min(reach, len(own.days)), n_days)])
        ends[own.days] = np.maximum(ends[own.days], later)
    return ends


def _hold_out(days: list[int], share: float, ends: NDArray[np.int64]) -> tuple[list[int], list[int] | None]:
    """Training days, and the last `share` of them to measure over-fitting on; the labels of the two do not overlap.

    ends: (days of the panel,) the day on which the last label of each is known.
    """
    if share == 0:
        return days, None
    at = len(days) - max(1, round(share * len(days)))
    kept = [day for day in days[:at] if ends[day] < days[at]]
    if not kept:
        raise ConfigError(
            f"the train split has {len(days)} days, too few to hold {share:.0%} of them out; give it more"
        )
    return kept, days[at:]


def _notes(
    config: Config,
    panel: Panel,
    calendars: Sequence[OwnCalendar],
    fitted: Fitted,
    train: list[int],
    rows: NDArray[np.bool_],
    facts: Mapping[str, Fact],
) -> list[str]:
    notes = [*panel.attrs["notes"], *(note for fact in facts.values() for note in fact.notes), *fitted.notes]
    notes += _network_notes(config, train, rows, facts) if config.agent is None else []
    for own in calendars:
        short = int((np.flatnonzero(np.isin(own.days, train)) < fitted.window - 1).sum())
        if short:
            of = f"{own.name}: " if own.name else ""
            notes.append(
                f"{of}the first {short} training days lie less than a window ({fitted.window} days) after the start of "
                "the data; their missing lags are set to the training median"
            )
    left_out = int((panel["member"].values & ~rows).sum())
    if left_out:
        share = left_out / int(panel["member"].values.sum())
        notes.append(f"{left_out} member-days ({share:.1%}) without trade are left out of the cross-sections")
    return notes


def _network_notes(config: Config, train: list[int], rows: NDArray[np.bool_], facts: Mapping[str, Fact]) -> list[str]:
    notes = []
    if "concepts" in config.backbone.reads and "concepts" not in facts:
        notes.append(
            f"no concept table (data.concepts): {config.backbone.kind} runs without the part that reads concepts"
        )
    if config.backbone.fixed_portfolio:
        notes.append(
            f"{config.backbone.kind} is made for the {rows.shape[1]} symbols of the data; it reads zeros for those "
            f"that are not in a day's cross-section, {1 - rows[train].mean():.1%} of all on the training days"
        )
    notes += [f"task {name}: {note}" for name, task in config.learned().items() for note in task.notes()]
    return notes
