"""Day batches: the windows and targets of a few days' cross-sections, made when they are needed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.data.facts import Fact
from mimstocr.data.panel import Matrix, Panel, few, symbols_of
from mimstocr.errors import DataError
from mimstocr.features import WindowMaker


@dataclass(frozen=True)
class DayBatch:
    """D days of at most N stocks."""

    days: list[int]
    """(D,) positions in the panel."""
    symbols: Tensor
    """[D, N] int64 positions in the panel; padding repeats symbol 0. Aligned or fixed, the same on every day."""
    valid: Tensor
    """[D, N] bool: false is padding or, aligned or fixed, a stock that is not in the day's cross-section."""
    x: Tensor
    """[D, N, L, F] windows."""
    facts: dict[str, Tensor]
    """What else is known of the stocks, [D, N, ...]; see `mimstocr.backbones.Facts`."""
    targets: dict[str, Tensor]
    """Task to [D, N] float32, NaN where there is no label."""


class DayBatches:
    """Makes batches of one panel's days on one device.

    rows: (days, symbols) bool, the cross-sections. targets: task to (days, symbols), NaN where there is none.
    facts: what the backbone reads of the stocks besides their windows. aligned: whether a column is the same stock on
    every day of a batch, with all the stocks of any of its days. fixed: whether every batch has all symbols of the
    panel in its order, as a backbone of a fixed portfolio wants them.
    """

    def __init__(
        self,
        windows: WindowMaker,
        rows: NDArray[np.bool_],
        targets: Mapping[str, Matrix],
        device: torch.device,
        facts: Mapping[str, Fact] | None = None,
        *,
        aligned: bool = False,
        fixed: bool = False,
    ) -> None:
        self._windows = windows
        self._rows = torch.from_numpy(rows).to(device) if aligned or fixed else None
        self._fixed = fixed
        self._members = [torch.from_numpy(np.flatnonzero(row)).to(device) for row in rows]
        self._targets = {name: torch.from_numpy(np.ascontiguousarray(t)).to(device) for name, t in targets.items()}
        self._facts = {name: (torch.from_numpy(f.values).to(device), f.daily) for name, f in (facts or {}).items()}
        self._device = device

    def size(self, day: int) -> int:
        """Windows that are made for a day: the stocks of its cross-section, or fixed all of the panel."""
        return self._rows.shape[1] if self._fixed and self._rows is not None else len(self._members[day])

    def __call__(self, days: Sequence[int]) -> DayBatch:
        """The batch of the given days: padded to the largest, aligned, or of the fixed symbols."""
        at = torch.tensor(days, device=self._device)
        symbols, valid = self._padded(days) if self._rows is None else _aligned(self._rows[at], self._fixed)
        return DayBatch(
            days=list(days),
            symbols=symbols,
            valid=valid,
            x=self._windows(at, symbols),
            facts={
                name: values[at[:, None], symbols] if daily else values[symbols]
                for name, (values, daily) in self._facts.items()
            },
            targets={name: target[at[:, None], symbols] for name, target in self._targets.items()},
        )

    def _padded(self, days: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Symbols and valid, [D, N] each: each day's stocks, one after the other."""
        members = [self._members[day] for day in days]
        symbols = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)
        sizes = torch.tensor([len(member) for member in members], device=self._device)
        return symbols, torch.arange(symbols.shape[1], device=self._device) < sizes[:, None]


def _aligned(rows: Tensor, everyone: bool) -> tuple[Tensor, Tensor]:
    """Symbols and valid, [D, N] each, of rows bool [D, symbols]: the stocks of any day, a column each, or everyone."""
    there = torch.ones_like(rows[0]) if everyone else rows.any(dim=0)
    symbols = there.nonzero().squeeze(1)
    return symbols.repeat(len(rows), 1), rows[:, symbols]


def check_portfolio(learned: Sequence[str], panel: Panel) -> None:
    """Raise DataError unless the panel has the symbols that a model of a fixed portfolio was made for, in their order.

    learned: those symbols; none: the model takes any.
    """
    there = symbols_of(panel)
    if not learned or list(learned) == there:
        return
    missing, new = (sorted(set(a) - set(b)) for a, b in ((learned, there), (there, learned)))
    said = [f"{few(some)} {what}" for some, what in ((missing, "missing"), (new, "new")) if some]
    raise DataError(
        f"the model was made for a fixed portfolio of {len(learned)} symbols, but those of the data differ: "
        f"{'; '.join(said) or 'their order is another'}. Give it data of the same symbols, or train it anew on these"
    )


def in_blocks(days: Sequence[int], size: int, generator: torch.Generator) -> list[list[int]]:
    """The days cut to blocks of `size` days in a row, at an offset drawn at random, in random order; each day once.

    What is left at either end is a block of its own if it is at least half of one, else it joins its neighbour.
    """
    offset = int(torch.randint(size, (), generator=generator))
    cuts = [cut for cut in range(offset, len(days), size) if 2 * min(cut, len(days) - cut) >= size]
    blocks = [list(days[first:last]) for first, last in itertools.pairwise([0, *cuts, len(days)])]
    return [blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()]
