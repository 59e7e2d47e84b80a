from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from mimstocr.balancing.rlw import RandomLossWeighting


def test_softmax_of_standard_normals_drawn_anew_each_step() -> None:
    rlw = RandomLossWeighting()
    torch.manual_seed(3)
    drawn = torch.randn(3), torch.randn(3)
    torch.manual_seed(3)
    for normals in drawn:
        weights, state = rlw.weights(torch.ones(3), {})
        assert_close(weights, normals.exp() / normals.exp().sum())
        assert state == {}


def test_no_task_is_preferred() -> None:
    torch.manual_seed(0)
    draws = torch.stack([RandomLossWeighting().weights(torch.tensor([1.0, 1e6]), {})[0] for _ in range(4000)])
    assert_close(draws.sum(dim=1), torch.ones(4000))
    assert abs(float(draws[:, 0].mean()) - 0.5) < 4 * float(draws[:, 0].std()) / 4000**0.5
    # of two tasks it is the logistic function of a normal with variance 2
    x = torch.arange(-12, 12, 0.01, dtype=torch.float64)
    spread = float(((torch.sigmoid(x) - 0.5).square() * torch.exp(-x.square() / 4)).sum() * 0.01 / (4 * math.pi) ** 0.5)
    assert float(draws[:, 0].var()) == pytest.approx(spread, rel=0.03)
