from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses.qlike import qlike


def days(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def everywhere(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def test_by_hand() -> None:
    """Volatilities of 2 % predicted as 1 % and of 1 % predicted as 3 %: variances 4 : 1 and 1 : 9."""
    predicted = days([0.01, 0.03, 9.0], [0.02, 9.0, 9.0]).log().requires_grad_()
    realised = days([0.02, 0.01, 1.0], [0.02, 1.0, 1.0]).log()
    valid = torch.tensor([[True, True, False], [True, False, False]])
    value = qlike(predicted, realised, valid)
    low, high = 4 - math.log(4) - 1, 1 / 9 - math.log(1 / 9) - 1
    assert_close(value, torch.tensor([(low + high) / 2, 0.0], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value.sum(), predicted)
    assert_close(gradient, days([2 * (1 - 4) / 2, 2 * (1 - 1 / 9) / 2, 0], [0, 0, 0]))


def test_equals_the_formula_of_variances() -> None:
    random = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 4, 9, generator=random, dtype=torch.float64)
    valid = torch.rand(4, 9, generator=random) < 0.8
    found = qlike(z, t, valid)
    for day in range(4):
        costs = []
        for stock in range(9):
            if valid[day, stock]:
                ratio = math.exp(float(t[day, stock])) ** 2 / math.exp(float(z[day, stock])) ** 2
                costs.append(ratio - math.log(ratio) - 1)
        assert float(found[day]) == pytest.approx(sum(costs) / len(costs), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_below_0(dtype: torch.dtype) -> None:
    sizes = torch.logspace(-20, 1.6, 20_000, dtype=dtype)[None]
    for x in (sizes, -sizes):
        value = qlike(torch.zeros_like(x).T, x.T, everywhere(x).T)
        assert value.isfinite().all()
        assert (value >= 0).all()
    assert (qlike(sizes, sizes, everywhere(sizes)) == 0).all()


def test_a_good_forecast_keeps_its_digits() -> None:
    """Near it the loss is x^2 / 2 + x^3 / 6, with x = 2 (t - z)."""
    value = qlike(days([0.0], [0.0]), days([5e-6], [-5e-6]), torch.ones(2, 1, dtype=torch.bool))
    expected = [1e-10 / 2 + 1e-15 / 6, 1e-10 / 2 - 1e-15 / 6]
    assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


def test_only_the_ratio_matters() -> None:
    """A volatility of a day or a year, as a fraction or in percent."""
    z, t = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_close(qlike(z + math.log(15.9), t + math.log(15.9), everywhere(z)), qlike(z, t, everywhere(z)))


def test_too_low_costs_more_than_too_high() -> None:
    """Volatility k = 10 times off: k^2 - 2 log k - 1 against 1 / k^2 + 2 log k - 1."""
    value = qlike(days([0.0], [math.log(10)]), days([math.log(10)], [0.0]), torch.ones(2, 1, dtype=torch.bool))
    assert_close(value, torch.tensor([100 - 2 * math.log(10) - 1, 1 / 100 + 2 * math.log(10) - 1], dtype=torch.float64))


def test_the_best_constant_forecast_is_the_mean_variance() -> None:
    """What makes the loss robust: the mean of a noisy variance is its unbiased forecast."""
    t = torch.randn(1, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    best = (2 * t).exp().mean().log() / 2
    z = best.repeat(1, 50).requires_grad_()
    (gradient,) = torch.autograd.grad(qlike(z, t, everywhere(t)).sum(), z)
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-12)
    least = qlike(z, t, everywhere(t))
    for step in (-0.1, 0.1):
        assert qlike(z + step, t, everywhere(t)) > least


def test_the_range_of_float32() -> None:
    """Finite up to x = 88.7, log of the largest float32; then infinite, for all to see, and not cut off."""
    t = torch.tensor([[44.3], [44.4]])
    z = torch.zeros(2, 1, requires_grad=True)
    value = qlike(z, t, everywhere(t))
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert_close(value[0], torch.tensor(math.exp(2 * 44.3)), rtol=1e-4, atol=0)
    assert_close(gradient[0, 0], torch.tensor(-2 * math.exp(2 * 44.3)), rtol=1e-4, atol=0)
    assert value[1] == math.inf
    too_high = qlike(torch.tensor([[1e30]]), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert_close(too_high, torch.tensor([2e30]))


def test_component() -> None:
    loss = LOSSES.parse("qlike")
    assert loss.targets == ("scale",)
    assert loss.diagnostics(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)) == {}
