"""Outputs of a model for many days, as matrices over the panel's symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.data.panel import Matrix
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatches
from mimstocr.training.model import Model
from mimstocr.training.objective import daily_losses

ROWS_AT_ONCE = 2048
"""Windows in one forward pass: enough to fill the kernels, little enough for memory."""


@dataclass(frozen=True)
class Predicted:
    """Outputs for some days; NaN where a stock is not in the day's cross-section."""

    outputs: dict[str, Matrix]
    """Task to (days, symbols), or (days, symbols, levels) logits."""
    scores: dict[str, Matrix]
    """Task to (days, symbols): the task's own score, higher is better."""
    losses: NDArray[np.float64]
    """(tasks,): mean loss over the days that have labels; NaN without any."""


@torch.no_grad()
def predict(
    model: Model, tasks: Mapping[str, Task], batches: DayBatches, days: Sequence[int], n_symbols: int
) -> Predicted:
    """Run the model over `days`, several at once; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    shapes = {name: (len(days), n_symbols) + ((task.width,) if task.levels else ()) for name, task in tasks.items()}
    outputs = {name: np.full(shape, np.nan, dtype=np.float32) for name, shape in shapes.items()}
    scores = {name: np.full((len(days), n_symbols), np.nan, dtype=np.float32) for name in tasks}
    totals = torch.zeros(len(tasks), dtype=torch.float64)
    counts = torch.zeros(len(tasks), dtype=torch.float64)
    done = 0
    for chunk in _chunks(days, batches):
        batch = batches(chunk)
        out = model(batch.x, batch.valid, batch.facts)
        if batch.targets:
            losses, present = daily_losses(tasks, out, batch)
            totals += losses.where(present, 0.0).sum(dim=1).cpu().double()
            counts += present.sum(dim=1).cpu()
        row, column = (index.cpu().numpy() for index in batch.valid.nonzero(as_tuple=True))
        symbol = batch.symbols.cpu().numpy()[row, column]
        for name, task in tasks.items():
            outputs[name][done + row, symbol] = _rows(out[name], batch.valid)
            scores[name][done + row, symbol] = _rows(task.score(out[name]), batch.valid)
        done += len(chunk)
    model.train(training)
    return Predicted(outputs, scores, (totals / counts).numpy())


def _rows(values: Tensor, valid: Tensor) -> Matrix:
    rows: Matrix = values[valid].float().cpu().numpy()
    return rows


def _chunks(days: Sequence[int], batches: DayBatches) -> Iterator[list[int]]:
    chunk: list[int] = []
    rows = 0
    for day in days:
        if chunk and rows + batches.size(day) > ROWS_AT_ONCE:
            yield chunk
            chunk, rows = [], 0
        chunk.append(day)
        rows += batches.size(day)
    if chunk:
        yield chunk
