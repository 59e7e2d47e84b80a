from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing.mgda import Mgda

NO_LOSSES = torch.zeros(0)


def update(gradients: Tensor) -> tuple[Tensor, Tensor]:
    mgda = Mgda()
    state = mgda.init(len(gradients), [gradients.shape[1]], torch.device("cpu"))
    found, state = mgda.update(gradients, NO_LOSSES, state)
    assert mgda.telemetry(state) == {"weight": state["weight"].tolist()}
    return found, state["weight"]


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_two_tasks_by_the_printed_closed_form() -> None:
    """clip(<g2 - g1, g2> / |g1 - g2|^2, 0, 1) for the first task (Sener & Koltun, Algorithm 1)."""
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(50):
        g1, g2 = torch.randn(2, 4, generator=generator, dtype=torch.float64) + 0.5
        w = float(torch.clamp((g2 - g1) @ g2 / (g1 - g2).square().sum(), 0, 1))
        found, weight = update(torch.stack([g1, g2]))
        assert_close(weight, torch.tensor([w, 1 - w], dtype=torch.float64))
        assert_close(found, w * g1 + (1 - w) * g2)
        seen.add(0 if w == 0 else 1 if w == 1 else 2)
    assert seen == {0, 1, 2}  # both corners and the middle


def test_two_tasks_by_hand() -> None:
    found, _ = update(matrix([2, 0], [0, 1]))
    assert_close(found, matrix([0.4, 0.8])[0])  # the foot of the perpendicular on the line from (2, 0) to (0, 1)
    found, _ = update(matrix([1, 0], [4, 1]))
    assert_close(found, matrix([1, 0])[0])  # already the shortest


@pytest.mark.parametrize("n", [2, 3, 5])
def test_no_combination_is_shorter_and_no_task_gets_worse(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    for _ in range(20):
        gradients = torch.randn(n, 4, generator=generator, dtype=torch.float64) + 0.3
        found, weight = update(gradients)
        others = torch.distributions.Dirichlet(torch.ones(n, dtype=torch.float64)).sample((2000,)) @ gradients
        assert found.norm() <= others.norm(dim=1).min() + 1e-12
        # the theorem: <g_k, d> >= |d|^2 for all tasks, with equality where the weight is above 0
        gain = gradients @ found - found @ found
        assert (gain >= -1e-9).all()
        assert_close(gain[weight > 0], torch.zeros_like(gain[weight > 0]), atol=1e-9, rtol=0)


def test_opposite_tasks_stand_still() -> None:
    found, weight = update(matrix([1, 2, -1], [-2, -4, 2]))
    assert_close(found, torch.zeros(3, dtype=torch.float64), atol=1e-14, rtol=0)
    assert_close(weight, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
