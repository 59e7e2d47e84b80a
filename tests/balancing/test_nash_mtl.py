from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing import State
from mimstocr.balancing.nash_mtl import NashMtl, bargain

FREE = NashMtl(max_norm=0)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def fresh(nash: NashMtl, gradients: Tensor) -> State:
    return nash.init(len(gradients), [gradients.shape[1]], torch.device("cpu"))


def step(nash: NashMtl, gradients: Tensor, state: State) -> tuple[Tensor, State]:
    return nash.update(gradients, torch.zeros(0), state)


def first(gradients: Tensor, nash: NashMtl = FREE) -> tuple[Tensor, Tensor]:
    update, state = step(nash, gradients, fresh(nash, gradients))
    return update, state["weight"]


def random_gradients(seed: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return gradients * torch.rand(n, 1, generator=generator, dtype=torch.float64).mul(20).sub(10).exp()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(8))
def test_every_task_gains_the_same_part(seed: int, n: int) -> None:
    """a_k <g_k, d> is the same for all tasks, all a above 0: G a = 1 / a up to the scale of G."""
    gradients = random_gradients(seed, n)
    update, weight = first(gradients)
    assert (weight > 0).all()
    gains = weight * (gradients @ update)
    norm = torch.linalg.matrix_norm(gradients @ gradients.T)
    assert_close(gains, norm.expand(n), rtol=1e-7, atol=0)
    assert_close(update, weight @ gradients)
    # and so the square of the step's length is K |G|
    assert_close(update.square().sum(), n * norm, rtol=1e-7, atol=0)


def test_the_product_of_the_gains_is_the_largest_of_all_steps_of_that_length() -> None:
    """The Nash solution itself: sum_k log <g_k, d> over a ball, by brute force in the plane."""
    gradients = matrix([3, 1], [-1, 2])
    update, _ = first(gradients)
    angle = torch.arange(36000, dtype=torch.float64) * (2 * math.pi / 36000)
    ring = update.norm() * torch.stack([angle.cos(), angle.sin()], dim=1)
    value = (ring @ gradients.T).log().sum(dim=1).nan_to_num(-math.inf)
    assert_close(ring[value.argmax()], update, rtol=1e-3, atol=1e-3)


def test_two_tasks_in_closed_form() -> None:
    """Unit gradients with cosine c have a = 1 / sqrt(1 + c) each."""
    g1, g2 = random_gradients(3, 2)
    u1, u2 = g1 / g1.norm(), g2 / g2.norm()
    norm = torch.linalg.matrix_norm(torch.stack([g1, g2]) @ torch.stack([g1, g2]).T)
    expected = norm.sqrt() * (u1 + u2) / (1 + u1 @ u2).sqrt()
    assert_close(first(torch.stack([g1, g2]))[0], expected, rtol=1e-7, atol=0)


def test_orthogonal_tasks_by_hand() -> None:
    """a_k = 1 / |g_k|, times sqrt(|G|): G = diag(16, 9), |G| = sqrt(337)."""
    update, weight = first(matrix([4, 0], [0, 3]))
    scale = 337**0.25
    assert weight.tolist() == pytest.approx([scale / 4, scale / 3], rel=1e-9)
    assert update.tolist() == pytest.approx([scale, scale], rel=1e-9)


@pytest.mark.parametrize("n", [2, 4])
def test_the_system_is_solved(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        rows = rng.normal(size=(n, 3 + n))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        gram = rows @ rows.T
        a = bargain(gram)
        assert (a > 0).all()
        assert gram @ a == pytest.approx(1 / a, rel=1e-9)


def test_a_task_without_a_gradient_has_no_say() -> None:
    update, weight = first(matrix([1, 2, -1], [0, 0, 0], [0, 1, 1]))
    alone, _ = first(matrix([1, 2, -1], [0, 1, 1]))
    assert_close(update, alone)
    assert weight[1] == 0


def test_opposite_tasks_stand_still() -> None:
    update, _ = first(matrix([1, 2, -1], [-2, -4, 2]))
    assert update.norm() < 1e-6


def test_a_long_step_is_cut_and_a_short_one_is_not() -> None:
    gradients = matrix([3, 4], [0, 1])
    free, _ = first(gradients)
    assert free.norm() > 1
    cut, _ = first(gradients, NashMtl())
    assert_close(cut, free / free.norm())
    cut, _ = first(gradients, NashMtl(max_norm=2))
    assert_close(cut, 2 * free / free.norm())
    assert_close(first(gradients / 1000, NashMtl())[0], first(gradients / 1000)[0])


def test_weights_are_kept_for_the_steps_between() -> None:
    nash = NashMtl(update_every=3, max_norm=0)
    batches = [random_gradients(seed, 2) for seed in range(5)]
    state = fresh(nash, batches[0])
    weights = []
    for gradients in batches:
        update, state = step(nash, gradients, state)
        assert_close(update, state["weight"] @ gradients)
        weights.append(state["weight"])
    assert_close(weights[0], first(batches[0])[1])
    assert torch.equal(weights[1], weights[0])
    assert torch.equal(weights[2], weights[0])
    assert_close(weights[3], first(batches[3])[1])
    assert torch.equal(weights[4], weights[3])
