from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing.cagrad import CaGrad


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def update(gradients: Tensor, c: float = 0.4) -> Tensor:
    cagrad = CaGrad(c=c)
    state = cagrad.init(len(gradients), [gradients.shape[1]], torch.device("cpu"))
    return cagrad.update(gradients, torch.zeros(0), state)[0]


def dual_grid(gradients: Tensor, c: float, parts: int) -> float:
    """The minimum over a grid of the simplex of <g_w, g0> + c |g0| |g_w|, which no primal value exceeds."""
    n = len(gradients)
    steps = torch.arange(parts + 1, dtype=torch.float64) / parts
    if n == 2:
        w = torch.stack([steps, 1 - steps], dim=1)
    else:
        w = torch.cartesian_prod(*[steps] * (n - 1))
        w = w[w.sum(dim=1) <= 1 + 1e-12]
        w = torch.cat([w, 1 - w.sum(dim=1, keepdim=True)], dim=1)
    g0 = gradients.mean(dim=0)
    mixed = w @ gradients
    return float((mixed @ g0 + c * g0.norm() * mixed.norm(dim=1)).min())


def random_gradients(seed: int, n: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return gradients * torch.rand(n, 1, generator=generator, dtype=torch.float64).mul(3).exp()


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(10))
def test_two_tasks_against_every_step_of_a_fine_ball(seed: int, c: float) -> None:
    """In the plane of the two gradients: angle and radius by brute force."""
    gradients = random_gradients(seed, 2, 2)
    found = update(gradients, c)
    g0 = gradients.mean(dim=0)
    radius = c * g0.norm()
    assert (found - g0).norm() <= radius * (1 + 1e-9)
    angle = torch.arange(36000, dtype=torch.float64) * (2 * math.pi / 36000)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    parts = torch.arange(0, 1.01, 0.2, dtype=torch.float64)
    ball = g0 + radius * (parts[:, None, None] * circle).reshape(-1, 2)
    best = (ball @ gradients.T).amin(dim=1).max()
    reached = (gradients @ found).min()
    assert reached >= best - 1e-9 * float(gradients.square().sum())
    assert reached <= best + 2e-4 * float(gradients.square().sum())


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9])
@pytest.mark.parametrize(("n", "parts"), [(2, 20000), (3, 400), (4, 60)])
def test_no_step_of_the_ball_does_more_for_the_worst_task(n: int, parts: int, c: float) -> None:
    """The step lies in the ball, and the worst task gains what the dual problem says is the most."""
    for seed in range(6):
        gradients = random_gradients(seed, n, n if seed % 2 else 2)
        found = update(gradients, c)
        g0 = gradients.mean(dim=0)
        assert (found - g0).norm() <= c * g0.norm() * (1 + 1e-9)
        reached, bound = float((gradients @ found).min()), dual_grid(gradients, c, parts)
        scale = float(gradients.square().sum())
        assert reached <= bound + 1e-9 * scale
        assert reached >= bound - (1e-6 if n == 2 else 2e-3) * scale


def test_three_tasks_one_of_them_twice_is_nearly_two() -> None:
    """Where the ball's centre is the same, a third gradient between the other two changes nothing."""
    g1, g2 = matrix([3, 1, 0], [-2, 2, 1])
    assert_close(update(torch.stack([g1, g2, (g1 + g2) / 2])), update(torch.stack([g1, g2])), rtol=1e-9, atol=1e-9)


def test_by_hand() -> None:
    """Orthogonal gradients of one length: the best for the worst is straight ahead, as far as the ball goes."""
    assert_close(update(matrix([1, 0], [0, 1])), 1.4 * matrix([0.5, 0.5])[0])
    # far apart in length: the ball's point furthest along the short gradient
    found = update(matrix([100, 0], [0, 0.01]))
    assert_close(found, matrix([50, 0.005 + 0.4 * math.hypot(50, 0.005)])[0], rtol=1e-3, atol=1e-3)


def test_radius_zero_is_the_mean_and_one_task_gets_the_whole_radius() -> None:
    gradients = random_gradients(0, 3, 5)
    assert_close(update(gradients, 0.0), gradients.mean(dim=0))
    assert_close(update(matrix([3, 1, -2])), 1.4 * matrix([3, 1, -2])[0])


def test_tasks_that_cancel_give_no_step() -> None:
    assert update(matrix([1, 2], [-1, -2])).tolist() == [0, 0]


@pytest.mark.parametrize("aside", [0.0, 0.5, -1.0])
def test_stationary_tasks_beside_a_third(aside: float) -> None:
    """Two tasks oppose each other: no step helps both, and the best for the worst is along neither, within the ball."""
    gradients = matrix([1, 0], [-1, 0], [aside, 3])
    found = update(gradients)
    assert abs(float(found[0])) < 1e-6
    g0 = gradients.mean(dim=0)
    assert (found - g0).norm() <= 0.4 * g0.norm() * (1 + 1e-9)


def test_the_ball_does_not_reach_the_origin() -> None:
    with pytest.raises(ValidationError):
        CaGrad(c=1.0)
