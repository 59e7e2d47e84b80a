from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.listnet import ListNet, listnet


def days(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def all_valid(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def slow_listnet(f: list[float], y: list[float]) -> float:
    """Cross-entropy of the chances to be first."""
    total = 0.0
    for i in range(len(f)):
        p = math.exp(y[i]) / sum(math.exp(x) for x in y)
        q = math.exp(f[i]) / sum(math.exp(x) for x in f)
        total -= p * math.log(q)
    return total


def test_by_hand() -> None:
    """Odds 1 : 2 : 3 by the scores, 3 : 2 : 1 by the targets; the slope is the difference of the chances."""
    f, y = days([1, 2, 3]).log().requires_grad_(), days([3, 2, 1]).log()
    value = listnet(f, y, all_valid(f))
    expected = -(3 / 6 * math.log(1 / 6) + 2 / 6 * math.log(2 / 6) + 1 / 6 * math.log(3 / 6))
    assert_close(value, days([expected])[0])
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert_close(gradient, days([(1 - 3) / 6, 0, (3 - 1) / 6]))


def test_agrees_with_the_slow_reference() -> None:
    random = torch.Generator().manual_seed(1)
    f, y = torch.randn(2, 30, 7, generator=random, dtype=torch.float64)
    y = y.round()
    valid = torch.rand(30, 7, generator=random) < 0.8
    valid[:, 0] = True
    value = listnet(f, y, valid)
    for day in range(30):
        here = valid[day]
        assert float(value[day]) == pytest.approx(slow_listnet(f[day, here].tolist(), y[day, here].tolist()), abs=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    random = torch.Generator().manual_seed(2)
    f, y = torch.randn(2, 2, 5, generator=random, dtype=torch.float64)
    valid = torch.tensor([[True] * 5, [True, False, True, False, True]])
    assert torch.autograd.gradcheck(lambda x: listnet(x, y, valid), f.requires_grad_())


def test_it_is_least_at_the_targets_and_there_their_entropy() -> None:
    y = days([0.5, -1.0, 2.0, 2.0]).requires_grad_()
    p = y.detach().softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    value = listnet(y, y.detach(), all_valid(y))
    assert_close(value.detach(), entropy)
    assert_close(torch.autograd.grad(value.sum(), y)[0], torch.zeros_like(y))
    assert_close(listnet(y.detach() - 3, y.detach(), all_valid(y)), entropy)
    random = torch.Generator().manual_seed(3)
    other = torch.randn(50, 4, generator=random, dtype=torch.float64)
    assert (listnet(other, y.detach().expand(50, 4), all_valid(other)) > entropy).all()


def test_equal_scores_know_nothing() -> None:
    f = torch.full((1, 6), 4.0)
    assert_close(listnet(f, torch.arange(6.0)[None], all_valid(f)), torch.tensor([math.log(6)]))


def test_targets_may_be_of_another_type() -> None:
    f = torch.tensor([[1.0, 2.0, 3.0]])
    levels = torch.tensor([[16, 9, 0]])
    assert_close(listnet(f, levels, all_valid(f)), listnet(f, levels.double(), all_valid(f)))
    assert listnet(f, levels, all_valid(f)).dtype == torch.float32


def test_component_takes_relevances_as_log_odds() -> None:
    loss = LOSSES.parse({"kind": "listnet", "pointwise": 0.0})
    assert isinstance(loss, ListNet)
    sure = 1e3 * torch.eye(5).double()[[1, 0, 2]][None]
    levels = torch.tensor([[0, 1, 2]])
    assert_close(loss(sure, levels, all_valid(sure)), listnet(days([1, 0, 4]), days([0, 1, 4]), all_valid(sure)))
