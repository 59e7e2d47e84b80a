from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.huber import Huber, huber
from mimstocr.losses.mse import mse


def test_by_hand() -> None:
    """Errors 1 (inside 2), -5 (outside) and the bound 2 itself, where both forms agree."""
    scores = torch.tensor([[1.0, 0.0, 9.0], [2.0, 9.0, 9.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    value = huber(scores, targets, valid, delta=2.0)
    assert_close(value, torch.tensor([(1**2 / 2 + 2 * (5 - 2 / 2)) / 2, 2**2 / 2]))
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    assert_close(gradient, torch.tensor([[1 / 2, -2 / 2, 0.0], [2.0, 0.0, 0.0]]))


@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_equals_the_loop(delta: float) -> None:
    random = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(2, 5, 8, generator=random, dtype=torch.float64) * 2
    valid = torch.rand(5, 8, generator=random) < 0.7
    found = huber(scores, targets, valid, delta)
    for day in range(5):
        costs = []
        for stock in range(8):
            if valid[day, stock]:
                e = abs(float(scores[day, stock] - targets[day, stock]))
                costs.append(e * e / 2 if e <= delta else delta * (e - delta / 2))
        assert float(found[day]) == pytest.approx(sum(costs) / len(costs), rel=1e-14)


def test_small_errors_cost_half_the_square() -> None:
    scores, targets = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    valid = torch.ones(3, 6, dtype=torch.bool)
    assert_close(huber(scores, targets, valid, delta=100.0), mse(scores, targets, valid) / 2)


def test_delta_is_in_the_unit_of_the_target() -> None:
    """In percent instead of fractions, delta and all, the loss is 100^2 times as large."""
    scores, targets = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    valid = torch.ones(3, 6, dtype=torch.bool)
    assert_close(huber(100 * scores, 100 * targets, valid, 100 * 0.7), 100**2 * huber(scores, targets, valid, 0.7))


def test_an_outlier_pulls_by_delta_and_no_more() -> None:
    scores = torch.tensor([[1e30, -1e30, 0.5]], requires_grad=True)
    value = huber(scores, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), delta=3.0)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    assert_close(gradient, torch.tensor([[3.0, -3.0, 0.5]]) / 3)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_delta_that_is_not_positive_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="expected a positive delta"):
        huber(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), delta)
    with pytest.raises(ValidationError, match="delta"):
        Huber(delta=delta)


def test_component() -> None:
    loss = LOSSES.parse({"kind": "huber", "delta": 0.5})
    assert loss.targets == ("value",)
    assert LOSSES.parse("huber").delta == 1
    arguments = torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
    assert_close(loss(*arguments), torch.tensor([0.5 * (3 - 0.5 / 2) / 2]))
