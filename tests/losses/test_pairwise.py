from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.pairwise import Pairwise, pairwise_hinge


def days(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def all_valid(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def slow_hinge(f: list[float], y: list[float]) -> float:
    """RSR's double sum, over all n^2 pairs."""
    n, total = len(f), 0.0
    for i in range(n):
        for j in range(n):
            total += max(0.0, -(f[i] - f[j]) * (y[i] - y[j]))
    return total / (n * n)


def test_by_hand() -> None:
    """Of three pairs one is in the wrong order, by 2 in score and 3 in return; each counts twice of nine."""
    f, y = days([1.0, 3.0, 5.0]).requires_grad_(), days([4.0, 1.0, 6.0])
    value = pairwise_hinge(f, y, all_valid(f))
    assert_close(value, days([2 * (3 - 1) * (4 - 1) / 9])[0])
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert_close(gradient, days([-2 * 3 / 9, 2 * 3 / 9, 0]))


def test_agrees_with_the_slow_reference() -> None:
    """Scores and returns of few values, so that ties are everywhere."""
    random = torch.Generator().manual_seed(1)
    f = torch.randint(-2, 3, (40, 7), generator=random).double() / 2
    y = torch.randint(-3, 4, (40, 7), generator=random).double() / 3
    valid = torch.rand(40, 7, generator=random) < 0.8
    valid[:, 0] = True
    value = pairwise_hinge(f, y, valid)
    for day in range(40):
        here = valid[day]
        assert float(value[day]) == pytest.approx(slow_hinge(f[day, here].tolist(), y[day, here].tolist()), abs=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    """Away from the kinks at f_i = f_j."""
    random = torch.Generator().manual_seed(2)
    f = torch.randperm(9, generator=random)[None].double().requires_grad_()
    y = torch.randn(1, 9, generator=random, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: pairwise_hinge(x, y, all_valid(x)), f)


def test_the_right_order_costs_nothing() -> None:
    f = days([-4.0, 0.0, 0.1, 9.0]).requires_grad_()
    value = pairwise_hinge(f, days([-2.0, 0.5, 0.5, 0.6]), all_valid(f))
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert value == 0
    assert (gradient == 0).all()


def test_equal_scores_cost_nothing_and_do_not_move() -> None:
    f = torch.full((1, 4), 0.5, requires_grad=True)
    value = pairwise_hinge(f, torch.tensor([[1.0, 2.0, 3.0, 4.0]]), all_valid(f))
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert value == 0
    assert (gradient == 0).all()


def test_it_is_of_degree_one_in_scores_and_in_returns() -> None:
    f, y = days([1.0, 3.0, 5.0]), days([4.0, 1.0, 6.0])
    value = pairwise_hinge(f, y, all_valid(f))
    assert_close(pairwise_hinge(-2 * f, -3 * y, all_valid(f)), 6 * value)
    assert_close(pairwise_hinge(f, y + 7, all_valid(f)), value)


def test_component_ranks_levels_by_their_squares() -> None:
    """Sure of level 1 where it is 2, and of 2 where it is 1: gaps of 4 - 1 in score and relevance."""
    loss = LOSSES.parse({"kind": "pairwise", "pointwise": 0.0})
    assert isinstance(loss, Pairwise)
    logits = 1e3 * torch.eye(3)[[1, 2]][None]
    value = loss(logits, torch.tensor([[2, 1]]), torch.ones(1, 2) > 0)
    assert_close(value, torch.tensor([2 * (4 - 1) * (4 - 1) / 4]))
