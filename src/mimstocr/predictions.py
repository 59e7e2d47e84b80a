"""The predictions table, and what is read off it: the ranked list, matrices by day and symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.data.assets import class_names, class_of_symbols
from mimstocr.data.panel import Matrix, Panel, days_of, resolved, symbols_of
from mimstocr.data.splits import HOLIDAYS
from mimstocr.tasks import Task
from mimstocr.training.predict import Predicted


def prediction_table(
    panel: Panel,
    days: Sequence[int],
    by_seed: Mapping[int, Predicted],
    tasks: Mapping[str, Task],
    beside: Mapping[str, Matrix] | None = None,
    splits: NDArray[np.object_] | None = None,
) -> pl.DataFrame:
    """The predictions table: one row a seed, day and stock of the day's cross-section; with its class, of several.

    Outputs are in the unit of the task's label (`Task.natural`); the share of Hold is the same for all stocks of a day.
    beside: further columns, name to (days, symbols), such as `label.return`.
    """
    main = next(iter(tasks))
    symbols = np.array(symbols_of(panel))
    classes = class_of_symbols(panel) if class_names(panel) else None
    dates = days_of(panel)[list(days)]
    frames = []
    for seed, predicted in by_seed.items():
        row, column = np.nonzero(~np.isnan(predicted.scores[main]))
        columns: dict[str, Any] = {
            "seed": np.full(len(row), seed, dtype=np.int32),
            "date": dates[row],
            "symbol": symbols[column],
        }
        if classes is not None:
            columns["asset_class"] = classes[column]
        if splits is not None:
            columns["split"] = splits[row].astype(str)
        columns["score"] = predicted.scores[main][row, column]
        for name, task in tasks.items():
            output = task.natural(predicted.outputs[name][row, column])
            if task.levels:
                columns |= {f"{name}.{level}": output[:, i] for i, level in enumerate(task.levels)}
            else:
                columns[name] = output
            if task.holds:
                columns[f"{name}.hold"] = predicted.holds[name][row]
        for name, matrix in (beside or {}).items():
            columns[name] = matrix[row, column]
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames).fill_nan(None)


def output_columns(tasks: Mapping[str, Task]) -> list[str]:
    """The columns of the predictions table that hold what the tasks put out, in its order."""
    columns: list[str] = []
    for name, task in tasks.items():
        columns += [f"{name}.{level}" for level in task.levels] or [name]
        columns += [f"{name}.hold"] if task.holds else []
    return columns


def ranked_list(table: pl.DataFrame, top: int | None = None) -> pl.DataFrame:
    """The list of the table's last day: seeds averaged, best score first.

    Of several asset classes, one that was closed on that day comes with its own last day, as its scores stand until it
    opens again; one that ended longer before than any holiday takes is left out.
    """
    drop = [name for name in table.columns if name in ("seed", "split") or name.startswith(("label.", "reference."))]
    end, keys = pl.col("date").max(), _keys(table)
    if "asset_class" in keys:
        end = pl.when(end.over("asset_class") >= end - HOLIDAYS.item()).then(end.over("asset_class"))
    last = table.filter(pl.col("date") == end).drop(drop)
    means = last.group_by(keys).agg(pl.all().mean()).sort(["score", "symbol"], descending=[True, False])
    ranked = means.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))
    order = ["date", "rank", *keys[1:], "score"]
    ranked = ranked.select(order + [name for name in ranked.columns if name not in order])
    return ranked if top is None else ranked.head(top)


def matrix_of(table: pl.DataFrame, value: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Days, symbols and the (days, symbols) matrix of one column; NaN where there is no row."""
    dates, symbols, matrices = matrices_of(table, [value])
    return dates, symbols, matrices[value]


def matrices_of(
    table: pl.DataFrame, values: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[np.float64]]]:
    """Days, symbols and the (days, symbols) matrix of each of some columns; NaN where there is no row."""
    dates, at = np.unique(resolved(table["date"].to_numpy()), return_inverse=True)
    symbols, column = np.unique(table["symbol"].to_numpy().astype(str), return_inverse=True)
    matrices = {}
    for value in values:
        matrices[value] = np.full((len(dates), len(symbols)), np.nan)
        matrices[value][at, column] = table[value].to_numpy()
    return dates, symbols, matrices


def averaged(table: pl.DataFrame) -> pl.DataFrame:
    """Seeds averaged, in order of date and symbol."""
    keys = _keys(table)
    numbers = [name for name in table.columns if name not in ("seed", "split", *keys)]
    return table.group_by(keys).agg(pl.col(numbers).mean()).sort("date", "symbol")


def _keys(table: pl.DataFrame) -> list[str]:
    """What tells the rows of one seed apart, and the class of each, where there are several."""
    return ["date", "symbol", *(name for name in ("asset_class",) if name in table.columns)]
