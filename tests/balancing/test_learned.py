"""Adam on a few numbers, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mimstocr.balancing._learned import learn, start


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
