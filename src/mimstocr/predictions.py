"""The predictions table, and what is read off it: the ranked list, matrices by day and symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mimstocr.data.panel import Matrix, Panel, days_of, symbols_of
from mimstocr.tasks import Task
from mimstocr.training.predict import Predicted


def prediction_table(
    panel: Panel,
    days: Sequence[int],
    by_seed: Mapping[int, Predicted],
    tasks: Mapping[str, Task],
    labels: Mapping[str, Matrix] | None = None,
    splits: NDArray[np.object_] | None = None,
) -> pl.DataFrame:
    """The predictions table: one row a seed, day and stock of the day's cross-section."""
    main = next(iter(tasks))
    symbols = np.array(symbols_of(panel))
    dates = days_of(panel)[list(days)]
    frames = []
    for seed, predicted in by_seed.items():
        row, column = np.nonzero(~np.isnan(predicted.scores[main]))
        columns: dict[str, Any] = {
            "seed": np.full(len(row), seed, dtype=np.int32),
            "date": dates[row],
            "symbol": symbols[column],
        }
        if splits is not None:
            columns["split"] = splits[row].astype(str)
        columns["score"] = predicted.scores[main][row, column]
        for name, task in tasks.items():
            output = predicted.outputs[name][row, column]
            if not task.levels:
                columns[name] = output
                continue
            odds = torch.from_numpy(output).softmax(dim=-1).numpy()
            columns |= {f"{name}.{level}": odds[:, i] for i, level in enumerate(task.levels)}
        for name, label in (labels or {}).items():
            columns[f"label.{name}"] = label[row, column]
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames).fill_nan(None)


def ranked_list(table: pl.DataFrame, top: int | None = None) -> pl.DataFrame:
    """The list of the table's last day: seeds averaged, best score first."""
    drop = [name for name in table.columns if name in ("seed", "split") or name.startswith("label.")]
    last = table.filter(pl.col("date") == pl.col("date").max()).drop(drop)
    means = last.group_by("date", "symbol").agg(pl.all().mean()).sort(["score", "symbol"], descending=[True, False])
    ranked = means.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))
    order = ["date", "rank", "symbol", "score"]
    ranked = ranked.select(order + [name for name in ranked.columns if name not in order])
    return ranked if top is None else ranked.head(top)


def matrix_of(table: pl.DataFrame, value: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Days, symbols and the (days, symbols) matrix of one column; NaN where there is no row."""
    dates, at = np.unique(table["date"].to_numpy().astype("datetime64[D]"), return_inverse=True)
    symbols, column = np.unique(table["symbol"].to_numpy().astype(str), return_inverse=True)
    matrix = np.full((len(dates), len(symbols)), np.nan)
    matrix[at, column] = table[value].to_numpy()
    return dates, symbols, matrix


def averaged(table: pl.DataFrame) -> pl.DataFrame:
    """Seeds averaged, in order of date and symbol."""
    numbers = [name for name in table.columns if name not in ("seed", "date", "symbol", "split")]
    return table.group_by("date", "symbol").agg(pl.col(numbers).mean()).sort("date", "symbol")
