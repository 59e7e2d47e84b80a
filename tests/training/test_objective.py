"""From losses to gradients: means over days, refused losses, and the look back after a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones import Facts, Inputs
from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing import Balancer, State
from mimstocr.balancing.cqb import Cqb
from mimstocr.balancing.equal import EqualWeighting
from mimstocr.balancing.famo import Famo
from mimstocr.errors import TrainingError
from mimstocr.losses.mse import Mse
from mimstocr.sharing import SharingModule
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


# ---- some of the tasks alone -----------------------------------------------------------------------------------------

THREE = {**TASKS, "month": Return(horizon=20)}


class Towers(SharingModule):
    """A part of all, a part that the second and third task share, a part of each, and a penalty on all of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.all = nn.Linear(2, width)
        self.later = nn.Linear(width, width)
        self.own = nn.ModuleList([nn.Linear(width, width) for _ in THREE])

    def forward(self, x: Tensor, valid: Tensor, facts: Facts) -> list[Tensor]:
        first = self.all(x[:, :, -1])
        states = [first, self.later(first), self.later(first)]
        return [own(state) for own, state in zip(self.own, states, strict=True)]

    def private(self) -> list[list[nn.Parameter]]:
        return [list(own.parameters()) for own in self.own]

    def penalty(self, active: Sequence[str] | None = None) -> Tensor:
        return torch.stack([parameter.square().sum() for parameter in self.parameters()]).sum()


def towers() -> Model:
    torch.manual_seed(0)
    model = Model(Lstm(hidden_size=3), Hard(), THREE, Inputs(2, 4))
    model.shared = Towers(3)
    return model


def batch_of_three() -> DayBatch:
    _, batch = model_and_batch()
    return replace(batch, targets={**batch.targets, "month": batch.targets["day"] + 1})


@pytest.mark.parametrize("balancer", [EqualWeighting(), Watched(), Cqb(), Famo()], ids=lambda b: b.kind or "watched")
@pytest.mark.parametrize("names", [["day"], ["week"], ["day", "month"], ["day", "week", "month"]])
def test_what_no_task_of_the_step_reaches_has_no_gradient(balancer: Balancer, names: list[str]) -> None:
    """Nor does the penalty reach it; and the rest is as if there were no other tasks."""
    model, batch = towers(), batch_of_three()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    outputs = model(batch.x, batch.valid, {})
    losses = mean_over_days(*daily_losses({name: THREE[name] for name in names}, outputs, batch))
    sizes = [parameter.numel() for parameter in model.shared_parameters()]
    backward(model, losses, balancer, balancer.init(len(names), sizes, torch.device("cpu")), names)
    shared = model.shared
    assert isinstance(shared, Towers)
    later = any(name != "day" for name in names)
    assert all((parameter.grad is not None) == later for parameter in shared.later.parameters())
    assert all(parameter.grad is not None for parameter in shared.all.parameters())
    for place, name in enumerate(THREE):
        for parameter in [*model.heads[name].parameters(), *shared.own[place].parameters()]:
            assert (parameter.grad is not None) == (name in names)

    if isinstance(balancer, EqualWeighting):  # the sum of what there is, with the penalty
        alone = towers()
        total = losses_by_hand(alone, batch, names)
        touched = [parameter for parameter in model.parameters() if parameter.grad is not None]
        theirs = [
            other for other, mine in zip(alone.parameters(), model.parameters(), strict=True) if mine.grad is not None
        ]
        inside = {id(parameter) for parameter in alone.shared.parameters()}
        total = total + sum(parameter.square().sum() for parameter in theirs if id(parameter) in inside)
        for mine, expected in zip(touched, torch.autograd.grad(total, theirs), strict=True):
            assert_close(mine.grad, expected)


def losses_by_hand(model: Model, batch: DayBatch, names: list[str]) -> Tensor:
    outputs = model(batch.x, batch.valid, {})
    days = {name: slice(1) if name == "week" else slice(None) for name in names}  # no label on the second day
    return torch.stack(
        [(outputs[name] - batch.targets[name])[days[name]].square().mean(dim=1).mean() for name in names]
    ).sum()
