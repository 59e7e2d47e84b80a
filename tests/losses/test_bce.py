from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.bce import _side, bce
from mimstocr.losses.cross_entropy import cross_entropy


def days(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_by_hand() -> None:
    """Odds 3 : 1 and 1 : 4, so chances 3/4 and 1/5; the slope is (chance - happened) / n."""
    logits = days([math.log(3), math.log(1 / 4), 7.0], [math.log(3), 7.0, 7.0]).requires_grad_()
    happened = days([1, 1, 0], [0, 1, 1])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    value = bce(logits, happened, valid)
    assert_close(value, days([-(math.log(3 / 4) + math.log(1 / 5)) / 2, -math.log(1 / 4)])[0])
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert_close(gradient, days([(3 / 4 - 1) / 2, (1 / 5 - 1) / 2, 0], [3 / 4, 0, 0]))


def test_no_knowledge_costs_log_two() -> None:
    value = bce(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool))
    assert_close(value, torch.tensor([math.log(2)]))


def test_equals_the_cross_entropy_of_two_levels() -> None:
    """Level 1 against level 0 with logits z and 0."""
    random = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, 9, generator=random, dtype=torch.float64)
    happened = torch.randint(0, 2, (4, 9), generator=random)
    valid = torch.rand(4, 9, generator=random) < 0.8
    two = torch.stack([torch.zeros_like(logits), logits], dim=-1)
    assert_close(bce(logits, happened.double(), valid), cross_entropy(two, happened, valid))


@pytest.mark.parametrize("size", [30.0, 90.0, 700.0, 1e30])
def test_sure_logits_keep_their_digits(size: float) -> None:
    """-log(sigmoid(z)) = log(1 + e^-z), which is e^-z for large z, and z on the wrong side."""
    value = bce(days([size], [-size], [size], [-size]), days([1], [0], [0], [1]), torch.ones(4, 1, dtype=torch.bool))
    assert_close(
        value, torch.tensor([math.exp(-size), math.exp(-size), size, size], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_the_slope_of_a_sure_logit_keeps_its_digits() -> None:
    logits = days([40.0], [-40.0]).requires_grad_()
    (gradient,) = torch.autograd.grad(bce(logits, days([1], [0]), torch.ones(2, 1, dtype=torch.bool)).sum(), logits)
    assert_close(gradient, days([-math.exp(-40)], [math.exp(-40)]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("target", [-1.0, 0.5, 2.0, math.nan, math.inf])
def test_a_valid_target_other_than_0_and_1_is_refused(target: float) -> None:
    happened = torch.tensor([[0.0, target]])
    with pytest.raises(ValueError, match=rf"expected targets 0 \(did not happen\) or 1 \(did\), got {target:g}"):
        bce(torch.zeros(1, 2), happened, torch.tensor([[True, True]]))
    bce(torch.zeros(1, 2), happened, torch.tensor([[True, False]]))


def test_what_is_neither_0_nor_1_would_be_nan() -> None:
    """What is left of it on a GPU, where nobody looks."""
    assert_close(_side(days([0, 1, 0.5, 3, math.nan])), days([-1, 1, math.nan, math.nan, math.nan]), equal_nan=True)


def test_component() -> None:
    loss = LOSSES.parse("bce")
    assert loss.targets == ("event",)
    assert loss.diagnostics(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)) == {}
