from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing import State
from mimstocr.balancing.cqb import Cqb
from mimstocr.balancing.db_mtl import DbMtl

CPU = torch.device("cpu")


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def step(db: DbMtl, gradients: Tensor, state: State) -> tuple[Tensor, State]:
    return db.update(gradients, torch.full((len(gradients),), math.nan), state)


def test_three_steps_by_hand() -> None:
    """The rate of step s is 0.8 / sqrt(s); the memory starts as the first gradient."""
    db = DbMtl(beta=0.8)
    update, state = step(db, matrix([3, 4], [0, 2]), db.init(2, [2], CPU))
    assert_close(update, matrix([5 * 0.6, 5 * 1.8])[0])  # units (0.6, 0.8) and (0, 1), the larger norm 5
    assert state["weight"].tolist() == [1, 2.5]

    b = 0.8 / math.sqrt(2)
    update, state = step(db, matrix([0, 0], [1, 0]), state)
    one, two = [3 * b, 4 * b], [1 - b, 2 * b]
    assert_close(state["smoothed"], matrix(one, two))
    norm = math.hypot(*two)
    assert_close(update, matrix([5 * b * (0.6 + two[0] / norm), 5 * b * (0.8 + two[1] / norm)])[0])
    assert state["weight"].tolist() == pytest.approx([1, 5 * b / norm])

    b = 0.8 / math.sqrt(3)
    _, state = step(db, matrix([1, 1], [-1, -1]), state)
    assert_close(state["smoothed"], b * matrix(one, two) + (1 - b) * matrix([1, 1], [-1, -1]))
    assert state["steps"].tolist() == [3] * len(state["steps"])


@pytest.mark.parametrize("fade", [0.0, 0.5, 1.0])
def test_the_rate_fades_with_the_step(fade: float) -> None:
    assert [DbMtl(beta=0.6, fade=fade).rate(s) for s in (1, 4, 9)] == pytest.approx([0.6, 0.6 / 4**fade, 0.6 / 9**fade])


def test_a_constant_rate_is_cqb_with_its_adaptive_parts_off() -> None:
    db, cqb = DbMtl(beta=0.5, fade=0), Cqb(beta=0.5, adaptive_beta=False, adaptive_decay=False)
    one, two = db.init(3, [2, 3], CPU), cqb.init(3, [2, 3], CPU)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradients = torch.randn(3, 5, generator=generator)
        first, one = step(db, gradients, one)
        second, two = cqb.update(gradients, torch.ones(3), two)
        assert torch.equal(first, second)


@pytest.mark.parametrize("log_loss", [True, False])
def test_losses_enter_as_logarithms(log_loss: bool) -> None:
    db = DbMtl(log_loss=log_loss)
    losses = torch.tensor([0.5, 40.0, 0.0], dtype=torch.float64, requires_grad=True)
    entered = db.transform(losses)
    entered.sum().backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([2, 1 / 40, 0] if log_loss else [1, 1, 1])
    assert entered.isfinite().all()
    assert (db.negative_losses is None) != log_loss


def test_a_task_that_enters_late_starts_anew_and_the_others_go_on() -> None:
    """Row by row the memory is that of a balancer of the old tasks alone, and of one of the new task alone."""
    db = DbMtl(beta=0.8)
    generator = torch.Generator().manual_seed(0)
    old = db.init(2, [5], CPU)
    for _ in range(4):
        _, old = step(db, torch.randn(2, 5, generator=generator), old)
    new, both = db.init(1, [5], CPU), db.admit(old, db.init(3, [5], CPU), [0, 2])
    for _ in range(6):
        gradients = torch.randn(3, 5, generator=generator)
        _, old = step(db, gradients[[0, 2]], old)
        _, new = step(db, gradients[[1]], new)
        _, both = step(db, gradients, both)
        assert torch.equal(both["smoothed"][[0, 2]], old["smoothed"])
        assert torch.equal(both["smoothed"][1:2], new["smoothed"])
        assert all(weight > 0 for weight in both["weight"].tolist())
