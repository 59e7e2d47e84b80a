"""The evidence of a run: its predictions judged, seed by seed and averaged; what goes into metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mimstocr.backtest import BacktestResult
from mimstocr.config import Config
from mimstocr.errors import RunError
from mimstocr.evaluation import (
    classification_metrics,
    daily_metrics,
    event_metrics,
    level_metrics,
    position_metrics,
    regression_metrics,
    reliability_table,
    summarise,
    volatility_metrics,
)
from mimstocr.predictions import averaged, matrices_of
from mimstocr.tasks import Task
from mimstocr.tasks.returns import Return


def run_metrics(
    config: Config,
    predictions: pl.DataFrame,
    history: Sequence[Mapping[str, Any]],
    result: BacktestResult,
    periods: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The whole of metrics.json.

    history: the rows of the training. periods: those of the rolling models, which count for the time alone.
    """
    by_split = {split: evidence_of(predictions, config, split) for split in ("valid", "test")}
    seeds: dict[str, Any] = {}
    for seed in config.seeds:
        rows = [row for row in history if row["seed"] == seed]
        found = {split: by_split[split]["seeds"][str(seed)] for split in by_split}
        seeds[str(seed)] = {
            "best_epoch": max(row["epoch"] for row in rows if row["best"]),
            "epochs": len(rows),
            "seconds": sum(row["seconds"] for row in [*rows, *periods] if row["seed"] == seed),
            **{split: found[split]["ranking"] for split in found},
            "tasks": {name: {split: found[split]["tasks"][name] for split in found} for name in config.learned()},
        }
    return {
        "seeds": seeds,
        **{key: {split: by_split[split][key] for split in by_split} for key in ("mean", "std", "ensemble")},
        **by_class(predictions, config),
        "backtest": backtest_metrics(result),
    }


def backtest_metrics(result: BacktestResult) -> dict[str, Any]:
    """The part of metrics.json that is about money."""
    return {
        **result.settings.model_dump(mode="json"),
        "measured_against": result.measured_against,
        "counts": result.counts,
        "orders": result.net.reasons(),
        "costs": result.costs_by_kind(),
        "notes": result.notes(),
        **{name: result.metrics.get(name) for name in ("net", "gross", "universe", "index")},
    }


def evidence_of(predictions: pl.DataFrame, config: Config, split: str) -> dict[str, Any]:
    """Each seed's metrics, their mean and standard deviation, and those of the averaged scores, on one split."""
    part_of = split_of(predictions, split)
    seeds = {str(seed): judge(part_of.filter(pl.col("seed") == seed), config) for seed in config.seeds}
    figures = {seed: found["ranking"] for seed, found in seeds.items()}
    names = list(next(iter(figures.values())))
    values = {name: np.array([figure[name] for figure in figures.values()]) for name in names}
    return {
        "seeds": seeds,
        "mean": {name: float(value.mean()) for name, value in values.items()},
        "std": {name: float(value.std(ddof=1)) if len(value) > 1 else float("nan") for name, value in values.items()},
        "ensemble": judge(averaged(part_of), config)["ranking"],
    }


def by_class(predictions: pl.DataFrame, config: Config) -> dict[str, Any]:
    """`by_class`, of the averaged scores: asset class to split to the figures of the ranking within that class alone.

    Nothing where there is one class.
    """
    if "asset_class" not in predictions.columns:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name in predictions["asset_class"].unique(maintain_order=True):
        mine = predictions.filter(pl.col("asset_class") == name)
        found[name] = {split: _ranking(averaged(split_of(mine, split)), config) for split in ("valid", "test")}
    return {"by_class": found}


def split_of(predictions: pl.DataFrame, split: str) -> pl.DataFrame:
    """The rows of the valid or test split. Raises RunError on another name."""
    if split not in ("valid", "test"):
        raise RunError(f"no evidence on split {split!r}; expected valid or test")
    return predictions.filter(pl.col("split") == split)


def judge(table: pl.DataFrame, config: Config) -> dict[str, Any]:
    """The ranking by score against raw returns, and each learned task against its own label."""
    tasks = {name: judge_task(table, name, task, config.priced()) for name, task in config.learned().items()}
    return {"ranking": _ranking(table, config), "tasks": tasks}


def _ranking(table: pl.DataFrame, config: Config) -> dict[str, float]:
    """The ranking by score against raw returns, over the stocks of each day."""
    settings = config.evaluation
    returns = f"label.{config.priced()[0]}"
    _, _, found = matrices_of(table, ["score", returns])
    daily = daily_metrics(found["score"], found[returns], precision_at=settings.precision_at, ndcg_at=settings.ndcg_at)
    return summarise(daily)


def judge_task(table: pl.DataFrame, name: str, task: Task, priced: tuple[str, Return]) -> dict[str, Any]:
    """One task against its own label, by the metrics of its kind; plain values.

    Real values: ic and rank_ic, and where outputs have the unit of the label those of `regression_metrics`. Scales: ic
    and rank_ic, and those of `volatility_metrics` beside the task's reference. Events: those of `event_metrics`, and
    the reliability table. Levels: those of `classification_metrics` and of `level_metrics`. Positions: those of
    `position_metrics` on the raw returns of the task that the evidence is measured on, whatever their own label is.
    Without a label on these days there is nothing to judge: `samples` is 0.
    """
    returns, of_returns = priced
    label = f"label.{returns if task.target == 'position' else name}"
    known = table.filter(pl.col(label).is_not_null())
    if known.is_empty():
        return {"samples": 0}
    if task.target == "position":  # one whose return is not known is counted, so all of them are handed on
        _, _, found = matrices_of(table, [name, label])
        return _plain({**position_metrics(found[name], found[label], of_returns.span[1])})
    if task.target == "level":
        true = known[label].to_numpy().astype(np.int64)
        odds = known.select([f"{name}.{level}" for level in task.levels]).to_numpy()
        named = classification_metrics(true, odds.argmax(axis=1), task.width)
        return _plain({**named, **level_metrics(odds, true)})
    reference = f"reference.{name}"
    columns = [name, label, *([reference] if reference in table.columns else [])]
    _, _, found = matrices_of(known, columns)
    if task.target == "event":
        table_of = reliability_table(found[name], found[label])
        return _plain({**event_metrics(found[name], found[label]), "reliability": table_of._asdict()})
    ranking = summarise(daily_metrics(found[name], found[label], precision_at=(), ndcg_at=()))
    own: dict[str, Any] = {key: ranking[key] for key in ("ic", "rank_ic")}
    if task.target == "scale":
        own |= volatility_metrics(found[name], found[label], found.get(reference))
    elif task.in_units:
        own |= regression_metrics(found[name], found[label])
    return _plain(own)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as lists, as JSON holds them."""
    return {
        key: _plain(value) if isinstance(value, Mapping) else value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in values.items()
    }
