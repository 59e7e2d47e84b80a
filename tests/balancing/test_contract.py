"""What every registered balancer promises, whatever its rule.

Balancers that read losses are judged by the update that their weights make of the task gradients.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing import BALANCERS, Balancer, State
from mimstocr.sharing.hard import Hard
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.checkpoint import load_checkpoint, part, save_checkpoint
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.objective import backward

CPU = torch.device("cpu")
KINDS = {
    "conflicting": [[3.0, 1.0, 0.0], [-2.0, 2.0, 1.0]],
    "nested": [[1.0, 0.0, 0.0], [4.0, 1.0, 0.0]],
    "opposite": [[1.0, 2.0, -1.0], [-2.0, -4.0, 2.0]],
    "equal": [[1.0, 2.0, -1.0], [1.0, 2.0, -1.0]],
    "one zero": [[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]],
    "badly scaled": [[1e8, 2e8, -1e8], [2e-8, -1e-8, 1e-8]],
    "very small": [[1e-30, 2e-30, 0.0], [0.0, -1e-30, 1e-30]],
    "one very small": [[1.0, 2.0, -1.0], [1e-30, -1e-30, 0.0]],
    "very large": [[1e25, 2e25, 0.0], [0.0, -1e25, 1e25]],
    "three": [[3.0, 1.0, 0.0], [-2.0, 2.0, 1.0], [0.5, 0.0, -4.0]],
    "one": [[3.0, 1.0, -2.0]],
}

pytestmark = pytest.mark.parametrize(
    "balancer", [BALANCERS.get(name)() for name in BALANCERS.names()], ids=BALANCERS.names()
)
by_kind = pytest.mark.parametrize("kind", list(KINDS))


def gradients_of(kind: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(KINDS[kind], dtype=dtype)


def fresh(balancer: Balancer, gradients: Tensor) -> State:
    return balancer.init(*gradients.shape, CPU)


def step(balancer: Balancer, gradients: Tensor, state: State) -> tuple[Tensor, State]:
    """The update (P,) of one step; every loss is 1."""
    if balancer.reads == "gradients":
        return balancer.update(gradients, state)
    weights, state = balancer.weights(torch.ones(len(gradients), dtype=gradients.dtype), state)
    assert weights.shape == (len(gradients),)
    return weights @ gradients, state


def epoch_losses(n_tasks: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Falling training losses, held-out losses that turn up."""
    task = torch.arange(1, n_tasks + 1, dtype=torch.float64)
    return task / (epoch + 1), task / (epoch + 1) + 0.002 * task * epoch**2


@by_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_update_is_finite_over_several_steps(balancer: Balancer, kind: str, dtype: torch.dtype) -> None:
    gradients = gradients_of(kind, dtype)
    state = fresh(balancer, gradients)
    for factor in (1, -0.5, 0, 2):
        update, state = step(balancer, factor * gradients, state)
        assert update.shape == gradients.shape[1:]
        assert update.dtype == dtype
        assert update.isfinite().all()
        # no rule may make a step out of all proportion to what the tasks ask for
        assert update.norm(p=math.inf) <= 20 * gradients.abs().max()


@by_kind
def test_the_inputs_stay_as_they_are(balancer: Balancer, kind: str) -> None:
    gradients = gradients_of(kind)
    state = fresh(balancer, gradients)
    before = {name: tensor.clone() for name, tensor in state.items()}
    step(balancer, gradients, state)
    assert torch.equal(gradients, gradients_of(kind))
    assert state.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


@by_kind
def test_the_order_of_the_tasks_does_not_matter(balancer: Balancer, kind: str) -> None:
    gradients = gradients_of(kind, torch.float64)
    update, _ = step(balancer, gradients, fresh(balancer, gradients))
    for order in itertools.permutations(range(len(gradients))):
        shuffled = gradients[list(order)]
        assert_close(step(balancer, shuffled, fresh(balancer, shuffled))[0], update, atol=1e-9, rtol=1e-9)


def test_zero_gradients_give_a_zero_update(balancer: Balancer) -> None:
    nothing = torch.zeros(2, 3)
    state = fresh(balancer, nothing)
    for _ in range(3):
        update, state = step(balancer, nothing, state)
        assert (update == 0).all()


def test_the_state_survives_a_checkpoint(balancer: Balancer, tmp_path: Path) -> None:
    """Stopped and resumed after any epoch, even before the first step: the same numbers as without the stop."""

    def epoch(number: int, state: State) -> tuple[list[Tensor], State]:
        random = torch.Generator().manual_seed(number)
        updates = []
        for _ in range(2):
            update, state = step(balancer, torch.randn(2, 5, generator=random), state)
            updates.append(update)
        return updates, balancer.end_epoch(*epoch_losses(2, number), state)

    uninterrupted = balancer.init(2, 5, CPU)
    resumed = balancer.init(2, 5, CPU)
    path = tmp_path / "state.safetensors"
    for number in range(1, 17):
        save_checkpoint(path, {f"balancer.{name}": tensor for name, tensor in resumed.items()}, {})
        resumed = part(load_checkpoint(path, CPU)[0], "balancer.")
        updates, uninterrupted = epoch(number, uninterrupted)
        again, resumed = epoch(number, resumed)
        assert all(torch.equal(one, other) for one, other in zip(updates, again, strict=True))
        assert balancer.weight_decay(resumed) == balancer.weight_decay(uninterrupted)
        assert balancer.telemetry(resumed) == balancer.telemetry(uninterrupted)


def test_decay_and_telemetry_are_finite_through_any_losses(balancer: Balancer) -> None:
    state = balancer.init(2, 3, CPU)
    infinite = torch.tensor([math.inf, math.nan], dtype=torch.float64)
    for number in range(30):
        train, held_out = epoch_losses(2, number)
        state = balancer.end_epoch(train, infinite if number == 17 else held_out * 10.0 ** (number % 9), state)
        decay = balancer.weight_decay(state)
        assert decay is None or (math.isfinite(decay) and decay >= 0)
        for values in balancer.telemetry(state).values():
            assert len(values) in (1, 2)
            assert all(math.isfinite(value) for value in values)
        update, state = step(balancer, torch.tensor([[3.0, 1.0, 0.0], [-2.0, 2.0, 1.0]]), state)
        assert update.isfinite().all()


def test_learned_tasks_are_some_of_those_configured(balancer: Balancer) -> None:
    tasks = ["return", "momentum", "volatility"]
    learned = balancer.learned(tasks)
    assert learned
    assert set(learned) <= set(tasks)
    assert learned[0] == "return"  # the main task comes first
    assert 0 <= balancer.holdout < 1


def small() -> tuple[Model, Tensor]:
    """A model of two tasks and its task losses."""
    tasks = {"return": Return(), "momentum": MomentumLine(lead=1)}
    model = seeded_model(0, Lstm(hidden_size=3, num_layers=1), Hard(), tasks, 2, 4).double()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 4, 2, generator=random, dtype=torch.float64)
    outputs = model(x, torch.ones(2, 5, dtype=torch.bool))
    target = torch.randn(2, 5, generator=random, dtype=torch.float64)
    levels = torch.randint(0, 5, (10,), generator=random)
    cross_entropy = torch.nn.functional.cross_entropy(outputs["momentum"].reshape(10, 5), levels)
    losses = torch.stack([(outputs["return"] - target).square().mean(), 10 * cross_entropy])
    return model, losses


def rows_of(values: Tensor, model: Model) -> Tensor:
    """The gradient of each of (K,) values over all parameters, shared first, (K, all)."""
    parameters = [*model.shared.parameters(), *model.heads.parameters()]
    rows = []
    for value in values:
        grads = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    return torch.stack(rows)


def test_backward_sets_the_balanced_update_and_each_heads_own_gradient(balancer: Balancer) -> None:
    model, losses = small()
    n_shared = sum(parameter.numel() for parameter in model.shared.parameters())
    state = balancer.init(2, n_shared, CPU)
    rows = rows_of(balancer.transform(losses), model)
    if balancer.reads == "gradients":
        shared, _ = balancer.update(rows[:, :n_shared], state)
        expected = torch.cat([shared, rows[:, n_shared:].sum(dim=0)])
    else:
        weights, _ = balancer.weights(balancer.transform(losses).detach(), state)
        expected = weights @ rows
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)  # what an earlier step left
    backward(model, losses, balancer, state)
    ordered = [*model.shared.parameters(), *model.heads.parameters()]
    found = torch.cat([parameter.grad.reshape(-1) for parameter in ordered])
    assert (expected != 0).any()
    assert_close(found, expected)
