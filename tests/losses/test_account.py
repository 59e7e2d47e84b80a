"""The losses that follow an account from day to day, against an account kept in a slow loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses._account import RUIN, net_returns
from mimstocr.losses.log_wealth import LogWealth, log_wealth
from mimstocr.losses.sharpe import Sharpe, sharpe
from mimstocr.losses.sortino import Sortino, sortino

LOSSES = [Sharpe(), Sortino(), LogWealth()]


def block(seed: int = 0, *, hold: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Ten days of six stocks, some missing, one day without any."""
    random = torch.Generator().manual_seed(seed)
    o = torch.randn(10, 6 + hold, generator=random, dtype=torch.float64).tanh()
    d = 0.03 * torch.randn(10, 6, generator=random, dtype=torch.float64)
    valid = torch.rand(10, 6, generator=random) < 0.8
    valid[4] = False
    return o, d, valid


def account(o: Tensor, d: Tensor, valid: Tensor, cost: float) -> list[float]:
    """Net returns of an account in money: one number a stock, cash, and a trade at a time."""
    n = valid.shape[1]
    money = {"cash": 100.0} | {str(i): 0.0 for i in range(n)}
    returns = []
    for day in range(len(o)):
        if not valid[day].any():
            continue
        before = sum(money.values())
        sizes = [abs(float(o[day, i])) if i >= n or valid[day, i] else 0.0 for i in range(o.shape[1])]
        wanted = [math.copysign(sizes[i], float(o[day, i])) / sum(sizes) if sizes[i] else 0.0 for i in range(n)]
        traded = sum(abs(wanted[i] * before - money[str(i)]) for i in range(n))
        left = before - (cost * traded if returns else 0.0)  # the entry is free
        for i in range(n):
            money[str(i)] = wanted[i] * left
        money["cash"] = left - sum(money[str(i)] for i in range(n))
        for i in range(n):
            if valid[day, i]:
                money[str(i)] *= 1 + float(d[day, i])
        returns.append(sum(money.values()) / before - 1)
    return returns


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("cost", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("seed", [0, 1])
def test_returns_against_an_account(cost: float, hold: bool, seed: int) -> None:
    o, d, valid = block(seed, hold=hold)
    expected = torch.tensor(account(o, d, valid, cost), dtype=torch.float64)
    assert len(expected) == 9
    assert_close(net_returns(o, d, valid, cost), expected)


def test_by_hand() -> None:
    """Half in each of two stocks; one doubles, so that a sixth of the money is traded to be even again."""
    o = torch.tensor([[0.3, 0.3], [0.1, 0.1]], dtype=torch.float64)
    d = torch.tensor([[1.0, 0.0], [0.0, -0.5]], dtype=torch.float64)
    valid = torch.ones(2, 2, dtype=torch.bool)
    first, second = 0.5, (1 - 0.1 * (1 / 6 + 1 / 6)) * 0.75 - 1
    assert_close(net_returns(o, d, valid, 0.1), torch.tensor([first, second], dtype=torch.float64))
    found = log_wealth(o, d, valid, cost=0.1)
    assert_close(found, -torch.tensor([math.log(1.5), math.log(1 + second)], dtype=torch.float64))
    mean, spread = (first + second) / 2, abs(first - second) / math.sqrt(2)
    expected = -mean / math.sqrt(spread**2 + 0.01**2)
    assert_close(sharpe(o, d, valid, cost=0.1, floor=0.01).tolist(), [expected] * 2)
    expected = -mean / math.sqrt(second**2 / 2 + 0.01**2)
    assert_close(sortino(o, d, valid, cost=0.1, floor=0.01).tolist(), [expected] * 2)


def test_losses_against_an_account() -> None:
    o, d, valid = block()
    r = torch.tensor(account(o, d, valid, 0.001), dtype=torch.float64)
    some = valid.any(dim=1)
    values = sharpe(o, d, valid), sortino(o, d, valid), log_wealth(o, d, valid)
    assert_close(values[0][some], (-r.mean() / (r.std() ** 2 + 1e-8).sqrt()).expand(9))
    downside = (r.clamp_max(0) ** 2).mean() + 1e-6
    assert_close(values[1][some], (-r.mean() / downside.sqrt()).expand(9))
    assert_close(values[2][some], -torch.log(1 + r))
    assert all((value[~some] == 0).all() for value in values)


def test_costs_are_of_what_is_traded() -> None:
    o, d, valid = torch.full((5, 4), 0.2), torch.zeros(5, 4), torch.ones(5, 4, dtype=torch.bool)
    assert (net_returns(o, d, valid, 0.01) == 0).all()  # the same positions in a market that stands still
    turned = o * torch.tensor([[1.0], [-1.0], [1.0], [1.0], [-1.0]])
    assert_close(net_returns(turned, d, valid, 0.01), -torch.tensor([0.0, 0.02, 0.02, 0.0, 0.02]))
    gone = valid.clone()
    gone[2, 0] = False  # sold on the day, its money in the other three, and bought back on the next
    assert_close(net_returns(o, d, gone, 0.01), -torch.tensor([0.0, 0.0, 0.005, 0.005, 0.0]))
    held = torch.cat([torch.zeros(5, 4), torch.ones(5, 1)], dim=1)
    assert (net_returns(held, d + 0.02, valid, 0.01) == 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
def test_degenerate_blocks(loss: Sharpe | Sortino | LogWealth) -> None:
    o, d, valid = block()
    for outputs, gains, mask in [
        (torch.zeros_like(o), d, valid),
        (o, torch.zeros_like(d), valid),
        (o, d, valid & (torch.arange(10) == 3)[:, None]),
        (o[:, [0, 6]], d[:, :1], valid[:, :1]),
        (o, d, torch.zeros_like(valid)),
        (o[:0], d[:0], valid[:0]),
    ]:
        outputs = outputs.clone().requires_grad_()
        value = loss(outputs, gains, mask)
        (gradient,) = torch.autograd.grad(value.sum(), outputs)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert value.shape == (len(gains),)
    assert (loss(torch.zeros_like(o), d, valid) == 0).all()
    if loss.kind != "log_wealth":
        assert (loss(o, d, valid & (torch.arange(10) == 3)[:, None]) == 0).all()  # one day has no spread


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
def test_ruin_is_finite(loss: Sharpe | Sortino | LogWealth) -> None:
    o = torch.tensor([[-0.9, 0.1], [-0.9, 0.1], [0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    d = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.1]], dtype=torch.float64)  # sold short, it rises by 300 %
    value = loss(o, d, torch.ones_like(d, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value.sum(), o)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert value[0] > 0
    if loss.kind == "log_wealth":  # the way out is downhill
        assert gradient[0, 0] < 0


def test_log_wealth_is_smooth_at_ruin() -> None:
    d = torch.tensor([[1 - RUIN + 1e-9], [1 - RUIN - 1e-9]], dtype=torch.float64)
    o, valid = -torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    below, above = (log_wealth(o, day[None], valid) for day in d)
    assert_close(below, above, atol=1e-6, rtol=0)
    assert_close((below - above).item(), 2e-9 / RUIN, rtol=1e-3, atol=0)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
def test_the_slope_is_that_of_finite_differences(loss: Sharpe | Sortino | LogWealth, hold: bool) -> None:
    o, d, valid = block(2, hold=hold)
    assert torch.autograd.gradcheck(lambda x: loss(x, d, valid), o.requires_grad_())


def test_bad_settings() -> None:
    o, d, valid = block()
    with pytest.raises(ValueError, match="expected a cost of 0"):
        log_wealth(o, d, valid, cost=1.5)
    for ratio in (sharpe, sortino):
        with pytest.raises(ValueError, match="expected a positive floor"):
            ratio(o, d, valid, floor=0.0)
