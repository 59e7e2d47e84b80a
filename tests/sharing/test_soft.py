"""Soft sharing: towers drawn to one another by the distance of their weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.mlp import Mlp
from mimstocr.backbones.recurrent import Gru
from mimstocr.balancing.equal import EqualWeighting
from mimstocr.losses.mse import Mse
from mimstocr.sharing.hard import Hard
from mimstocr.sharing.soft import Soft, SoftModule
from mimstocr.tasks import Task
from mimstocr.tasks.returns import Return
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.objective import backward

TASKS: dict[str, Task] = {"day": Return(loss=Mse()), "week": Return(horizon=5), "month": Return(horizon=20)}
BACKBONE = Gru(hidden_size=4, num_layers=1)


def module_of(n_tasks: int = 3, **settings: object) -> SoftModule:
    torch.manual_seed(0)
    made = Soft(**settings).build(BACKBONE, list(TASKS)[:n_tasks], Inputs(3, 5)).double()
    assert isinstance(made, SoftModule)
    return made


def weights(module: SoftModule) -> Tensor:
    """(K, P): all weights of each tower."""
    return torch.stack([torch.cat([p.detach().flatten() for p in tower.parameters()]) for tower in module.towers])


def test_the_penalty_is_the_sum_over_pairs() -> None:
    module = module_of(alike=False, strength=0.3)
    expected = torch.zeros((), dtype=torch.float64)
    for one, other in itertools.combinations(module.towers, 2):
        for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
            expected += 0.3 * (mine - yours).square().sum()
    penalty = module.penalty()
    assert penalty is not None
    assert_close(penalty, expected)


def test_its_gradient_is_that_of_the_pairs() -> None:
    """d/d theta_i of strength * sum_{i<j} |theta_i - theta_j|^2 = 2 strength sum_j (theta_i - theta_j)."""
    module = module_of(alike=False, strength=0.3)
    penalty = module.penalty()
    assert penalty is not None
    penalty.backward()
    found = torch.stack([torch.cat([p.grad.flatten() for p in tower.parameters()]) for tower in module.towers])
    before = weights(module)
    assert_close(found, 2 * 0.3 * (before[:, None] - before[None]).sum(dim=1))


def test_towers_start_alike_or_each_from_its_own() -> None:
    alike, apart = module_of(), module_of(alike=False)
    assert torch.equal(weights(alike)[0], weights(alike)[1])
    assert torch.equal(weights(alike)[0], weights(apart)[0])
    assert not torch.equal(weights(apart)[0], weights(apart)[1])
    penalty = alike.penalty()
    assert penalty is not None
    assert penalty == 0


def test_without_strength_or_company_there_is_no_penalty() -> None:
    assert module_of(strength=0).penalty() is None
    assert module_of(1).penalty() is None


def test_a_tower_that_does_not_train_draws_no_other() -> None:
    """The penalty of a curriculum's stage is over the towers of its tasks, and reaches no other."""
    module = module_of(alike=False, strength=0.3)
    penalty = module.penalty(["month", "day"])
    assert penalty is not None
    day, _, month = weights(module)
    assert_close(penalty, 0.3 * (day - month).square().sum())
    penalty.backward()
    assert [all(p.grad is None for p in tower.parameters()) for tower in module.towers] == [False, True, False]
    found = torch.cat([p.grad.flatten() for p in module.towers[0].parameters()])
    assert_close(found, 2 * 0.3 * (day - month))
    assert module.penalty(["week"]) is None
    model = seeded_model(0, BACKBONE, Soft(strength=5, alike=False), TASKS, Inputs(3, 5)).double()
    x, valid, targets = data()
    loss = (model(x, valid, {})["week"] - targets[1]).square().mean()
    alone = torch.autograd.grad(loss, list(model.shared.towers[1].parameters()), retain_graph=True)
    backward(model, loss[None], EqualWeighting(), {}, ["week"])
    for p, gradient in zip(model.shared.towers[1].parameters(), alone, strict=True):
        assert_close(p.grad, gradient)
    assert all(p.grad is None for k in (0, 2) for p in model.shared.towers[k].parameters())


def test_the_penalty_alone_leads_to_the_mean_of_the_towers() -> None:
    """Under gradient descent each distance to the mean shrinks by 1 - 2 K strength rate a step, the mean stays."""
    module = module_of(alike=False, strength=0.5)
    before = weights(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        penalty = module.penalty()
        assert penalty is not None
        penalty.backward()
        optimizer.step()
    mean = before.mean(dim=0)
    assert_close(weights(module), mean + (1 - 2 * 3 * 0.5 * 0.1) ** 6 * (before - mean))


def data() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, 5, 3, generator=random, dtype=torch.float64)
    return x, torch.ones(2, 6, dtype=torch.bool), torch.randn(3, 2, 6, generator=random, dtype=torch.float64)


def train(model: Model, names: list[str], steps: int, rate: float, *, adam: bool = False) -> None:
    """Steps of plain EW on squared errors."""
    x, valid, targets = data()
    kind = torch.optim.Adam if adam else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=rate)
    for _ in range(steps):
        outputs = model(x, valid, {})
        target = dict(zip(TASKS, targets, strict=True))
        losses = torch.stack([(outputs[name] - target[name]).square().mean() for name in names])
        backward(model, losses, EqualWeighting(), {})
        optimizer.step()


@pytest.mark.parametrize("alike", [True, False])
def test_without_strength_each_task_is_trained_as_if_alone(alike: bool) -> None:
    together = seeded_model(0, BACKBONE, Soft(strength=0, alike=alike), TASKS, Inputs(3, 5)).double()
    alone = []
    for k, (name, task) in enumerate(TASKS.items()):
        model = seeded_model(0, BACKBONE, Hard(), {name: task}, Inputs(3, 5)).double()
        model.shared.backbone.load_state_dict(together.shared.towers[k].state_dict())
        model.heads[name].load_state_dict(together.heads[name].state_dict())
        train(model, [name], 4, 0.01, adam=True)
        alone.append(model)
    train(together, list(TASKS), 4, 0.01, adam=True)
    for k, (name, model) in enumerate(zip(TASKS, alone, strict=True)):
        for mine, yours in zip(together.shared.towers[k].parameters(), model.shared.parameters(), strict=True):
            assert torch.equal(mine, yours)
        assert torch.equal(together.heads[name].weight, model.heads[name].weight)


@pytest.mark.parametrize("alike", [True, False])
def test_the_stronger_the_closer(alike: bool) -> None:
    """After the same steps the towers lie the closer, down to nothing, the greater the strength."""
    distances = []
    for strength in (0, 0.03, 0.3, 3):
        model = seeded_model(0, BACKBONE, Soft(strength=strength, alike=alike), TASKS, Inputs(3, 5)).double()
        train(model, list(TASKS), 150, 0.03)  # 2 K strength rate < 1: descent is stable
        towers = weights(model.shared)
        distances.append(float((towers - towers.mean(dim=0)).norm()))
    assert all(near < far for far, near in itertools.pairwise(distances))
    assert distances[-1] < 0.05 * distances[0]


def test_distances_are_relative() -> None:
    """|a - b| over the root mean square of |a| and |b|, by hand."""
    torch.manual_seed(0)
    module = Soft().build(Mlp(hidden_sizes=(1,), dropout=0), ["day", "week"], Inputs(2, 1)).double()
    with torch.no_grad():
        for tower, values in zip(module.towers, [[3.0, 0.0, 4.0], [3.0, 0.0, 0.0]], strict=True):
            weight, bias = tower.parameters()
            weight.copy_(torch.tensor([values[:2]]))
            bias.fill_(values[2])
    (table,) = module.mixing(*data()[:2], {})
    far = 4 / ((25 + 9) / 2) ** 0.5
    assert_close(table.values, torch.tensor([[0, far], [far, 0]], dtype=torch.float64))
    assert table.rows == table.columns == ("day", "week")
    assert module_of(1).mixing(*data()[:2], {}) == []
