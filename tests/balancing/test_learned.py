"""Adam on a few numbers, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mimstocr.balancing._learned import Learning, learn, start
from mimstocr.balancing.famo import Famo
from mimstocr.balancing.gradnorm import GradNorm
from mimstocr.balancing.uw import UncertaintyWeighting


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_equals_torch_adam(decay: float) -> None:
    values = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    parameter = torch.nn.Parameter(values.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.07, weight_decay=decay)
    state = start(values)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        gradient = torch.randn(3, generator=generator, dtype=torch.float64)
        parameter.grad = gradient.clone()
        optimizer.step()
        state = learn(state, gradient, 0.07, decay)
        assert_close(state["learned"], parameter.detach(), rtol=1e-12, atol=1e-14)
    assert int(state["steps"]) == 20


@pytest.mark.parametrize("balancer", [UncertaintyWeighting(), Famo(), GradNorm()], ids=lambda balancer: balancer.kind)
def test_a_task_that_enters_late_has_the_first_number_and_the_others_keep_theirs(balancer: Learning) -> None:
    """Adam's memory begins anew with them."""
    cpu = torch.device("cpu")
    state = balancer.init(2, [4], cpu)
    generator = torch.Generator().manual_seed(0)
    for _ in range(9):
        losses = torch.rand(2, generator=generator) + 0.5
        if balancer.reads == "losses":
            _, state = balancer.weights(losses, state)
        else:
            _, state = balancer.update(torch.randn(2, 4, generator=generator), losses, state)
        state = balancer.after_step(losses * 0.9, state)
    fresh = balancer.init(3, [4], cpu)
    both = balancer.admit(state, fresh, [2, 0])
    assert torch.equal(both["learned"][[2, 0]], state["learned"])
    assert both["learned"][1] == fresh["learned"][1]
    assert not torch.equal(state["learned"], fresh["learned"][:2])
    for name in ("mean", "square", "steps"):
        assert torch.equal(both[name], fresh[name])


def test_gradnorm_keeps_its_sum_and_takes_the_first_loss_of_a_task_as_it_enters() -> None:
    """L(0) of a task is the first loss that it has."""
    balancer, cpu = GradNorm(), torch.device("cpu")
    _, state = balancer.update(torch.eye(2), torch.tensor([4.0, 2.0]), balancer.init(2, [2], cpu))
    both = balancer.admit(state, balancer.init(3, [2], cpu), [0, 2])
    assert both["learned"].sum() == pytest.approx(3)
    assert both["first"].tolist() == [4, 0, 2]
    _, both = balancer.update(torch.randn(3, 2), torch.tensor([3.0, 9.0, 1.0]), both)
    assert both["first"].tolist() == [4, 9, 2]
    assert both["learned"].sum() == pytest.approx(3)
