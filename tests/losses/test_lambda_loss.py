from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.lambda_loss import LambdaLoss, _delta, lambda_loss

LOG3 = math.log2(3)


def days(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def all_valid(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def slow_pairs(f: list[float], w: list[float], k: int, mu: float) -> list[tuple[int, int, float]]:
    """Every pair with w_i > w_j and what is at stake in it; ties by going through every order of the stocks."""
    n = len(f)
    orders = [o for o in itertools.permutations(range(n)) if all(f[a] >= f[b] for a, b in itertools.pairwise(o))]
    place = [[o.index(i) + 1 for o in orders] for i in range(n)]
    discount = [mean([1 / math.log2(1 + p) if p <= k else 0.0 for p in place[i]]) for i in range(n)]
    boost = [mean([1.0 if p <= k else 1 / (1 - 1 / math.log2(1 + p)) for p in place[i]]) for i in range(n)]
    ideal = sum((2**x - 1) / math.log2(1 + p) for p, x in enumerate(sorted(w, reverse=True)[:k], start=1))
    pairs = []
    for i in range(n):
        for j in range(n):
            if w[i] > w[j]:
                d = mean([abs(a - b) for a, b in zip(place[i], place[j], strict=True)])
                lower = i if mean(place[i]) > mean(place[j]) else j
                delta = (1 / math.log2(1 + d) - 1 / math.log2(2 + d)) * boost[lower]
                rho = abs(discount[i] - discount[j])
                pairs.append((i, j, (rho + mu * delta) * (2 ** w[i] - 2 ** w[j]) / ideal))
    return pairs


def slow_loss(f: list[float], w: list[float], k: int, mu: float, temperature: float) -> float:
    pairs = slow_pairs(f, w, k, mu)
    return sum(stake * math.log2(1 + math.exp(-temperature * (f[i] - f[j]))) for i, j, stake in pairs) / len(f)


def test_by_hand() -> None:
    """Places 1, 2, 3 for gains 0, 3, 1; gaps of log 2 between neighbours, so odds 2 and 4."""
    f, w = days([2 * math.log(2), math.log(2), 0.0]), days([0, 2, 1])
    ideal = 3 / 1 + 1 / LOG3
    near, far = 1 / 1 - 1 / LOG3, 1 / LOG3 - 1 / 2  # delta of distance 1 and of 2
    pairs = (
        ((1 - 1 / LOG3) + 10 * near) * 3 * math.log2(1 + 2),  # place 2 above place 1, scored below it
        ((1 / LOG3 - 1 / 2) + 10 * near) * 2 * math.log2(1 + 1 / 2),  # place 2 above place 3, as scored
        ((1 - 1 / 2) + 10 * far) * 1 * math.log2(1 + 4),  # place 3 above place 1, scored below it
    )
    assert_close(lambda_loss(f, w, all_valid(f)), days([sum(pairs) / ideal / 3])[0])


def test_gradient_by_hand() -> None:
    """Two stocks, the better scored second by log 3; G = 1 of an ideal DCG of 1."""
    f, w = days([math.log(3), 0.0]).requires_grad_(), days([0, 1])
    value = lambda_loss(f, w, all_valid(f), mu=10, temperature=2.0)
    stake = (1 + 10) * (1 - 1 / LOG3)
    assert_close(value, days([stake * math.log2(1 + 9) / 2])[0])
    (gradient,) = torch.autograd.grad(value.sum(), f)
    slope = stake * 2 * (9 / 10) / math.log(2) / 2
    assert_close(gradient, days([slope, -slope]))


def test_the_cut_by_hand() -> None:
    """k = 1: the better of two stands beyond the cut, on place 2; alone of the discounts that of place 1 is left."""
    f, w = days([math.log(3), 0.0]), days([0, 1])
    stake = 1 + 10 * (1 - 1 / LOG3) / (1 - 1 / LOG3)
    assert_close(lambda_loss(f, w, all_valid(f), k=1), days([stake * math.log2(1 + 3) / 2])[0])


def test_equal_scores_by_hand() -> None:
    """Three tied stocks: no discount differs, and two places of three are (3 + 1) / 3 apart on average."""
    f, w = days([0.7, 0.7, 0.7]), days([0, 1, 0])
    delta = 1 / math.log2(1 + 4 / 3) - 1 / math.log2(2 + 4 / 3)
    assert_close(lambda_loss(f, w, all_valid(f)), days([2 * 10 * delta * 1 / 3])[0])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [None, 1, 2, 4, 9])
@pytest.mark.parametrize(("mu", "temperature"), [(10.0, 1.0), (0.0, 2.0), (1.5, 0.3)])
def test_agrees_with_the_slow_reference(ties: bool, k: int | None, mu: float, temperature: float) -> None:
    random = torch.Generator().manual_seed(1)
    f = torch.randn(8, 6, generator=random, dtype=torch.float64)
    f = (f * 1.5).round() if ties else f
    w = torch.randint(0, 4, (8, 6), generator=random)
    valid = torch.rand(8, 6, generator=random) < 0.85
    valid[:, :2] = True
    w[:, :2] = torch.tensor([0, 2])
    value = lambda_loss(f, w, valid, k, mu, temperature)
    for day in range(8):
        here = valid[day]
        slow = slow_loss(f[day, here].tolist(), w[day, here].tolist(), k or 6, mu, temperature)
        assert float(value[day]) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("k", [None, 2])
def test_gradient_agrees_with_finite_differences(k: int | None) -> None:
    """No two scores near enough to change places."""
    random = torch.Generator().manual_seed(2)
    f = torch.stack([torch.randperm(6, generator=random) for _ in range(2)]).double() / 2
    w = torch.randint(0, 4, (2, 6), generator=random)
    valid = torch.tensor([[True] * 6, [True, True, False, True, False, True]])
    assert torch.autograd.gradcheck(lambda x: lambda_loss(x, w, valid, k), f.requires_grad_())


def test_it_is_at_least_what_is_at_stake_in_the_wrong_pairs() -> None:
    """log2(1 + e^x) is 1 at a tie and more for a pair in the wrong order: Loss2++ bounds the cost it stands for."""
    random = torch.Generator().manual_seed(3)
    for _ in range(20):
        f, w = torch.randn(5, generator=random).tolist(), torch.randint(0, 4, (5,), generator=random).tolist()
        at_stake = sum(stake for i, j, stake in slow_pairs(f, w, 5, 10.0) if f[i] < f[j]) if any(w) else 0.0
        assert 5 * float(lambda_loss(days(f), days(w), all_valid(days(f)))) >= at_stake


def test_it_falls_to_zero_as_the_right_order_widens() -> None:
    w = days([3, 2, 1, 0])
    values = [float(lambda_loss(size * w, w, all_valid(w))) for size in (0.0, 1.0, 5.0, 50.0)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 1e-12


def test_a_mistake_at_the_top_costs_more_than_one_below() -> None:
    w = days([5, 4, 3, 2, 1, 0])
    f = w.repeat(5, 1)
    for i in range(5):  # day i: places i and i + 1 exchanged
        f[i, [i, i + 1]] = f[i, [i + 1, i]]
    values = lambda_loss(f, w.expand(5, 6), all_valid(f))
    assert (values.diff() < 0).all()


def test_gains_too_large_for_float32_are_no_trouble() -> None:
    f = torch.tensor([[0.0, 0.0]])
    value = lambda_loss(f, torch.tensor([[144, 0]]), all_valid(f))
    assert_close(value, torch.tensor([10 * (1 - 1 / LOG3) / 2]))


def test_far_places_keep_their_digits_in_float32() -> None:
    """At a distance of 5000 places delta is 2e-6, the difference of two numbers near 0.08."""
    for d in (1 / 2, 1, 4 / 3, 10, 5000, 9999):
        expected = 1 / math.log2(1 + d) - 1 / math.log2(2 + d)
        assert float(_delta(torch.tensor(d, dtype=torch.float32))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"mu": -1.0}, {"temperature": 0.0}, {"temperature": math.nan}])
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    f = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="expected a positive temperature, mu >= 0 and k >= 1"):
        lambda_loss(f, f, all_valid(f), **wrong)
    with pytest.raises(ValidationError):
        LambdaLoss(**{key: value for key, value in wrong.items() if not math.isnan(value)} or {"k": "top"})


def test_default_settings_are_the_papers() -> None:
    assert LOSSES.parse("lambda_loss").model_dump() == {
        "kind": "lambda_loss",
        "pointwise": 0.5,
        "relevance": "square",
        "k": "all",
        "mu": 10.0,
        "temperature": 1.0,
    }


def test_component_hands_its_settings_on() -> None:
    f, levels = days([0.3, -0.2, 1.1, 0.0]), torch.tensor([[3, 0, 1, 2]])
    logits = torch.stack([f, -f, f * f, f + 1], dim=-1)
    p = logits.softmax(-1)
    expected = lambda_loss((p * torch.arange(4)).sum(-1), levels, all_valid(f), 2, 3.0, 0.5)
    loss = LambdaLoss(pointwise=0.0, relevance="linear", k=2, mu=3.0, temperature=0.5)
    assert_close(loss(logits, levels, all_valid(f)), expected)


@pytest.mark.parametrize(("form", "power"), [("linear", 1), ("square", 2)])
def test_real_values_count_as_levels_0_to_4_by_their_rank(form: str, power: int) -> None:
    """Four valid of five: steps of 4 / 3; the tied two share the first and the second."""
    y, f = days([0.03, -0.01, 99.0, -0.01, 0.07]), days([0.3, -0.2, 1.1, 0.0, 0.4])
    valid = torch.tensor([[True, True, False, True, True]])
    levels = days([8 / 3, 2 / 3, 0, 2 / 3, 4])
    loss = LambdaLoss(pointwise=0.0, relevance=form)
    assert_close(loss(f, y, valid), lambda_loss(f, levels**power, valid))
