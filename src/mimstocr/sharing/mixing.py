"""What a structure does with its parts, over many days."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mimstocr.backbones import Facts
from mimstocr.sharing.base import Mixing, SharingModule


@torch.no_grad()
def mean_mixing(module: SharingModule, batches: Iterable[tuple[Tensor, Tensor, Facts]]) -> list[Mixing]:
    """The tables of `module`, each the mean over the valid stocks of all batches (x, valid, facts), float64.

    Without dropout; the module is left in the mode it was in. Nothing for a structure that has no tables.
    """
    training = module.training
    module.eval()
    last: list[Mixing] = []
    totals: list[Tensor] = []
    stocks = 0
    for x, valid, facts in batches:
        last = module.mixing(x, valid, facts)
        if not last:
            break
        n = int(valid.sum())
        parts = [table.values.double() * n for table in last]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
        stocks += n
    module.train(training)
    return [table._replace(values=total / stocks) for table, total in zip(last, totals, strict=True)]
