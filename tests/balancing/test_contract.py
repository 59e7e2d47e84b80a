"""What every registered balancer promises, whatever its rule.

Balancers that read losses are judged by the update that their weights make of the task gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing import BALANCERS, Balancer, State
from mimstocr.config import Config
from mimstocr.errors import TrainingError
from mimstocr.sharing.hard import Hard
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.checkpoint import load_checkpoint, part, save_checkpoint
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Trainer
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.objective import backward
from mimstocr.training.prepare import prepare
from mimstocr.workflow import Quiet, fresh_model, make_setting

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
    """The first state for parameters of two tensors."""
    return balancer.init(len(gradients), (1, gradients.shape[1] - 1), CPU)


def step(balancer: Balancer, gradients: Tensor, state: State) -> tuple[Tensor, State]:
    """The update (P,) of one step; every loss is 1 before it and a little less after it."""
    losses = torch.ones(len(gradients), dtype=gradients.dtype)
    if balancer.reads == "gradients":
        update, state = balancer.update(gradients, losses, state)
    else:
        weights, state = balancer.weights(losses, state)
        assert weights.shape == losses.shape
        assert weights.dtype == losses.dtype
        update = weights @ gradients
    if balancer.looks_back:
        state = balancer.after_step(losses * (1 - 0.1 / torch.arange(1, len(losses) + 1)), state)
    return update, state


def expected(balancer: Balancer, gradients: Tensor) -> Tensor:
    """The first update, or its mean over 100 draws."""
    torch.manual_seed(0)
    draws = [step(balancer, gradients, fresh(balancer, gradients))[0] for _ in range(100 if balancer.random else 1)]
    return torch.stack(draws).mean(dim=0)


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
    """Beyond the main task's place, for balancers that have one; on average, for those that draw."""
    gradients = gradients_of(kind, torch.float64)
    update = expected(balancer, gradients)
    exact = 1e-9 * torch.ones(())
    for order in itertools.permutations(range(len(gradients))):
        if balancer.ordered and order[0] != 0:
            continue
        tolerance = 0.3 * gradients.abs().max() if balancer.random else exact
        assert_close(expected(balancer, gradients[list(order)]), update, atol=float(tolerance), rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e20])
def test_one_task_alone_follows_its_own_gradient(balancer: Balancer, scale: float) -> None:
    """Up to a positive factor."""
    gradients = scale * gradients_of("one", torch.float64)
    update, _ = step(balancer, gradients, fresh(balancer, gradients))
    assert update.norm() > 0
    assert_close(update / update.norm(), gradients[0] / gradients[0].norm())


def test_zero_gradients_give_a_zero_update(balancer: Balancer) -> None:
    nothing = torch.zeros(2, 3)
    state = fresh(balancer, nothing)
    for _ in range(3):
        update, state = step(balancer, nothing, state)
        assert (update == 0).all()


def test_the_state_survives_a_checkpoint(balancer: Balancer, tmp_path: Path) -> None:
    """Stopped and resumed after any epoch, even before the first step: the same numbers as without the stop."""

    def epoch(number: int, state: State) -> tuple[list[Tensor], State]:
        torch.manual_seed(number)
        updates = []
        for _ in range(2):
            update, state = step(balancer, torch.randn(2, 5), state)
            updates.append(update)
        return updates, balancer.end_epoch(*epoch_losses(2, number), state)

    uninterrupted = balancer.init(2, (2, 3), CPU)
    resumed = balancer.init(2, (2, 3), CPU)
    names = set(resumed)
    path = tmp_path / "state.safetensors"
    for number in range(1, 17):
        save_checkpoint(path, {f"balancer.{name}": tensor for name, tensor in resumed.items()}, {})
        resumed = part(load_checkpoint(path, CPU)[0], "balancer.")
        updates, uninterrupted = epoch(number, uninterrupted)
        again, resumed = epoch(number, resumed)
        assert all(torch.equal(one, other) for one, other in zip(updates, again, strict=True))
        assert balancer.weight_decay(resumed) == balancer.weight_decay(uninterrupted)
        assert balancer.telemetry(resumed) == balancer.telemetry(uninterrupted)
        assert set(resumed) == set(uninterrupted) == names


def test_decay_and_telemetry_are_finite_through_any_losses(balancer: Balancer) -> None:
    state = balancer.init(2, (1, 2), CPU)
    infinite = torch.tensor([math.inf, math.nan], dtype=torch.float64)
    for number in range(30):
        train, held_out = epoch_losses(2, number)
        state = balancer.end_epoch(train, infinite if number == 17 else held_out * 10.0 ** (number % 9), state)
        decay = balancer.weight_decay(state)
        assert decay is None or (math.isfinite(decay) and decay >= 0)
        told = balancer.telemetry(state)
        assert told.keys() == balancer.telemetry(balancer.init(2, (1, 2), CPU)).keys()
        for values in told.values():
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


def model_and_losses(watch: Callable[..., None] | None = None) -> tuple[Model, Tensor]:
    """A model of two tasks and its task losses; `watch` is called with what comes out of the shared part."""
    tasks = {"return": Return(), "momentum": MomentumLine(lead=1)}
    model = seeded_model(0, Lstm(hidden_size=3, num_layers=1), Hard(), tasks, Inputs(2, 4)).double()
    if watch is not None:
        model.shared.register_forward_hook(watch)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 4, 2, generator=random, dtype=torch.float64)
    outputs = model(x, torch.ones(2, 5, dtype=torch.bool), {})
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
    model, losses = model_and_losses()
    sizes = [parameter.numel() for parameter in model.shared.parameters()]
    n_shared = sum(sizes)
    state = balancer.init(2, sizes, CPU)
    rows = rows_of(balancer.transform(losses), model)
    torch.manual_seed(0)
    if balancer.reads == "gradients":
        shared, _ = balancer.update(rows[:, :n_shared], losses.detach(), state)
        expected = torch.cat([shared, rows[:, n_shared:].sum(dim=0)])
    else:
        weights, _ = balancer.weights(balancer.transform(losses).detach(), state)
        expected = weights @ rows
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)  # what an earlier step left
    torch.manual_seed(0)
    backward(model, losses, balancer, state)
    ordered = [*model.shared.parameters(), *model.heads.parameters()]
    found = torch.cat([parameter.grad.reshape(-1) for parameter in ordered])
    assert (expected != 0).any()
    assert_close(found, expected)


def test_one_backward_pass_in_all_or_one_a_task(balancer: Balancer) -> None:
    """Through the shared part, counted where the gradient comes into it; never a second one of a task."""
    passes = []

    def watch(_module: torch.nn.Module, _inputs: object, outputs: Sequence[Tensor]) -> None:
        for state in {id(state): state for state in outputs}.values():
            state.register_hook(lambda grad: passes.append(grad))

    model, losses = model_and_losses(watch)
    sizes = [parameter.numel() for parameter in model.shared.parameters()]
    backward(model, losses, balancer, balancer.init(2, sizes, CPU))
    assert len(passes) == (2 if balancer.reads == "gradients" else 1)
    with pytest.raises(RuntimeError, match="second time"):
        losses.sum().backward()  # and the graph is gone


@pytest.mark.parametrize("value", [-0.3, 0.0])
def test_a_negative_loss_is_refused_or_taken(balancer: Balancer, value: float) -> None:
    """By name, with the way out; a loss of 0, that of a task without a label, is always taken."""
    model, losses = model_and_losses()
    losses = torch.stack([losses[0], losses[1] - losses[1].detach() + value])
    sizes = [parameter.numel() for parameter in model.shared.parameters()]
    state = balancer.init(2, sizes, CPU)
    if value < 0 and balancer.negative_losses is not None:
        with pytest.raises(TrainingError, match=rf"balancer {balancer.kind}: .* task 'momentum' is -0.3; .+"):
            backward(model, losses, balancer, state)
        return
    state = balancer.after_step(losses.detach(), backward(model, losses, balancer, state))
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_training_resumed_equals_training_uninterrupted(
    balancer: Balancer, small: Callable[..., Config], tmp_path: Path
) -> None:
    """Through the loop, with dropout: weights, optimiser, state and losses, to the bit."""
    training = {"learning_rate": 0.01, "max_epochs": 2, "days_per_step": 40, "device": "cpu"}
    prepared = prepare(small(balancer=balancer.kind, training=training))

    def trainer(name: str) -> Trainer:
        return Trainer(make_setting(prepared), fresh_model(prepared, 0), 0, tmp_path / name)

    whole, parts = trainer("whole"), trainer("parts")
    assert whole.fit(Quiet(), Stop())
    stop = Stop()
    stop.asked = True
    while not parts.fit(Quiet(), stop):  # stops after every single step
        torch.rand(7)
        parts = trainer("parts")
        parts.resume()
    one, two = (load_checkpoint(each.last, CPU)[0] for each in (whole, parts))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    for row in (*whole.at.history, *parts.at.history):
        del row["seconds"]
    assert whole.at.history == parts.at.history


def test_a_task_may_enter_late(balancer: Balancer) -> None:
    """What is told and decided then is of all tasks, finite, and survives what comes after."""
    random = torch.Generator().manual_seed(0)
    state = balancer.init(2, (1, 3), CPU)
    for number in range(5):
        _, state = step(balancer, torch.randn(2, 4, generator=random), state)
        state = balancer.end_epoch(*epoch_losses(2, number), state)
    before = {name: tensor.clone() for name, tensor in state.items()}
    fresh = balancer.init(4, (1, 3), CPU)
    admission = balancer.admit(state, fresh, [2, 0])  # new at 1 and 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
    assert admission.keys() == fresh.keys()
    assert all(admission[name].dtype == tensor.dtype for name, tensor in fresh.items())
    for number in range(14):
        told = balancer.telemetry(admission)
        assert told.keys() == balancer.telemetry(fresh).keys()
        for values in told.values():
            assert len(values) in (1, 4)
            assert all(math.isfinite(value) for value in values)
        update, admission = step(balancer, torch.randn(4, 4, generator=random), admission)
        assert update.isfinite().all()
        assert update.norm() > 0
        admission = balancer.end_epoch(*epoch_losses(4, number), admission)
        decay = balancer.weight_decay(admission)
        assert decay is None or math.isfinite(decay)


def test_one_that_enters_beside_none_is_as_at_the_start(balancer: Balancer) -> None:
    """Before any step and epoch, it is of no matter who was there."""
    fresh = balancer.init(3, (1, 3), CPU)
    admission = balancer.admit(balancer.init(1, (1, 3), CPU), fresh, [1])
    assert admission.keys() == fresh.keys()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in admission.items())


def test_a_curriculum_stopped_at_every_step_equals_one_that_is_not(
    balancer: Balancer, small: Callable[..., Config], tmp_path: Path
) -> None:
    """Through the loop; and as long as a task does not train, its head does not move."""
    tasks = {
        "return": {"kind": "return", "delay": 1},
        "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
        "week": {"kind": "return", "delay": 1, "horizon": 5},
    }
    learned = balancer.learned(list(tasks))
    training = {"learning_rate": 0.01, "max_epochs": 3, "days_per_step": 40, "device": "cpu", "weight_decay": 0.1}
    if len(learned) > 1:
        training["curriculum"] = [{"tasks": ["week"], "epochs": 1}, {"tasks": ["momentum"], "epochs": 1}]
    prepared = prepare(small(balancer=balancer.kind, tasks=tasks, training=training))

    def trainer(name: str) -> Trainer:
        return Trainer(make_setting(prepared), fresh_model(prepared, 0), 0, tmp_path / name)

    whole, parts = trainer("whole"), trainer("parts")
    assert whole.fit(Quiet(), Stop())
    stop = Stop()
    stop.asked = True
    untrained = trainer("untrained").model.state_dict()
    while not parts.fit(Quiet(), stop):
        weights = part(load_checkpoint(parts.last, CPU)[0], "model.")
        idle = {1: ["return", "momentum"], 2: ["return"], 3: []}[parts.at.epoch] if len(learned) > 1 else []
        for name in (name for name in weights if name.split(".")[1] in idle):
            assert torch.equal(weights[name], untrained[name]), name
        parts = trainer("parts")
        parts.resume()
    one, two = (load_checkpoint(each.last, CPU)[0] for each in (whole, parts))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name].nan_to_num(7), two[name].nan_to_num(7)), name
        assert one[name].isfinite().all() or name in ("balancer.train", "balancer.indicator")
