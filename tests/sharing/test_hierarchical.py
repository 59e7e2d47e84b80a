"""Hierarchical sharing."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Gru
from mimstocr.errors import ConfigError
from mimstocr.sharing.hierarchical import Hierarchical, HierarchicalModule

TASKS = ["return", "momentum", "volatility", "volume"]
BACKBONE = Gru(hidden_size=4, num_layers=1)


def module_of(tasks: list[str] = TASKS, **settings: object) -> HierarchicalModule:
    torch.manual_seed(0)
    made = Hierarchical(**settings).build(BACKBONE, tasks, Inputs(3, 5)).double()
    assert isinstance(made, HierarchicalModule)
    return made


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 5, 3, generator=random).double(), torch.rand(2, 6, generator=random) < 0.7


def tower(module: HierarchicalModule, k: int, inputs: Tensor) -> Tensor:
    weight, bias = module.towers[k].parameters()
    inner = inputs @ weight.T + bias
    return torch.where(inner > 0, inner, 0.1 * inner)


def test_one_level_is_hard_sharing_and_a_tower_a_task() -> None:
    module = module_of(levels=[TASKS])
    x, valid = batch()
    shared = module.backbone(x, valid, {})
    for k, state in enumerate(module(x, valid, {})):
        assert_close(state[valid], tower(module, k, shared[valid]))
    torch.manual_seed(0)
    assert torch.equal(BACKBONE.build(Inputs(3, 5)).double()(x, valid, {}), shared)
    assert module.mixing(x, valid, {}) == []


@pytest.mark.parametrize("stop_gradient", [False, True])
def test_a_task_reads_all_levels_below_it(stop_gradient: bool) -> None:
    levels = [["volume", "momentum"], ["volatility"], ["return"]]
    module = module_of(levels=levels, stop_gradient=stop_gradient)
    x, valid = batch()
    found = dict(zip(TASKS, (state[valid] for state in module(x, valid, {})), strict=True))
    shared = module.backbone(x, valid, {})[valid]
    assert_close(found["volume"], tower(module, 3, shared))
    assert_close(found["momentum"], tower(module, 1, shared))
    low = torch.cat([shared, found["volume"], found["momentum"]], dim=1)
    assert_close(found["volatility"], tower(module, 2, low))
    assert_close(found["return"], tower(module, 0, torch.cat([low, found["volatility"]], dim=1)))


def test_the_main_task_is_on_top_unless_told_otherwise() -> None:
    assert module_of().below == {0: [1, 2, 3], 1: [], 2: [], 3: []}
    assert module_of(TASKS[:1]).below == {0: []}
    assert module_of(levels=[["return"], ["momentum", "volatility", "volume"]]).below == {0: [], 1: [0], 2: [0], 3: [0]}


def test_the_gradient_can_be_stopped_where_it_enters_a_lower_task() -> None:
    x, valid = batch()
    for stop_gradient in (False, True):
        module = module_of(["return", "momentum"], stop_gradient=stop_gradient)
        module(x, valid, {})[0].square().sum().backward()
        low, top = (list(module.towers[k].parameters()) for k in (1, 0))
        assert all((p.grad is None) == stop_gradient for p in low)
        assert all((p.grad != 0).any() for p in [*top, *module.backbone.parameters()])


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ([["momentun", "volatility", "volume"], ["return"]], "no task 'momentun' is learned; did you mean 'momentum'"),
        ([["momentum", "volume"], ["return"]], "missing: volatility"),
        ([["momentum"], ["return"]], "missing: volatility, volume"),
        ([["momentum", "volatility", "volume"], ["return", "momentum"]], "each task once, got momentum more than once"),
        ([["volume", "volume", "momentum"], ["volatility", "return"]], "each task once, got volume more than once"),
    ],
)
def test_each_task_stands_in_one_level(levels: list[list[str]], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        module_of(levels=levels)
    assert str(caught.value).startswith("sharing.levels: ")


def test_the_table_holds_the_norms_of_the_weights() -> None:
    module = module_of(["return", "momentum", "volatility"], levels=[["volatility"], ["momentum"], ["return"]])
    (table,) = module.mixing(*batch(), {})
    assert table.rows == ("return", "momentum", "volatility")
    assert table.columns == ("backbone", "volatility", "momentum")
    for k, n in ((0, 3), (1, 2), (2, 1)):
        weight = next(module.towers[k].parameters())
        expected = [weight[:, 4 * i : 4 * i + 4].square().sum().sqrt() for i in range(n)]
        assert_close(table.values[k, :n], torch.stack(expected).detach())
        assert table.values[k, n:].isnan().all()
