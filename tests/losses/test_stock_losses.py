"""The four losses of the profit-guided paper: values by hand, what is wrong with the published forms, and the cures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES
from mimstocr.losses._positions import PositionLoss, StockLoss, signed_shares
from mimstocr.losses.stock_loss import StockLossProfit, stock_loss
from mimstocr.losses.stock_loss_l2 import StockLossL2, stock_loss_l2
from mimstocr.losses.stock_loss_max import StockLossMax, stock_loss_max
from mimstocr.losses.stock_loss_norm import StockLossNorm, stock_loss_norm

VALID = torch.tensor([[True, True, True]])
PUBLISHED: list[StockLoss] = [StockLossProfit(), StockLossMax(), StockLossL2(), StockLossNorm()]
MENDED: list[StockLoss] = [
    StockLossProfit(hold_reward=0.0001),
    StockLossMax(hold_reward=0.002),
    StockLossL2(form="signed", hold_reward=0.0),
    StockLossNorm(form="safe"),
]


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def slope(loss: StockLoss, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of one day whose stocks are all valid."""
    o = o.clone().requires_grad_()
    value = loss(o, d, torch.ones_like(d, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value.sum(), o)
    return value.detach(), gradient


# ---- values by hand --------------------------------------------------------------------------------------------------

# o = 0.2, -0.3, 0.1 without Hold: v = 2/6, 3/6, 1/6. With Hold -0.4: v = 0.2, 0.3, 0.1 and v_h = 0.4.
ALONE, HELD = row(0.2, -0.3, 0.1), row(0.2, -0.3, 0.1, -0.4)
D = row(0.01, -0.02, -0.04)
T = [math.tanh(5 * x) for x in (0.2, -0.3, 0.1)]


@pytest.mark.parametrize(
    ("loss", "o", "expected"),
    [
        (StockLossProfit(sign="hard"), ALONE, -(2 / 6 * 0.01 + 3 / 6 * 0.02 - 1 / 6 * 0.04)),
        (StockLossProfit(sign="hard"), HELD, -(0.2 * 0.01 + 0.3 * 0.02 - 0.1 * 0.04 + 0.4)),
        (StockLossProfit(sign="hard", hold_reward=0.002), HELD, -(0.2 * 0.01 + 0.3 * 0.02 - 0.1 * 0.04 + 0.0008)),
        (StockLossProfit(), ALONE, -(2 / 6 * T[0] * 0.01 - 3 / 6 * T[1] * 0.02 - 1 / 6 * T[2] * 0.04)),
        (StockLossProfit(gamma=2.0), row(0.5, -0.5, 0.0), -(0.5 * math.tanh(1) * 0.01 + 0.5 * math.tanh(1) * 0.02)),
        (StockLossMax(sign="hard"), ALONE, 1 - (2 / 6 * 0.25 + 3 / 6 * 0.5 - 1 / 6)),
        (StockLossMax(sign="hard"), HELD, 1 - (0.2 * 0.25 + 0.3 * 0.5 - 0.1 + 0.4)),
        (StockLossMax(hold_reward=0.5), HELD, 1 - (0.2 * T[0] * 0.25 - 0.3 * T[1] * 0.5 - 0.1 * T[2] + 0.2)),
        (StockLossL2(sign="hard"), ALONE, 1 - math.sqrt(2 / 6 / 16 + 3 / 6 / 4 + 1 / 6)),
        (StockLossL2(sign="hard"), HELD, 1 - math.sqrt(0.2 / 16 + 0.3 / 4 + 0.1 + 0.4**2)),
        (
            StockLossL2(),
            HELD,
            1 - math.sqrt(0.2 * (T[0] / 4) ** 2 + 0.3 * (T[1] / 2) ** 2 + 0.1 * T[2] ** 2 + 0.4**2),
        ),
        (StockLossL2(sign="hard", form="signed"), ALONE, 1 + math.sqrt(1 / 6 - 2 / 6 / 16 - 3 / 6 / 4)),
        (StockLossL2(sign="hard", form="signed"), -ALONE, 1 - math.sqrt(1 / 6 - 2 / 6 / 16 - 3 / 6 / 4)),
        (
            StockLossL2(sign="hard", form="signed", hold_reward=0.5),
            -HELD,
            1 - math.sqrt(0.1 - 0.2 / 16 - 0.3 / 4) - 0.5 * 0.4**2,
        ),
        (StockLossNorm(sign="hard"), ALONE, -(0.002 + 0.006 - 0.004) / (0.002 - 0.006 - 0.004)),
        (
            StockLossNorm(),
            ALONE,
            -(0.002 * T[0] - 0.006 * T[1] - 0.004 * T[2]) / (0.002 - 0.006 - 0.004),
        ),
        (StockLossNorm(sign="hard", form="safe", eps=0.004), ALONE, -(0.002 + 0.006 - 0.004) / (0.012 + 0.004)),
        (StockLossNorm(sign="hard", form="safe"), HELD, -(0.002 + 0.006 - 0.004) / (0.012 + 1e-8)),
    ],
)
def test_by_hand(loss: StockLoss, o: Tensor, expected: float) -> None:
    assert_close(loss(o, D, VALID), row(expected)[0])


def test_the_functions_are_the_losses_as_published() -> None:
    assert torch.equal(stock_loss(HELD, D, VALID), StockLossProfit()(HELD, D, VALID))
    assert torch.equal(stock_loss_max(HELD, D, VALID), StockLossMax()(HELD, D, VALID))
    assert torch.equal(stock_loss_l2(HELD, D, VALID), StockLossL2()(HELD, D, VALID))
    assert torch.equal(stock_loss_norm(HELD, D, VALID), StockLossNorm()(HELD, D, VALID))


def test_perfect_foresight_and_its_opposite() -> None:
    o = row(0.0, 0.0, -0.9)  # all money against the stock that falls most
    for loss in (StockLossMax(sign="hard"), StockLossL2(sign="hard", form="signed")):
        assert_close(loss(o, D, VALID), row(0.0)[0])
        assert_close(loss(-o, D, VALID), row(2.0)[0])
    right, safe = row(0.3, -0.2, -0.9), StockLossNorm(sign="hard", form="safe")
    assert_close(safe(right, D, VALID), row(-1.0)[0], atol=1e-6, rtol=0)
    assert_close(safe(-right, D, VALID), row(1.0)[0], atol=1e-6, rtol=0)


def test_signed_shares_by_hand() -> None:
    valid = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    output = torch.tensor([[0.1, math.nan, -0.2, 0.1], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    weights, hold = signed_shares(output, valid)
    assert_close(weights, torch.tensor([[0.25, 0.0, -0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert_close(hold, torch.tensor([0.25, 0.0, 0.0]))
    weights, hold = signed_shares(output[:, :3], valid)
    assert_close(weights[0], torch.tensor([1 / 3, 0.0, -2 / 3]))
    assert torch.equal(hold, torch.zeros(3))


def test_a_stock_without_a_label_has_no_part_in_the_shares() -> None:
    some = torch.tensor([[True, True, False]])
    for loss in PUBLISHED + MENDED:
        assert_close(loss(HELD, D, some), loss(row(0.2, -0.3, -0.4), row(0.01, -0.02), VALID[:, :2]))


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("loss", PUBLISHED + MENDED, ids=repr)
def test_where_the_formula_is_not_defined_there_is_nothing(loss: StockLoss, hold: bool) -> None:
    """All gains zero, all outputs zero, one stock, none."""
    o = HELD if hold else ALONE
    value, gradient = slope(loss, torch.zeros_like(o), D)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(o))
    value, gradient = slope(loss, o, torch.zeros_like(D))
    if isinstance(loss, StockLossProfit):  # defined, and about Hold alone
        assert value.item() == pytest.approx(-0.4 * loss.hold_reward if hold else 0.0)
    else:
        assert value.item() == 0
    assert gradient.isfinite().all()
    one = slope(loss, row(0.3, 0.2) if hold else row(0.3), row(0.02))
    assert one[0].isfinite().all()
    assert one[1].isfinite().all()
    value, gradient = slope(loss, o[:, 3:], D[:, :0])
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(o[:, 3:]))


def test_a_root_of_nothing_has_no_slope() -> None:
    """The money is where nothing moves, so that what stands under the root is 0 while the day is not empty."""
    for form in ("published", "signed"):
        value, gradient = slope(StockLossL2(form=form), row(0.5, 0.0), row(0.0, 0.02))
        assert value.item() == 1
        assert torch.equal(gradient, row(0.0, 0.0))


def test_a_denominator_of_nothing_has_no_slope() -> None:
    value, gradient = slope(StockLossNorm(), row(0.5, 0.5), row(0.02, -0.02))
    assert value.item() == 0
    assert torch.equal(gradient, row(0.0, 0.0))


@pytest.mark.parametrize("bad", [{"gamma": 0.0}, {"gamma": -1.0}])
def test_bad_settings(bad: dict[str, float]) -> None:
    for function in (stock_loss, stock_loss_max, stock_loss_l2, stock_loss_norm):
        with pytest.raises(ValueError, match="expected a positive gamma"):
            function(ALONE, D, VALID, **bad)
    with pytest.raises(ValueError, match="form published or signed"):
        stock_loss_l2(ALONE, D, VALID, form="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="form published or safe"):
        stock_loss_norm(ALONE, D, VALID, form="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a positive eps"):
        stock_loss_norm(ALONE, D, VALID, eps=0.0)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("sign", ["smooth", "hard"])
@pytest.mark.parametrize("loss", PUBLISHED + MENDED, ids=repr)
def test_the_slope_is_that_of_finite_differences(loss: StockLoss, sign: str, hold: bool) -> None:
    """Away from the kinks at o = 0 and, signed, at u = 0."""
    random = torch.Generator().manual_seed(4)
    o = 0.1 + 0.9 * torch.rand(3, 5 + hold, generator=random, dtype=torch.float64)
    o = o * torch.randn(o.shape, generator=random, dtype=torch.float64).sign()
    d = 0.02 * torch.randn(3, 5, generator=random, dtype=torch.float64)
    valid = torch.tensor([[True] * 5, [True, False, True, True, False], [False] * 5])
    changed = loss.changed(sign=sign)
    assert torch.autograd.gradcheck(lambda x: changed(x, d, valid), o.requires_grad_())


# ---- the defects, and that the mended forms have none of them -------------------------------------------------------


def days(seed: int, n: int = 20, stocks: int = 8) -> tuple[Tensor, Tensor]:
    """Outputs with Hold, and gains of real size: 2 % a day, one as large as 30 %."""
    random = torch.Generator().manual_seed(seed)
    d = 0.02 * torch.randn(n, stocks, generator=random, dtype=torch.float64)
    d[0, 0] = 0.3
    return (2 * torch.rand(n, stocks + 1, generator=random, dtype=torch.float64) - 1), d


@pytest.mark.parametrize("sign", ["smooth", "hard"])
@pytest.mark.parametrize("kind", ["stock_loss", "stock_loss_max"])
def test_as_published_every_day_says_more_cash_and_mended_the_gains_decide(kind: str, sign: str) -> None:
    """The slope in |o_h| is -(reward - profit) / sum |o|, and in |o_i| (hard) -(s_i d_i - profit) / sum |o|."""

    def more_cash(reward: float) -> Tensor:
        o, d = days(0)
        loss = LOSSES.get(kind)(sign=sign, hold_reward=reward)
        assert isinstance(loss, StockLoss)
        _, gradient = slope(loss, o, d)
        return gradient[:, -1] * o[:, -1].sign() < 0  # a larger |o_h| lowers the loss

    assert more_cash(1.0).all()
    mended = more_cash(0.0001 if kind == "stock_loss" else 0.002)
    assert mended.any()
    assert not mended.all()


@pytest.mark.parametrize("kind", ["stock_loss", "stock_loss_max"])
def test_as_published_it_ends_in_cash_though_a_stock_is_known_to_gain(kind: str) -> None:
    """Adam on one set of outputs for 200 days of noise of 2 %, in which the first stock gains 1 % a day besides."""
    _, d = days(5, n=200)
    d[:, 0] += 0.01
    valid = torch.ones_like(d, dtype=torch.bool)
    held = {}
    for reward in (1.0, 0.0001):
        x = torch.full((1, 9), 0.1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([x], lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            LOSSES.get(kind)(hold_reward=reward)(x.tanh().expand(200, -1), d, valid).mean().backward()
            optimizer.step()
        weights, hold = signed_shares(x.detach().tanh(), valid[:1])
        held[reward] = (hold.item(), weights[0, 0].item())
    assert held[1.0][0] > 0.95
    assert held[0.0001][0] < 0.05
    assert held[0.0001][1] > 0.9


@pytest.mark.parametrize("sign", ["smooth", "hard"])
def test_the_published_root_is_the_same_for_long_and_short_and_the_signed_one_is_not(sign: str) -> None:
    o, d = days(1)
    random = torch.Generator().manual_seed(2)
    flips = torch.randn(o.shape, generator=random).sign()
    valid = torch.ones_like(d, dtype=torch.bool)
    published = StockLossL2(sign=sign)
    assert_close(published(o, d, valid), published(-o, d, valid))
    assert_close(published(o, d, valid), published(o * flips, d, valid))  # whatever side each stock is on
    signed = StockLossL2(sign=sign, form="signed", hold_reward=0.0)
    assert_close(signed(o, d, valid) - 1, -(signed(-o, d, valid) - 1))
    assert not torch.isclose(signed(o, d, valid), signed(-o, d, valid)).any()
    better = o.abs() * torch.cat([d.sign(), torch.ones(len(d), 1)], dim=1)
    assert (signed(better, d, valid) < signed(-better, d, valid)).all()


def test_the_published_norm_rewards_losses_on_a_day_of_falls_and_the_safe_one_does_not() -> None:
    d = row(-0.01, -0.02, -0.03)
    long, short = row(0.5, 0.5, 0.5), row(-0.5, -0.5, -0.5)
    published, safe = StockLossNorm(sign="hard"), StockLossNorm(sign="hard", form="safe")
    assert published(long, d, VALID).item() == pytest.approx(-1)  # the best that there is, for losing
    assert published(short, d, VALID).item() == pytest.approx(1)
    assert safe(long, d, VALID).item() == pytest.approx(1, abs=1e-5)
    assert safe(short, d, VALID).item() == pytest.approx(-1, abs=1e-5)
    # where a step goes: published, further into the positions that lose
    assert (slope(StockLossNorm(), 0.1 * long, d)[1] < 0).any()
    assert (slope(StockLossNorm(form="safe"), 0.1 * long, d)[1] > 0).all()


def test_the_published_norm_has_no_bound_and_the_safe_one_has() -> None:
    d = row(0.01, -0.01, 0.0)
    nearly = row(0.5, -0.5 + 1e-6, 0.1)
    assert StockLossNorm(sign="hard")(nearly, d, VALID).abs().item() > 1e5
    assert slope(StockLossNorm(), nearly, d)[1].abs().max().item() > 1e5
    value, gradient = slope(StockLossNorm(form="safe"), nearly, d)
    assert value.abs().item() <= 1
    assert gradient.abs().max().item() < 10
    o, moves = days(3, n=200)
    assert (StockLossNorm(form="safe")(o, moves, torch.ones_like(moves, dtype=torch.bool)).abs() <= 1).all()


def test_where_the_norm_has_hold_it_is_not_trained() -> None:
    for loss in (StockLossNorm(), StockLossNorm(form="safe")):
        _, gradient = slope(loss, HELD, D)
        assert gradient[0, 3] == 0
        assert (gradient[0, :3] != 0).all()


# ---- what a reader is told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "hold", "words"),
    [
        (StockLossProfit(), True, ["the money ends in cash"]),
        (StockLossProfit(), False, []),
        (StockLossProfit(hold_reward=0.0001), True, []),
        (StockLossMax(), True, ["the money ends in cash"]),
        (StockLossMax(hold_reward=0.0), True, []),
        (StockLossL2(), True, ["the money ends in cash", "what side they are on is chance"]),
        (StockLossL2(), False, ["what side they are on is chance"]),
        (StockLossL2(form="signed", hold_reward=0.0), True, []),
        (StockLossNorm(), True, ["no part for Hold", "rewards losses"]),
        (StockLossNorm(form="safe"), False, []),
        *((LOSSES.get(name)(), True, []) for name in ("sharpe", "sortino", "log_wealth")),
    ],
)
def test_cautions(loss: Any, hold: bool, words: list[str]) -> None:
    assert isinstance(loss, PositionLoss)
    told = loss.cautions(hold)
    assert len(told) == len(words)
    for caution, part in zip(told, words, strict=True):
        assert part in caution
