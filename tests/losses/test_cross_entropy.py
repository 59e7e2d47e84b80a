from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.cross_entropy import cross_entropy


def test_by_hand() -> None:
    """Odds 1 : 2 : 3 and 1 : 1 : 2, so probabilities 1/6, 2/6, 3/6 and 1/4, 1/4, 2/4."""
    logits = torch.tensor([[[1.0, 2.0, 3.0], [1.0, 1.0, 2.0], [5.0, 6.0, 7.0]]]).log()
    value = cross_entropy(logits, torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]]))
    assert_close(value, torch.tensor([-(math.log(3 / 6) + math.log(1 / 4)) / 2]))


def test_gradient_by_hand() -> None:
    """The slope is (probability - 1 at the true level) over the number of valid stocks."""
    logits = torch.tensor([[[1.0, 3.0], [1.0, 1.0]]]).log().requires_grad_()
    value = cross_entropy(logits, torch.tensor([[0, 1]]), torch.tensor([[True, True]]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert_close(gradient, torch.tensor([[[(1 / 4 - 1) / 2, 3 / 4 / 2], [1 / 2 / 2, (1 / 2 - 1) / 2]]]))


def test_equal_logits_know_nothing() -> None:
    value = cross_entropy(torch.full((1, 4, 5), 7.0), torch.tensor([[0, 1, 2, 4]]), torch.ones(1, 4) > 0)
    assert_close(value, torch.tensor([math.log(5)]))


@pytest.mark.parametrize("level", [-1, 3])
def test_a_valid_level_out_of_range_is_refused(level: int) -> None:
    levels = torch.tensor([[0, level]])
    with pytest.raises(ValueError, match=r"expected levels 0 \.\. 2 for 3 logits a stock, got .*" + str(level)):
        cross_entropy(torch.zeros(1, 2, 3), levels, torch.tensor([[True, True]]))
    cross_entropy(torch.zeros(1, 2, 3), levels, torch.tensor([[True, False]]))


def test_component() -> None:
    assert LOSSES.parse("cross_entropy").targets == ("level",)
