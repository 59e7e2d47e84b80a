from __future__ import annotations

import importlib
import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing import Balancer
from mimstocr.balancing.torchjd import AlignedMtl, GradDrop, ImtlG, PcGrad


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def first(balancer: Balancer, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The first update, and its weights where there are some."""
    state = balancer.init(len(gradients), [gradients.shape[1]], torch.device("cpu"))
    update, state = balancer.update(gradients, torch.zeros(0), state)
    return update, state.get("weight", torch.zeros(0))


def random_gradients(seed: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return gradients * torch.rand(n, 1, generator=generator, dtype=torch.float64).mul(6).sub(3).exp()


def test_torchjd_is_not_imported_with_our_module() -> None:
    """It takes seconds, and `mimstocr list` imports every balancer."""
    ours = vars(importlib.import_module("mimstocr.balancing.torchjd")).values()
    names = [getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in ours]
    assert not [name for name in names if name.split(".")[0] == "torchjd"]


# --- PCGrad ----------------------------------------------------------------------------------------------------


def surgery(gradients: Tensor, orders: tuple[tuple[int, ...], ...]) -> Tensor:
    """Algorithm 1 of the paper, with the order in which each task meets the others."""
    total = torch.zeros_like(gradients[0])
    for i, order in enumerate(orders):
        projected = gradients[i].clone()
        for j in order:
            if j != i and projected @ gradients[j] < 0:
                projected -= projected @ gradients[j] / gradients[j].square().sum() * gradients[j]
        total += projected
    return total


@pytest.mark.parametrize("seed", range(10))
def test_pcgrad_two_tasks_by_the_printed_loop(seed: int) -> None:
    gradients = random_gradients(seed, 2)
    assert_close(first(PcGrad(), gradients)[0], surgery(gradients, ((0, 1), (0, 1))))
    assert_close(first(PcGrad(), gradients)[0], surgery(gradients, ((1, 0), (1, 0))))


def test_pcgrad_two_tasks_by_hand() -> None:
    # <g1, g2> = -2: g1 becomes (2, 0) + (2 / 2)(-1, 1), g2 becomes (-1, 1) + (2 / 4)(2, 0)
    assert_close(first(PcGrad(), matrix([2, 0], [-1, 1]))[0], matrix([1 + 0, 1 + 1])[0])
    assert_close(first(PcGrad(), matrix([2, 0], [1, 1]))[0], matrix([3, 1])[0])  # no conflict: the sum


def test_pcgrad_three_tasks_meet_each_other_in_every_order() -> None:
    gradients = matrix([1, 0.2, 0], [-0.8, 1, 0.3], [-0.5, -0.9, 1])
    orders = list(itertools.permutations(range(3)))
    possible = [surgery(gradients, chosen) for chosen in itertools.product(orders, repeat=3)]
    distinct = [p for i, p in enumerate(possible) if not any(torch.allclose(p, q) for q in possible[:i])]
    assert len(distinct) > 2
    seen = set()
    for seed in range(100):
        torch.manual_seed(seed)
        update, weight = first(PcGrad(), gradients)
        assert_close(weight @ gradients, update)
        matches = [i for i, p in enumerate(distinct) if torch.allclose(p, update)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == len(distinct)


# --- IMTL-G ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_imtl_g_projects_alike_on_every_task(seed: int, n: int) -> None:
    gradients = random_gradients(seed, n)
    update, weight = first(ImtlG(), gradients)
    units = gradients / gradients.norm(dim=1, keepdim=True)
    projections = units @ update
    assert projections[0] > 0
    assert_close(projections, projections[:1].expand(n), rtol=1e-8, atol=0)
    assert_close(weight.abs().sum(), matrix([1])[0, 0])
    if n == 2:
        assert (weight > 0).all()


def test_imtl_g_by_the_printed_solution() -> None:
    """Eq. 6: (a_2 .. a_K) = g_1 U' (D U')^-1, D the differences of the gradients, U of the unit gradients."""
    for seed in range(20):
        gradients = random_gradients(seed, 3)
        units = gradients / gradients.norm(dim=1, keepdim=True)
        D, U = gradients[:1] - gradients[1:], units[:1] - units[1:]
        rest = gradients[0] @ U.T @ torch.linalg.inv(D @ U.T)
        published = torch.cat([1 - rest.sum()[None], rest])
        update, weight = first(ImtlG(), gradients)
        if (published >= 0).all():
            assert_close(weight, published)
        else:
            length = published.abs().sum() * torch.sign(units[0] @ (published @ gradients))
            assert_close(weight, published / length)
        assert_close(update, weight @ gradients)


def test_imtl_g_by_hand() -> None:
    # orthogonal, of lengths 4 and 1: weights 1/5 and 4/5
    update, weight = first(ImtlG(), matrix([4, 0], [0, 1]))
    assert weight.tolist() == pytest.approx([0.2, 0.8])
    assert update.tolist() == pytest.approx([0.8, 0.8])


def test_imtl_g_neither_turns_around_nor_explodes() -> None:
    """The published weights of these three are large and of both signs; their sum passes 0 nearby."""
    for last in torch.linspace(0.01, 3, 200, dtype=torch.float64).tolist():
        gradients = matrix([1, 0.0, 0], [-0.6, 0.8, 0.05], [0.2 * last, 0.9 * last, 0.02])
        update, _ = first(ImtlG(), gradients)
        assert (gradients @ update > 0).all()
        assert update.norm() <= gradients.norm(dim=1).max() + 1e-12


# --- Aligned-MTL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_aligned_mtl_adds_gradients_of_condition_number_one(seed: int, n: int) -> None:
    """G = U S V' becomes s_min U V': all principal components of the least length."""
    gradients = random_gradients(seed, n)
    U, S, Vh = torch.linalg.svd(gradients, full_matrices=False)
    aligned = S[-1] * U @ Vh
    assert torch.linalg.cond(aligned) == pytest.approx(1)
    assert_close(first(AlignedMtl(), gradients)[0], aligned.sum(dim=0), rtol=1e-6, atol=1e-9)


def test_aligned_mtl_by_hand() -> None:
    assert_close(first(AlignedMtl(), matrix([5, 0], [0, 2]))[0], matrix([2, 2])[0])
    # two parallel gradients have one component alone: s u v' with s = 5, u = (3, 4) / 5, v the direction
    assert_close(first(AlignedMtl(), matrix([3, 0], [4, 0]))[0], matrix([7, 0])[0])


# --- GradDrop --------------------------------------------------------------------------------------------------


def test_graddrop_keeps_one_sign_as_often_as_it_is_pure() -> None:
    gradients = matrix([3, -1, 2, 0], [-1, -2, 1, 0], [0, 4, 5, 0])
    positive, negative = gradients.clamp_min(0).sum(dim=0), gradients.clamp_max(0).sum(dim=0)
    purity = 0.5 * (1 + gradients.sum(dim=0) / gradients.abs().sum(dim=0))
    assert purity[:3].tolist() == pytest.approx([0.75, 4 / 7, 1])
    n = 3000
    torch.manual_seed(0)
    draws = torch.stack([first(GradDrop(), gradients)[0] for _ in range(n)])
    for column in range(3):
        kept = (draws[:, column] - positive[column]).abs() < 1e-12
        assert (kept | ((draws[:, column] - negative[column]).abs() < 1e-12)).all()
        p = float(purity[column])
        assert abs(float(kept.double().mean()) - p) <= 4 * (p * (1 - p) / n) ** 0.5
    assert (draws[:, 2] == 8).all()  # all tasks agree
    assert (draws[:, 3] == 0).all()
    both = (draws[:, 0] > 0) & (draws[:, 1] > 0)
    assert abs(float(both.double().mean()) - 0.75 * 4 / 7) < 0.04  # each value is drawn by itself


def test_graddrop_leaks() -> None:
    gradients = matrix([3, -1], [-1, -2])
    torch.manual_seed(0)
    dropped, _ = first(GradDrop(), gradients)
    torch.manual_seed(0)
    leaking, _ = first(GradDrop(leak=0.25), gradients)
    assert_close(leaking, 0.25 * gradients.sum(dim=0) + 0.75 * dropped)
    assert_close(first(GradDrop(leak=1), gradients)[0], gradients.sum(dim=0))
