"""From losses to gradients: means over days, refused losses, and the look back after a step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing import Balancer, State
from mimstocr.balancing.cqb import Cqb
from mimstocr.balancing.equal import EqualWeighting
from mimstocr.balancing.famo import Famo
from mimstocr.errors import TrainingError
from mimstocr.losses.mse import Mse
from mimstocr.sharing.hard import Hard
from mimstocr.tasks.returns import Return
from mimstocr.training.batches import DayBatch
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.objective import backward, checked, daily_losses, look_back, mean_over_days

TASKS = {"day": Return(), "week": Return(horizon=5)}


def model_and_batch() -> tuple[Model, DayBatch]:
    model = seeded_model(0, Lstm(hidden_size=3, num_layers=1), Hard(), TASKS, Inputs(2, 4))
    random = torch.Generator().manual_seed(0)
    targets = {name: torch.randn(2, 5, generator=random) for name in TASKS}
    targets["week"][1] = math.nan  # no label on the second day
    batch = DayBatch(
        days=[7, 9],
        symbols=torch.arange(5).expand(2, 5),
        x=torch.randn(2, 5, 4, 2, generator=random),
        valid=torch.ones(2, 5, dtype=torch.bool),
        targets=targets,
        facts={},
    )
    return model, batch


def losses_of(model: Model, batch: DayBatch) -> Tensor:
    outputs = model(batch.x, batch.valid, batch.facts)
    return mean_over_days(*daily_losses(TASKS, outputs, batch))


def test_days_without_a_label_do_not_count() -> None:
    model, batch = model_and_batch()
    losses = losses_of(model, batch)
    outputs = model(batch.x, batch.valid, {})
    assert_close(losses[0], (outputs["day"] - batch.targets["day"]).square().mean(dim=1).mean())
    assert_close(losses[1], (outputs["week"][0] - batch.targets["week"][0]).square().mean())
    daily = torch.tensor([[1.0, 3.0], [5.0, math.nan], [math.nan, math.nan]])
    assert mean_over_days(daily, ~daily.isnan()).tolist() == [2, 5, 0]


class Watched(Balancer):
    """Keeps what it is told."""

    reads = "gradients"

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:
        assert not losses.requires_grad
        return gradients.sum(dim=0), {**state, "losses": losses}

    def transform(self, losses: Tensor) -> Tensor:
        return 3 * losses


def test_the_update_is_told_the_losses_untransformed() -> None:
    model, batch = model_and_batch()
    losses = losses_of(model, batch)
    state = backward(model, losses, Watched(), {})
    assert torch.equal(state["losses"], losses.detach())


def test_the_look_back_sees_the_same_batch_after_the_step() -> None:
    """One forward pass more, without a graph, with the weights as they are now."""
    model, batch = model_and_batch()
    forwards = []
    model.register_forward_hook(lambda *_: forwards.append(torch.is_grad_enabled()))
    losses = losses_of(model, batch)
    state = backward(model, losses, Famo(), Famo().init(2, [1], torch.device("cpu")))
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    after = look_back(model, TASKS, batch, Famo(), state)
    assert forwards == [True, False]
    now = losses_of(model, batch).detach()
    assert (now < losses).all()
    expected = Famo().after_step(now, state)
    assert after.keys() == expected.keys()
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    assert not torch.equal(after["learned"], state["learned"])
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_no_look_back_for_those_that_do_not_ask() -> None:
    model, batch = model_and_batch()
    model.register_forward_hook(lambda *_: pytest.fail("a forward pass too many"))
    state: State = {}
    assert look_back(model, TASKS, batch, EqualWeighting(), state) is state


def test_a_negative_loss_is_one_clear_error() -> None:
    losses = torch.tensor([0.5, -0.25])
    with pytest.raises(TrainingError) as caught:
        checked(losses, TASKS, Cqb())
    assert str(caught.value) == (
        "balancer cqb: expected losses of at least 0, but that of task 'week' is -0.25; it takes their logarithm; "
        "balancer.log_loss=false takes them as they are"
    )
    assert checked(losses, TASKS, Cqb(log_loss=False)) is losses
    assert checked(losses, TASKS, EqualWeighting()) is losses


def test_on_other_devices_values_are_not_waited_for() -> None:
    """They would stop the queue at every step; there a NaN stops the run instead, at the loop's next look."""
    elsewhere = torch.tensor([0.5, -0.25], device="meta")  # has no values to look at
    assert checked(elsewhere, TASKS, Cqb()).shape == (2,)


def test_nothing_is_changed_before_the_refusal() -> None:
    model, batch = model_and_batch()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    with pytest.raises(TrainingError, match="task 'day'"):
        backward(model, losses_of(model, batch) - 100, Cqb(), {})
    assert all((parameter.grad == 7).all() for parameter in model.parameters())


class MinusOne(Mse):
    """A loss of -1 a day."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return torch.full(output.shape[:1], -1.0)


def test_a_look_back_refuses_too() -> None:
    model, batch = model_and_batch()
    tasks = {**TASKS, "day": Return(loss=MinusOne())}
    state = Famo().init(2, [1], torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"balancer famo: .* task 'day' is -1"):
        look_back(model, tasks, batch, Famo(), state)
