from __future__ import annotations

import torch
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.mse import mse


def test_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0], [0.5, 9.0, 9.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 5.0, 0.0], [0.25, 0.0, 0.0]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    value = mse(scores, targets, valid)
    assert_close(value, torch.tensor([(1**2 + 3**2) / 2, 0.25**2]))
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    assert_close(gradient, torch.tensor([[2 * 1 / 2, -2 * 3 / 2, 0.0], [2 * 0.25, 0.0, 0.0]]))


def test_the_result_has_the_type_of_the_scores() -> None:
    value = mse(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool))
    assert value.dtype == torch.float32


def test_component() -> None:
    loss = LOSSES.parse("mse")
    assert loss.targets == ("value",)
    assert loss.diagnostics(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)) == {}
