"""What every registered loss promises, whatever it computes, for each kind of target that it can be given."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple, get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES, Loss
from mimstocr.losses.base import Kind

LEVELS = 5
STOCKS = (7, 0, 4, 1)
"""Valid stocks of each day of `batch`; the second day is empty, the last has one."""

LARGE = {"value": 1e15, "level": 1e30, "event": 1e30, "scale": 10.0, "position": 1e15, "hold": 1e15}
"""Outputs of each kind are tried up to a few times this: a square of a value, and of e to a logarithm, must fit into
float32; logits and positions are only ever compared."""


def kinds(loss: type[Loss]) -> list[str]:
    """What the loss can be given: what it names, a scale where it takes a value, and positions with Hold too."""
    more = {"value": ["scale"], "position": ["hold"]}
    return [kind for target in loss.targets for kind in (target, *more.get(target, []))]


FORMS: dict[str, dict[str, Any]] = {
    "stock_loss": {"sign": "hard"},
    "stock_loss_max": {"sign": "hard", "hold_reward": 0.0},
    "stock_loss_l2": {"form": "signed"},
    "stock_loss_norm": {"form": "safe"},
    "sharpe": {"cost": 0.0},
}
"""Settings under which a loss is another function, beside its defaults."""

LOSSES_TRIED = [
    LOSSES.get(name)(**settings)
    for name in LOSSES.names()
    for settings in ({}, FORMS.get(name))
    if settings is not None
]
KINDS = [(loss, kind) for loss in LOSSES_TRIED for kind in kinds(type(loss))]

pytestmark = pytest.mark.parametrize(("loss", "kind"), KINDS, ids=[f"{loss.kind}-{kind}" for loss, kind in KINDS])


class Batch(NamedTuple):
    output: Tensor
    target: Tensor
    valid: Tensor


def batch(kind: str, seed: int = 0) -> Batch:
    """float64, a ragged mask with holes in it, no ties."""
    random = torch.Generator().manual_seed(seed)
    days, stocks = len(STOCKS), 9
    order = torch.rand(days, stocks, generator=random).argsort(-1)
    valid = order < torch.tensor(STOCKS)[:, None]
    if kind == "level":
        output = torch.randn(days, stocks, LEVELS, generator=random, dtype=torch.float64)
        return Batch(output, torch.randint(0, LEVELS, (days, stocks), generator=random), valid)
    if kind in ("position", "hold"):
        output = torch.randn(days, stocks + (kind == "hold"), generator=random, dtype=torch.float64).tanh()
        return Batch(output, 0.02 * torch.randn(days, stocks, generator=random, dtype=torch.float64), valid)
    output = torch.randn(days, stocks, generator=random, dtype=torch.float64)
    if kind == "event":
        return Batch(output, torch.randint(0, 2, (days, stocks), generator=random).double(), valid)
    return Batch(output, torch.randn(days, stocks, generator=random, dtype=torch.float64), valid)


def of(values: Tensor, stocks: Tensor | slice, valid: Tensor) -> Tensor:
    """The given stocks of outputs or gradients, with Hold last where it is among them."""
    n = valid.shape[1]
    return torch.cat([values[:, :n][:, stocks], values[:, n:]], dim=1)


def value_and_gradient(loss: Loss, output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    output = output.clone().requires_grad_()
    value = loss(output, target, valid)
    (gradient,) = torch.autograd.grad(value.sum(), output)
    return value.detach(), gradient


def test_the_kinds_of_targets_are_known(loss: Loss, kind: str) -> None:
    assert set(loss.targets) <= set(get_args(Kind))
    # all four are float (days, stocks), so that a loss could not tell which it was given
    assert len({"value", "event", "scale", "position"} & set(loss.targets)) <= 1


def test_one_finite_value_a_day_that_the_outputs_move(loss: Loss, kind: str) -> None:
    value, gradient = value_and_gradient(loss, *batch(kind))
    assert value.shape == (len(STOCKS),)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[0] != 0).any()


def test_the_order_of_the_stocks_does_not_matter(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, target, valid)
    shuffle = torch.randperm(valid.shape[1], generator=torch.Generator().manual_seed(1))
    shuffled = value_and_gradient(loss, of(output, shuffle, valid), target[:, shuffle], valid[:, shuffle])
    assert_close(shuffled, (value, of(gradient, shuffle, valid)))


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_junk_in_invalid_places_is_inert(loss: Loss, kind: str, junk: float) -> None:
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, target, valid)
    output, stocks = output.clone(), slice(valid.shape[1])
    output[:, stocks][~valid] = junk
    output[1] = junk  # a day without a valid stock has no Hold either
    target = target.masked_fill(~valid, -1 if kind == "level" else junk)
    junk_value, junk_gradient = value_and_gradient(loss, output, target, valid)
    assert torch.equal(junk_value, value)
    assert torch.equal(junk_gradient, gradient)
    assert (junk_gradient[:, stocks][~valid] == 0).all()


def test_a_large_target_in_an_invalid_place_is_inert(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    junk = target.masked_fill(~valid, 2**62)
    assert torch.equal(loss(output, junk, valid), loss(output, target, valid))


def test_a_day_without_a_valid_stock_gives_nothing(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, target, torch.zeros_like(valid))
    assert (value == 0).all()
    assert (gradient == 0).all()
    value, gradient = value_and_gradient(loss, output, target, valid)
    assert value[1] == 0
    assert (gradient[1] == 0).all()


def test_a_day_without_places_gives_nothing(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    value, _ = value_and_gradient(loss, of(output, slice(0), valid), target[:, :0], valid[:, :0])
    assert torch.equal(value, torch.zeros(len(STOCKS), dtype=output.dtype))


def test_a_day_alone_equals_the_day_in_a_batch(loss: Loss, kind: str) -> None:
    if loss.sequential:
        pytest.skip("follows an account through the days")
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, target, valid)
    for day, n in enumerate(STOCKS):
        one, here = slice(day, day + 1), valid[day]
        alone = value_and_gradient(
            loss, of(output[one], here, valid), target[one, here], torch.ones(1, n, dtype=torch.bool)
        )
        assert_close(alone, (value[one], of(gradient[one], here, valid)))


def test_days_without_a_stock_between_others_are_passed_over(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, target, valid)
    some = valid.any(dim=1)
    assert_close(value_and_gradient(loss, output[some], target[some], valid[some]), (value[some], gradient[some]))


def test_gradient_agrees_with_finite_differences(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, valid), output.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_very_large_outputs_give_finite_values(loss: Loss, kind: str, dtype: torch.dtype) -> None:
    output, target, valid = batch(kind)
    target = target if kind == "level" else target.to(dtype)
    value, gradient = value_and_gradient(loss, (output * LARGE[kind]).to(dtype), target, valid)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_outputs_give_finite_values(loss: Loss, kind: str, dtype: torch.dtype) -> None:
    output, target, valid = batch(kind)
    target = target if kind == "level" else target.to(dtype)
    value, gradient = value_and_gradient(loss, torch.zeros_like(output, dtype=dtype), target, valid)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_equal_targets_give_finite_values(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, torch.zeros_like(target), valid)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_what_is_not_finite_is_not_hidden(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    output = output.clone()
    output[0, valid[0].nonzero()[0]] = float("nan")
    value = loss(output, target, valid)
    assert value[0].isnan()
    assert value[1].isfinite()
    assert loss.sequential or value[2:].isfinite().all()


def test_float32_is_close_to_float64(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    value, gradient = value_and_gradient(loss, output, target, valid)
    target = target if kind == "level" else target.float()
    single = value_and_gradient(loss, output.float(), target, valid)
    assert single[0].dtype == torch.float32
    assert_close(single, (value.float(), gradient.float()), rtol=1e-5, atol=1e-6)


def test_unequal_shapes_are_refused(loss: Loss, kind: str) -> None:
    output, target, valid = batch(kind)
    for wrong in [
        (output[:, :-2], target, valid),
        (output, target[:, :-1], valid),
        (output, target, valid[:, :-1]),
        (output[:1], target, valid),
        (output, target[:1], valid),
        (output, target, valid[:1]),
        (output[0], target[0], valid[0]),
        (output[..., None], target, valid),
    ]:
        with pytest.raises(ValueError, match="expected"):
            loss(*wrong)


def test_diagnostics_are_one_float_a_day(loss: Loss, kind: str) -> None:
    _, target, valid = batch(kind)
    for name, value in loss.diagnostics(target, valid).items():
        assert value.shape == (len(STOCKS),), name
        assert value.is_floating_point(), name


def test_settings_make_the_same_loss_again(loss: Loss, kind: str) -> None:
    again = LOSSES.parse(loss.model_dump())
    assert again == loss
    assert type(again) is type(loss)
    assert LOSSES.parse(loss.kind) == type(loss)()
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert torch.equal(again(*batch(kind)), loss(*batch(kind)))
