"""The evidence of a run: its predictions judged, seed by seed and averaged; what goes into metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mimstocr.backtest import BacktestResult
from mimstocr.config import Config
from mimstocr.errors import RunError
from mimstocr.evaluation import classification_metrics, daily_metrics, summarise
from mimstocr.predictions import averaged, matrix_of


def run_metrics(
    config: Config, predictions: pl.DataFrame, history: Sequence[Mapping[str, Any]], result: BacktestResult
) -> dict[str, Any]:
    """The whole of metrics.json."""
    by_split = {split: evidence_of(predictions, config, split) for split in ("valid", "test")}
    seeds: dict[str, Any] = {}
    for seed in config.seeds:
        rows = [row for row in history if row["seed"] == seed]
        found = {split: by_split[split]["seeds"][str(seed)] for split in by_split}
        seeds[str(seed)] = {
            "best_epoch": max(row["epoch"] for row in rows if row["best"]),
            "epochs": len(rows),
            "seconds": sum(row["seconds"] for row in rows),
            **{split: found[split]["ranking"] for split in found},
            "tasks": {name: {split: found[split]["tasks"][name] for split in found} for name in config.learned()},
        }
    return {
        "seeds": seeds,
        **{key: {split: by_split[split][key] for split in by_split} for key in ("mean", "std", "ensemble")},
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


def split_of(predictions: pl.DataFrame, split: str) -> pl.DataFrame:
    """The rows of the valid or test split. Raises RunError on another name."""
    if split not in ("valid", "test"):
        raise RunError(f"no evidence on split {split!r}; expected valid or test")
    return predictions.filter(pl.col("split") == split)


def judge(table: pl.DataFrame, config: Config) -> dict[str, Any]:
    """The ranking by score against raw returns, and each learned task against its own label."""
    settings = config.evaluation
    _, _, scores = matrix_of(table, "score")
    _, _, returns = matrix_of(table, f"label.{config.priced()[0]}")
    daily = daily_metrics(scores, returns, precision_at=settings.precision_at, ndcg_at=settings.ndcg_at)
    tasks: dict[str, Any] = {}
    for name, task in config.learned().items():
        known = table.filter(pl.col(f"label.{name}").is_not_null())
        if not task.levels:
            _, _, outputs = matrix_of(known, name)
            _, _, label = matrix_of(known, f"label.{name}")
            own = summarise(daily_metrics(outputs, label, precision_at=(), ndcg_at=()))
            tasks[name] = {key: own[key] for key in ("ic", "rank_ic")}
            continue
        odds = known.select([f"{name}.{level}" for level in task.levels]).to_numpy()
        found = classification_metrics(
            known[f"label.{name}"].to_numpy().astype(np.int64), odds.argmax(axis=1), task.width
        )
        tasks[name] = {**found, "confusion": found["confusion"].tolist()}
    return {"ranking": summarise(daily), "tasks": tasks}
