from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.listmle import ListMle, listmle


def days(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def all_valid(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def slow_listmle(f: list[float], y: list[float]) -> float:
    """Group by group from the highest y, Efron's denominators one by one."""
    total = 0.0
    for value in sorted(set(y), reverse=True):
        group = sum(math.exp(f[i]) for i in range(len(f)) if y[i] == value)
        below = sum(math.exp(f[i]) for i in range(len(f)) if y[i] < value)
        size = y.count(value)
        for drawn in range(size):
            total += math.log(below + group * (size - drawn) / size)
        total -= math.log(math.factorial(size)) + sum(f[i] for i in range(len(f)) if y[i] == value)
    return total / len(f)


def chance_of_order(f: list[float], y: list[float]) -> float:
    """The chance that draws by odds e^f come with falling y, summed over every order of the stocks."""
    chance = 0.0
    for order in itertools.permutations(range(len(f))):
        if all(y[a] >= y[b] for a, b in itertools.pairwise(order)):
            one = 1.0
            for drawn, i in enumerate(order):
                one *= math.exp(f[i]) / sum(math.exp(f[j]) for j in order[drawn:])
            chance += one
    return chance


def test_by_hand() -> None:
    """Odds 1, 2 and 3, best first: 1 of 6, then 2 of 5, then the last."""
    f, y = days([1, 2, 3]).log().requires_grad_(), days([0.3, 0.1, -0.2])
    value = listmle(f, y, all_valid(f))
    assert_close(value, days([-(math.log(1 / 6) + math.log(2 / 5)) / 3])[0])
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert_close(gradient, days([1 / 6 - 1, 2 / 6 + 2 / 5 - 1, 3 / 6 + 3 / 5 + 3 / 3 - 1]) / 3)


def test_ties_by_hand() -> None:
    """Two tied stocks of odds 4 and 2 above one of odds 1: denominators 1 + 6 and 1 + 6 / 2, two orders."""
    f, y = days([4, 1, 2]).log(), days([9, 0, 9])
    expected = math.log(1 + 6) + math.log(1 + 3) - math.log(2) - math.log(4) - math.log(2)
    assert_close(listmle(f, y, all_valid(f)), days([expected / 3])[0])


def test_without_ties_it_is_the_chance_of_the_order() -> None:
    random = torch.Generator().manual_seed(1)
    f, y = torch.randn(2, 5, 5, generator=random, dtype=torch.float64)
    value = listmle(f, y, all_valid(f))
    for day in range(5):
        chance = chance_of_order(f[day].tolist(), y[day].tolist())
        assert float(value[day]) == pytest.approx(-math.log(chance) / 5, abs=1e-12)


def test_where_tied_stocks_score_alike_it_is_the_chance_of_the_groups_exactly() -> None:
    f, y = days([0.4, -1.0, 0.4, 0.7, -1.0, 0.4]), days([2, 1, 2, 0, 1, 2])
    chance = chance_of_order(f[0].tolist(), y[0].tolist())
    assert float(listmle(f, y, all_valid(f))) == pytest.approx(-math.log(chance) / 6, abs=1e-12)


def test_agrees_with_the_slow_reference() -> None:
    random = torch.Generator().manual_seed(2)
    f = torch.randn(40, 8, generator=random, dtype=torch.float64)
    y = torch.randint(0, 4, (40, 8), generator=random)
    valid = torch.rand(40, 8, generator=random) < 0.8
    valid[:, 0] = True
    y[0] = 3
    value = listmle(f, y, valid)
    for day in range(40):
        here = valid[day]
        assert float(value[day]) == pytest.approx(slow_listmle(f[day, here].tolist(), y[day, here].tolist()), abs=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    random = torch.Generator().manual_seed(3)
    f = torch.randn(3, 6, generator=random, dtype=torch.float64)
    y = torch.tensor([[0, 1, 1, 2, 2, 2], [5, 4, 3, 2, 1, 0], [1, 1, 1, 1, 1, 1]])
    valid = torch.tensor([[True] * 6, [True] * 3 + [False] * 3, [True] * 6])
    assert torch.autograd.gradcheck(lambda x: listmle(x, y, valid), f.requires_grad_())


def test_only_the_order_of_the_targets_counts() -> None:
    f, y = days([0.3, -0.2, 1.1, 0.0]), days([0.1, -0.3, -0.3, 0.2])
    assert_close(listmle(f, y.exp() * 100, all_valid(f)), listmle(f, y, all_valid(f)))


def test_it_is_least_in_the_right_order() -> None:
    f, y = days([0.9, 0.4, -0.1, -1.0]), days([4, 3, 2, 1])
    best = listmle(f, y, all_valid(f))
    for order in list(itertools.permutations(range(4)))[1:]:
        assert listmle(f[:, order], y, all_valid(f)) > best


def test_it_falls_to_zero_as_groups_of_equal_scores_move_apart() -> None:
    apart = days([2, 2, 1, 0, 0, 0])
    values = [float(listmle(size * apart, apart, all_valid(apart))) for size in (0.0, 1.0, 5.0, 20.0, 50.0)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 1e-12


def test_it_is_never_negative() -> None:
    random = torch.Generator().manual_seed(4)
    f = 3 * torch.randn(200, 6, generator=random, dtype=torch.float64)
    assert (listmle(f, torch.randint(0, 3, (200, 6), generator=random), all_valid(f)) >= 0).all()


def test_scores_too_far_apart_for_their_odds() -> None:
    """e^500 and e^-500 do not fit in float32; each of the two lower stocks is passed over by 1000 once too often."""
    f = torch.tensor([[-500.0, 500.0, -500.0]], requires_grad=True)
    value = listmle(f, torch.tensor([[2.0, 1.0, 0.0]]), all_valid(f))
    assert_close(value, torch.tensor([1000 / 3]))
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert_close(gradient, torch.tensor([[-1 / 3, 1 / 3, 0.0]]))


def test_component() -> None:
    loss = LOSSES.parse({"kind": "listmle", "pointwise": 0.0})
    assert isinstance(loss, ListMle)
    sure = 1e3 * torch.eye(3).double()[[1, 0, 2]][None]
    levels = torch.tensor([[2, 1, 1]])
    assert_close(loss(sure, levels, all_valid(sure)), listmle(days([1, 0, 4]), levels, all_valid(sure)))
