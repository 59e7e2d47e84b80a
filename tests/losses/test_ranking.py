"""What the losses have in common that put a ranking term beside a pointwise one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses._ranking import Ranking
from mimstocr.losses.approx_ndcg import expected_relevance
from mimstocr.losses.cross_entropy import cross_entropy
from mimstocr.losses.mse import mse
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return

NAMES = [name for name in LOSSES.names() if issubclass(LOSSES.get(name), Ranking)]

pytestmark = pytest.mark.parametrize("name", NAMES)


def test_they_serve_both_kinds(name: str) -> None:
    loss = LOSSES.get(name)()
    assert loss.targets == ("value", "level")
    assert Return(loss=loss).loss == MomentumLine(loss=loss).loss == loss


def valid_of(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def batch(kind: str, stocks: int = 8, days: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    shape = (days, stocks, 5) if kind == "level" else (days, stocks)
    output = torch.randn(shape, generator=random, dtype=torch.float64)
    if kind == "level":
        target = torch.randint(0, 5, (days, stocks), generator=random)
    else:
        target = torch.randn(days, stocks, generator=random, dtype=torch.float64)
    return output, target, valid_of(target)


@pytest.mark.parametrize("kind", ["value", "level"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_pointwise_mixes_both_parts(name: str, kind: str, share: float) -> None:
    here = batch(kind)
    ranking = LOSSES.get(name)(pointwise=0.0)(*here)
    alone = (cross_entropy if kind == "level" else mse)(*here)
    assert ranking.gt(0).all()
    assert (ranking - alone).abs().gt(1e-3).all()
    assert_close(LOSSES.get(name)(pointwise=share)(*here), share * alone + (1 - share) * ranking)


@pytest.mark.parametrize("form", ["square", "linear"])
def test_levels_are_ranked_by_their_expected_relevance(name: str, form: str) -> None:
    logits, levels, valid = batch("level")
    loss = LOSSES.get(name)(pointwise=0.0, relevance=form)
    w = levels**2 if form == "square" else levels
    assert_close(loss(logits, levels, valid), loss.ranking(expected_relevance(logits, form), w, valid))


def test_half_and_half_of_squares_unless_told_otherwise(name: str) -> None:
    loss = LOSSES.get(name)()
    assert (loss.pointwise, loss.relevance) == (0.5, "square")


@pytest.mark.parametrize("wrong", [{"pointwise": 1.1}, {"pointwise": -0.1}, {"relevance": "cubic"}, {"lambda_ce": 0.5}])
def test_wrong_settings_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LOSSES.get(name)(**wrong)


def test_settings_survive_a_round_trip(name: str) -> None:
    loss = LOSSES.get(name)(pointwise=0.25, relevance="linear")
    assert LOSSES.parse(json.loads(loss.model_dump_json())) == loss


def test_a_shift_of_all_scores_changes_nothing(name: str) -> None:
    f, y, valid = batch("value")
    loss = LOSSES.get(name)(pointwise=0.0)
    assert_close(loss(f + 2.5, y, valid), loss(f, y, valid))


@pytest.mark.parametrize("kind", ["value", "level"])
def test_with_ties_too_the_order_of_the_stocks_does_not_matter(name: str, kind: str) -> None:
    """Scores and targets of three values each, in every combination and some of them twice."""
    f = torch.arange(3).repeat_interleave(3).repeat(2)[None].double()
    target = torch.arange(3).repeat(6)[None]
    f, target = f[:, :14], target[:, :14]
    if kind == "level":
        output = torch.stack([f, -f, f * f], dim=-1)
    else:
        output, target = f, target.double()
    loss, valid = LOSSES.get(name)(pointwise=0.0), valid_of(target)

    def both(order: Tensor) -> tuple[Tensor, Tensor]:
        moved = output[:, order].clone().requires_grad_()
        value = loss(moved, target[:, order], valid)
        return value.detach(), torch.autograd.grad(value.sum(), moved)[0]

    value, gradient = both(torch.arange(14))
    assert gradient.any()
    for seed in range(5):
        order = torch.randperm(14, generator=torch.Generator().manual_seed(seed))
        assert_close(both(order), (value, gradient[:, order]))


def test_a_step_downhill_raises_the_best_stock_and_lowers_the_worst(name: str) -> None:
    """Three stocks, scored in the opposite of their order."""
    loss = LOSSES.get(name)(pointwise=0.0)
    f = torch.tensor([[0.0, 0.1, 0.2]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(loss(f, y, valid_of(f)).sum(), f)
    assert gradient[0, 0] < 0 < gradient[0, 2]
    logits = (3 * torch.eye(5)[[0, 2, 4]].double())[None].requires_grad_()
    levels = torch.tensor([[4, 2, 0]])
    (gradient,) = torch.autograd.grad(loss(logits, levels, valid_of(levels)).sum(), logits)
    before, after = (expected_relevance(z)[0] for z in (logits, logits - 1e-3 * gradient))
    assert after[0] > before[0]
    assert after[2] < before[2]


@pytest.mark.parametrize("kind", ["value", "level"])
def test_descent_finds_the_order(name: str, kind: str) -> None:
    output, target, valid = batch(kind, stocks=20, days=1)
    output, loss = output.requires_grad_(), LOSSES.get(name)(pointwise=0.0, relevance="linear")
    optimiser = torch.optim.Adam([output], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss(output, target, valid).sum().backward()
        optimiser.step()
    f = output.detach() if kind == "value" else expected_relevance(output.detach(), "linear")
    wrong = ((f[0, :, None] - f[0]) * (target[0, :, None] - target[0]).sign() < 0).sum() / 2
    assert wrong <= 0.02 * 190


@pytest.mark.parametrize("kind", ["value", "level"])
def test_nothing_to_rank_is_no_trouble(name: str, kind: str) -> None:
    """One stock; equal targets with equal scores; and equal targets alone."""
    for stocks in (1, 6):
        output, target, valid = batch(kind, stocks=stocks)
        output, target = output.float(), torch.ones_like(target)
        for scores in (torch.zeros_like(output), output):
            scores.requires_grad_()
            value = LOSSES.get(name)(pointwise=0.0)(scores, target, valid)
            (gradient,) = torch.autograd.grad(value.sum(), scores)
            assert value.isfinite().all()
            assert gradient.isfinite().all()
            if stocks == 1:
                assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("kind", ["value", "level"])
def test_many_stocks_in_float32(name: str, kind: str) -> None:
    """Finite, and near float64; a third of the scores are equal."""
    stocks = 10_000 if name != "lambda_loss" else 4_000
    output, target, valid = batch(kind, stocks, days=1)
    output[:, : stocks // 3] = output[:, :1]
    output, loss = output.float(), LOSSES.get(name)(pointwise=0.0)

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        value = loss(x, y, valid)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    target = target.float() if kind == "value" else target
    value, gradient = both(output, target)
    exact, exact_gradient = both(output.double(), target.double() if kind == "value" else target)
    assert value.dtype == gradient.dtype == torch.float32
    assert_close(value.double(), exact, rtol=1e-5, atol=0)
    assert (gradient.double() - exact_gradient).abs().max() <= 1e-4 * exact_gradient.abs().max()
