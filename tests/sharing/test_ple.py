"""Progressive layered extraction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.mlp import Mlp
from mimstocr.backbones.recurrent import Lstm
from mimstocr.sharing.ple import Ple

TASKS = ["return", "momentum"]
Values = NDArray[np.float64]


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 4, 3, generator=random).double(), torch.rand(2, 6, generator=random) < 0.7


def dense(module: nn.Module, inputs: Values) -> Values:
    weight, bias = (p.detach().numpy() for p in module.parameters())
    inner = weight @ inputs + bias
    return np.where(inner > 0, inner, 0.1 * inner)


def through(gate: nn.Module, state: Values, experts: list[Values]) -> Values:
    odds = np.exp(next(gate.parameters()).detach().numpy() @ state)
    assert len(odds) == len(experts)
    mixed: Values = sum(odd / odds.sum() * expert for odd, expert in zip(odds, experts, strict=True))
    return mixed


def test_by_hand() -> None:
    """Two tasks A and B, two layers, one expert a task and one shared: every line of the paper's picture."""
    torch.manual_seed(0)
    module: Any = Ple().build(Mlp(hidden_sizes=(2,), dropout=0), TASKS, Inputs(3, 4)).double()
    first, last = module.layers
    assert [len(layer.experts) for layer in module.layers] == [3, 3]
    assert [len(layer.gates) for layer in module.layers] == [3, 2]  # no shared gate on top
    x, valid = batch()
    states = module(x, valid, {})
    for day, place in valid.nonzero().tolist():
        window = x[day, place].numpy().ravel()
        a, b, s = (dense(expert, window) for expert in first.experts)
        state_a = through(first.gates[0], window, [a, s])
        state_b = through(first.gates[1], window, [b, s])
        state_s = through(first.gates[2], window, [a, b, s])
        a, b, s = (dense(e, state) for e, state in zip(last.experts, (state_a, state_b, state_s), strict=True))
        assert_close(states[0][day, place].detach().numpy(), through(last.gates[0], state_a, [a, s]))
        assert_close(states[1][day, place].detach().numpy(), through(last.gates[1], state_b, [b, s]))


def test_a_gate_sees_its_own_experts_and_the_shared_ones() -> None:
    torch.manual_seed(0)
    module: Any = Ple(shared_experts=2, task_experts=3).build(Lstm(hidden_size=4), TASKS, Inputs(3, 4))
    first, last = module.layers
    assert first.seen == [[0, 1, 2, 6, 7], [3, 4, 5, 6, 7], list(range(8))]
    assert last.seen == first.seen[:2]


def test_one_shared_expert_alone_is_hard_sharing() -> None:
    torch.manual_seed(0)
    backbone = Lstm(hidden_size=4)
    module = Ple(layers=1, task_experts=0).build(backbone, TASKS, Inputs(3, 4)).double()
    torch.manual_seed(0)
    alone = backbone.build(Inputs(3, 4)).double()
    x, valid = batch()
    for state in module(x, valid, {}):
        assert torch.equal(state, alone(x, valid, {}))


def test_without_task_experts_one_layer_is_mmoe() -> None:
    from mimstocr.sharing.mmoe import Mmoe

    modules = []
    for sharing in (Ple(layers=1, task_experts=0, shared_experts=3), Mmoe(experts=3)):
        torch.manual_seed(0)
        modules.append(sharing.build(Lstm(hidden_size=4), TASKS, Inputs(3, 4)).double())
    x, valid = batch()
    for one, other in zip(*(module(x, valid, {}) for module in modules), strict=True):
        assert torch.equal(one, other)


def test_tables_leave_open_what_a_gate_does_not_see() -> None:
    torch.manual_seed(0)
    module = Ple(shared_experts=2).build(Lstm(hidden_size=4), TASKS, Inputs(3, 4)).double()
    first, last = module.mixing(*batch(), {})
    assert (first.name, last.name) == ("gates of layer 1", "gates of layer 2")
    assert first.rows == ("return", "momentum", "shared")
    assert last.rows == ("return", "momentum")
    assert first.columns == last.columns == ("return", "momentum", "shared 1", "shared 2")
    for table in (first, last):
        assert_close(table.values.nansum(dim=1), torch.ones(len(table.rows), dtype=torch.float64))
        assert table.values.isnan()[:2, :2].tolist() == [[False, True], [True, False]]
        assert not table.values[:, 2:].isnan().any()
