from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from mimstocr.balancing.uw import UncertaintyWeighting

CPU = torch.device("cpu")


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_weights_and_variances_follow_the_gradient_of_the_printed_objective() -> None:
    """Adam on sum_k L_k / (2 s_k^2) + log s_k in t = log s^2, by autograd and torch's own Adam."""
    uw = UncertaintyWeighting(learning_rate=0.1)
    state = uw.init(2, [3], CPU)
    t = torch.nn.Parameter(doubles(0, 0))
    optimizer = torch.optim.Adam([t], lr=0.1)
    for losses in (doubles(3, 0.2), doubles(2, 0.5), doubles(2.5, 0.1), doubles(1, 1)):
        entered = losses.clone().requires_grad_()
        s = (t / 2).exp()
        objective = (entered / (2 * s**2) + s.log()).sum()
        optimizer.zero_grad()
        objective.backward()
        weights, state = uw.weights(losses, state)
        assert_close(weights, entered.grad)
        optimizer.step()
        assert_close(state["learned"], t.detach())


def test_first_step_by_hand() -> None:
    """s = 1: weights 1/2; the loss above 1 grows in variance, the one below shrinks, by one step of Adam."""
    uw = UncertaintyWeighting(learning_rate=0.01)
    weights, state = uw.weights(doubles(4, 0.5), uw.init(2, [3], CPU))
    assert weights.tolist() == [0.5, 0.5]
    assert state["learned"].tolist() == pytest.approx([0.01, -0.01], rel=1e-6)
    assert uw.telemetry(state)["weight"] == pytest.approx([math.exp(-0.01) / 2, math.exp(0.01) / 2], rel=1e-6)


def test_comes_to_one_over_twice_the_loss() -> None:
    uw = UncertaintyWeighting(learning_rate=0.05)
    state = uw.init(2, [3], CPU)
    for _ in range(2000):
        weights, state = uw.weights(doubles(8, 0.1), state)
    assert weights.tolist() == pytest.approx([1 / 16, 5], rel=1e-3)


def test_a_task_without_a_label_teaches_nothing() -> None:
    uw = UncertaintyWeighting()
    _, state = uw.weights(doubles(2, 0), uw.init(2, [3], CPU))
    assert state["learned"][1] == 0
    assert state["learned"][0] > 0
