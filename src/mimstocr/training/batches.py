"""Day batches: the windows and targets of a few days' cross-sections, made when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimstocr.data.facts import Fact
from mimstocr.data.panel import Matrix
from mimstocr.features import WindowMaker


@dataclass(frozen=True)
class DayBatch:
    """D days of at most N stocks."""

    days: list[int]
    """(D,) positions in the panel."""
    symbols: Tensor
    """[D, N] int64 positions in the panel; padding repeats symbol 0."""
    valid: Tensor
    """[D, N] bool: false is padding."""
    x: Tensor
    """[D, N, L, F] windows."""
    facts: dict[str, Tensor]
    """What else is known of the stocks, [D, N, ...]; see `mimstocr.backbones.Facts`."""
    targets: dict[str, Tensor]
    """Task to [D, N] float32, NaN where there is no label."""


class DayBatches:
    """Makes batches of one panel's days on one device.

    rows: (days, symbols) bool, the cross-sections. targets: task to (days, symbols), NaN where there is none.
    facts: what the backbone reads of the stocks besides their windows.
    """

    def __init__(
        self,
        windows: WindowMaker,
        rows: NDArray[np.bool_],
        targets: Mapping[str, Matrix],
        device: torch.device,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        self._windows = windows
        self._members = [torch.from_numpy(np.flatnonzero(row)).to(device) for row in rows]
        self._targets = {name: torch.from_numpy(np.ascontiguousarray(t)).to(device) for name, t in targets.items()}
        self._facts = {name: (torch.from_numpy(f.values).to(device), f.daily) for name, f in (facts or {}).items()}
        self._device = device

    def size(self, day: int) -> int:
        """Stocks in the cross-section of a day."""
        return len(self._members[day])

    def __call__(self, days: Sequence[int]) -> DayBatch:
        """The batch of the given days, padded to the largest."""
        members = [self._members[day] for day in days]
        symbols = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)
        sizes = torch.tensor([len(member) for member in members], device=self._device)
        valid = torch.arange(symbols.shape[1], device=self._device) < sizes[:, None]
        at = torch.tensor(days, device=self._device)
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
