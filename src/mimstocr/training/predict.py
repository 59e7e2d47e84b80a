"""Outputs of a model for many days, as matrices over the panel's symbols."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.data.panel import Matrix
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatch, DayBatches
from mimstocr.training.model import Model
from mimstocr.training.objective import daily_losses, labelled

ROWS_AT_ONCE = 2048
"""Windows in one forward pass: enough to fill the kernels, little enough for memory."""


@dataclass(frozen=True)
class Predicted:
    """Outputs for some days; NaN where a stock is not in the day's cross-section."""

    outputs: dict[str, Matrix]
    """Task to (days, symbols), or (days, symbols, levels) logits; what the task makes of the outputs (`Task.said`)."""
    scores: dict[str, Matrix]
    """Task to (days, symbols): the task's own score, higher is better."""
    losses: NDArray[np.float64]
    """(tasks,): mean loss over the days that have labels; NaN without any. A loss that follows an account does so
    through all these days."""
    holds: dict[str, Matrix] = field(default_factory=dict)
    """Task with Hold to (days,): the share of the money held back."""


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
    holds = {name: np.full(len(days), np.nan, dtype=np.float32) for name, task in tasks.items() if task.holds}
    losses = _Losses(tasks, n_symbols)
    done = 0
    for chunk in _chunks(days, batches):
        batch = batches(chunk)
        out = model(batch.x, batch.valid, batch.facts)
        if batch.targets:
            losses.add(out, batch)
        row, column = (index.cpu().numpy() for index in batch.valid.nonzero(as_tuple=True))
        symbol = batch.symbols.cpu().numpy()[row, column]
        for name, task in tasks.items():
            said = task.said(out[name], batch.valid)
            if task.holds:
                holds[name][done : done + len(chunk)] = said[:, -1].float().cpu().numpy()
                said = said[:, :-1]
            outputs[name][done + row, symbol] = _rows(said, batch.valid)
            scores[name][done + row, symbol] = _rows(task.score(said), batch.valid)
        done += len(chunk)
    model.train(training)
    return Predicted(outputs, scores, losses.means(), holds)


def joined(parts: Sequence[Predicted], places: Sequence[int]) -> Predicted:
    """Predictions for some days each as one, without losses; the days of all parts stand at `places` in the whole."""
    order = np.argsort(places)

    def of(pick: Callable[[Predicted], dict[str, Matrix]]) -> dict[str, Matrix]:
        return {name: np.concatenate([pick(part)[name] for part in parts])[order] for name in pick(parts[0])}

    losses = np.full(len(parts[0].losses), np.nan)
    return Predicted(of(lambda part: part.outputs), of(lambda part: part.scores), losses, of(lambda part: part.holds))


class _Losses:
    """Gathers the losses of tasks, chunk by chunk; those that follow an account wait until all days are there."""

    def __init__(self, tasks: Mapping[str, Task], n_symbols: int) -> None:
        self._tasks = tasks
        self._n_symbols = n_symbols
        self._at_once = {name: task for name, task in tasks.items() if not task.loss.sequential}
        self._totals = dict.fromkeys(tasks, 0.0)
        self._counts = dict.fromkeys(tasks, 0)
        self._spans: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {
            name: [] for name in tasks if name not in self._at_once
        }

    def add(self, outputs: Mapping[str, Tensor], batch: DayBatch) -> None:
        """Take the days of a batch."""
        if self._at_once:
            self._count(self._at_once, *daily_losses(self._at_once, outputs, batch))
        for name, span in self._spans.items():
            span.append(self._by_symbol(outputs[name], *labelled(self._tasks[name], batch, name), batch))

    def means(self) -> NDArray[np.float64]:
        """(tasks,) mean over the days that have labels."""
        for name, span in self._spans.items():
            if span:
                output, target, valid = (torch.cat(parts) for parts in zip(*span, strict=True))
                loss = self._tasks[name].loss(output, target, valid)
                self._count([name], loss[None], valid.any(dim=-1)[None])
        return np.array(
            [
                total / count if count else math.nan
                for total, count in zip(self._totals.values(), self._counts.values(), strict=True)
            ]
        )

    def _count(self, names: Iterable[str], losses: Tensor, present: Tensor) -> None:
        totals, counts = losses.where(present, 0.0).sum(dim=1).cpu().double(), present.sum(dim=1).cpu()
        for name, total, count in zip(names, totals.tolist(), counts.tolist(), strict=True):
            self._totals[name] += total
            self._counts[name] += count

    def _by_symbol(
        self, output: Tensor, target: Tensor, valid: Tensor, batch: DayBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, targets and mask with a column for every symbol of the panel, and Hold after them."""
        days, n = valid.shape
        row, column = valid.nonzero(as_tuple=True)
        symbol = batch.symbols[row, column]
        spread = output.new_zeros(days, self._n_symbols + output.shape[1] - n)
        spread[row, symbol] = output[row, column]
        spread[:, self._n_symbols :] = output[:, n:]
        wanted, known = target.new_zeros(days, self._n_symbols), valid.new_zeros(days, self._n_symbols)
        wanted[row, symbol], known[row, symbol] = target[row, column], True
        return spread, wanted, known


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
