"""From a config to everything that training and prediction stand on: panel, splits, features, labels."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimstocr.config import Config
from mimstocr.data import load_panel
from mimstocr.data.concepts import concept_names
from mimstocr.data.facts import Fact, gather_facts
from mimstocr.data.panel import Days, Matrix, Panel, days_of, fingerprint, symbols_of, usable
from mimstocr.data.splits import Splits, resolve_splits
from mimstocr.errors import ConfigError, DataError
from mimstocr.features import Fitted
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatches


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
    learned: dict[str, Task]
    labels: dict[str, Matrix]
    """Every configured task to (days, symbols) raw labels, NaN outside the labelled days of the splits: a label
    ends inside its own split."""
    batches: DayBatches
    train_days: list[int]
    """Days that train, those held out for the balancer's indicator left out."""
    valid_days: list[int]
    indicator_days: list[int] | None
    test_days: list[int]
    device: torch.device
    notes: list[str]

    @property
    def main(self) -> str:
        """The task whose score ranks the stocks."""
        return next(iter(self.learned))


def prepare(config: Config) -> Prepared:
    """Load, split, fit and label.

    Raises what the source, the splits and the components raise; DataError when a split has no usable row.
    """
    device = resolve_device(config.training.device)
    panel = load_panel(config.data)
    if "concepts" in panel and "concepts" not in config.backbone.reads:
        panel = panel.drop_vars(["concepts", "concept"])  # what nobody reads is no part of what a result depends on
    days = days_of(panel)
    splits = resolve_splits(config.splits, days, config.reach)
    rows = usable(panel)
    fitted = config.features.fit(panel, panel["member"].values & _within(len(days), splits.train.days))
    labelled = np.zeros(len(days), dtype=bool)
    for split in (splits.train, splits.valid, splits.test):
        labelled[split.labelled] = True
    facts = gather_facts(config.backbone.reads, panel)
    labels = {
        name: np.where(labelled[:, None] & rows, task.labels(panel), np.float32(np.nan))
        for name, task in config.settled_tasks().items()
    }
    learned = config.learned()
    targets = {name: task.targets(labels[name], rows) for name, task in learned.items()}
    known = np.any([~np.isnan(target) for target in targets.values()], axis=(0, 2))
    usable_days = {
        name: [day for day in range(*split.labelled.indices(len(days))) if known[day]]
        for name, split in (("train", splits.train), ("valid", splits.valid), ("test", splits.test))
    }
    for name, some in usable_days.items():
        if not some:
            raise DataError(
                f"no stock has a label in the {name} split "
                f"({getattr(splits, name).first} to {getattr(splits, name).last}); "
                "look at the universe and at tradable days with `mimstocr data inspect`"
            )
    train, held_out = _hold_out(usable_days["train"], config.balancer.holdout, config.reach)
    return Prepared(
        config=config,
        panel=panel,
        days=days,
        splits=splits,
        rows=rows,
        fitted=fitted,
        learned=learned,
        labels=labels,
        batches=DayBatches(fitted.bind(panel, device), rows, targets, device, facts),
        train_days=train,
        valid_days=usable_days["valid"],
        indicator_days=held_out,
        test_days=usable_days["test"],
        device=device,
        concepts=concept_names(panel) if "concepts" in facts else [],
        notes=_notes(config, panel, fitted, train, rows, facts),
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
        "diagnostics": diagnostics,
    }


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


def _within(n_days: int, days: slice) -> NDArray[np.bool_]:
    mask = np.zeros((n_days, 1), dtype=bool)
    mask[days] = True
    return mask


def _hold_out(days: list[int], share: float, reach: int) -> tuple[list[int], list[int] | None]:
    """Training days, and the last `share` of them to measure over-fitting on; the labels of the two do not overlap."""
    if share == 0:
        return days, None
    at = len(days) - max(1, round(share * len(days)))
    kept = [day for day in days[:at] if day + reach < days[at]]
    if not kept:
        raise ConfigError(
            f"the train split has {len(days)} days, too few to hold {share:.0%} of them out; give it more"
        )
    return kept, days[at:]


def _notes(
    config: Config,
    panel: Panel,
    fitted: Fitted,
    train: list[int],
    rows: NDArray[np.bool_],
    facts: Mapping[str, Fact],
) -> list[str]:
    notes = [*panel.attrs["notes"], *(note for fact in facts.values() for note in fact.notes)]
    if "concepts" in config.backbone.reads and "concepts" not in facts:
        notes.append(
            f"no concept table (data.concepts): {config.backbone.kind} runs without the part that reads concepts"
        )
    if train[0] < fitted.window - 1:
        short = sum(1 for day in train if day < fitted.window - 1)
        notes.append(
            f"the first {short} training days lie less than a window ({fitted.window} days) after the start of the "
            "data; their missing lags are set to the training median"
        )
    left_out = int((panel["member"].values & ~rows).sum())
    if left_out:
        share = left_out / int(panel["member"].values.sum())
        notes.append(f"{left_out} member-days ({share:.1%}) without trade are left out of the cross-sections")
    return notes
