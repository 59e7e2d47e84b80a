"""Multi-gate mixture of experts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.mlp import Mlp
from mimstocr.backbones.recurrent import Lstm
from mimstocr.sharing.hard import Hard
from mimstocr.sharing.mmoe import Mmoe
from mimstocr.tasks import Task
from mimstocr.tasks.returns import Return
from mimstocr.training.model import seeded_model

TASKS = ["return", "momentum"]


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 4, 3, generator=random).double(), torch.rand(2, 6, generator=random) < 0.7


def test_by_hand() -> None:
    """Two tasks, three experts of one layer, in numpy, a stock at a time."""
    torch.manual_seed(0)
    module = Mmoe(experts=3).build(Mlp(hidden_sizes=(2,), dropout=0), TASKS, Inputs(3, 4)).double()
    x, valid = batch()
    states = module(x, valid, {})
    experts = [[p.detach().numpy() for p in expert.parameters()] for expert in module.experts]
    gates = [next(gate.parameters()).detach().numpy() for gate in module.gates]
    assert [gate.shape for gate in gates] == [(3, 12)] * 2
    for day, place in valid.nonzero().tolist():
        window = x[day, place].numpy().ravel()
        outputs = []
        for weight, bias in experts:
            inner = weight @ window + bias
            outputs.append(np.where(inner > 0, inner, 0.1 * inner))
        for k, gate in enumerate(gates):
            odds = np.exp(gate @ window)
            expected = sum(odd / odds.sum() * output for odd, output in zip(odds, outputs, strict=True))
            assert_close(states[k][day, place].detach().numpy(), expected)


def test_one_expert_is_hard_sharing() -> None:
    tasks: dict[str, Task] = {"day": Return(), "week": Return(horizon=5)}
    backbone, inputs = Lstm(hidden_size=4), Inputs(3, 4)
    mixture = seeded_model(0, backbone, Mmoe(experts=1), tasks, inputs).double()
    hard = seeded_model(0, backbone, Hard(), tasks, inputs).double()
    for mine, yours in zip(mixture.shared.experts[0].parameters(), hard.shared.parameters(), strict=True):
        assert torch.equal(mine, yours)  # experts are built first: the same seed gives the same backbone
    hard.heads.load_state_dict(mixture.heads.state_dict())
    x, valid = batch()
    for name, output in mixture(x, valid, {}).items():
        assert torch.equal(output, hard(x, valid, {})[name])


def test_equal_experts_are_hard_sharing_whatever_the_gates() -> None:
    torch.manual_seed(0)
    backbone = Lstm(hidden_size=4)
    module = Mmoe(experts=3).build(backbone, TASKS, Inputs(3, 4)).double()
    for expert in module.experts:
        expert.load_state_dict(module.experts[0].state_dict())
    x, valid = batch()
    for state in module(x, valid, {}):
        assert_close(state, module.experts[0](x, valid, {}))


def test_the_table_is_the_mean_over_valid_stocks() -> None:
    torch.manual_seed(0)
    module = Mmoe(experts=3).build(Lstm(hidden_size=4), TASKS, Inputs(3, 4)).double()
    x, valid = batch()
    (table,) = module.mixing(x.masked_fill(~valid[..., None, None], float("nan")), valid, {})
    assert (table.rows, table.columns) == (("return", "momentum"), ("expert 1", "expert 2", "expert 3"))
    assert_close(table.values.sum(dim=1), torch.ones(2, dtype=torch.float64))
    weight = next(module.gates[1].parameters())
    each = [(x[day, place].flatten() @ weight.T).softmax(0) for day, place in valid.nonzero().tolist()]
    assert_close(table.values[1], torch.stack(each).mean(dim=0).detach())
