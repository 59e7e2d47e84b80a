"""Tables of a structure over many batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Facts, Inputs
from mimstocr.backbones.mlp import Mlp
from mimstocr.sharing import mean_mixing
from mimstocr.sharing.hard import Hard
from mimstocr.sharing.ple import Ple

TASKS = ["return", "momentum"]


def batches() -> list[tuple[Tensor, Tensor, Facts]]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 6, 4, 3, generator=random).double()
    valid = torch.rand(3, 2, 6, generator=random) < torch.tensor([0.2, 0.6, 1.0])[:, None, None]
    return [(part, mask, {}) for part, mask in zip(x, valid, strict=True)]


def test_each_stock_counts_once_however_the_days_are_cut() -> None:
    torch.manual_seed(0)
    module = Ple(shared_experts=2).build(Mlp(hidden_sizes=(4,), dropout=0.5), TASKS, Inputs(3, 4)).double()
    given = batches()
    sizes = [int(valid.sum()) for _, valid, _ in given]
    assert len(set(sizes)) > 1
    whole = torch.cat([x for x, _, _ in given]), torch.cat([valid for _, valid, _ in given])
    found = mean_mixing(module.train(), given)
    assert module.training  # left as it was, and looked at without dropout:
    for one, all_ in zip(found, module.eval().mixing(*whole, {}), strict=True):
        assert one._replace(values=all_.values) == all_
        assert_close(one.values, all_.values, equal_nan=True)
        assert not one.values.requires_grad


def test_a_structure_without_tables_is_asked_once() -> None:
    module = Hard().build(Mlp(hidden_sizes=(4,)), TASKS, Inputs(3, 4))
    given = iter(batches())
    assert mean_mixing(module, given) == []
    assert len(list(given)) == 2
