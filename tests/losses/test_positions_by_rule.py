"""The losses of positions against the rules of methods, section 7, written once more as plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mimstocr.losses.stock_loss import StockLossProfit
from mimstocr.losses.stock_loss_l2 import StockLossL2
from mimstocr.losses.stock_loss_max import StockLossMax
from mimstocr.losses.stock_loss_norm import StockLossNorm

Row = Sequence[float]
GAMMA = 5.0


def side(o: float, sign: str) -> float:
    if sign == "smooth":
        return math.tanh(GAMMA * o)
    return float(int(o > 0) - int(o < 0))


def shares(o: Row, hold: float) -> tuple[list[float], float]:
    total = sum(abs(x) for x in o) + abs(hold)
    return [abs(x) / total for x in o], abs(hold) / total


def loss_1(o: Row, hold: float, d: Row, sign: str, reward: float) -> float:
    v, cash = shares(o, hold)
    return -(sum(v[i] * side(o[i], sign) * d[i] for i in range(len(o))) + reward * cash)


def loss_2(o: Row, hold: float, d: Row, sign: str, reward: float) -> float:
    v, cash = shares(o, hold)
    most = max(abs(x) for x in d)
    return 1 - (sum(v[i] * side(o[i], sign) * d[i] / most for i in range(len(o))) + reward * cash)


def loss_3(o: Row, hold: float, d: Row, sign: str, reward: float, form: str) -> float:
    v, cash = shares(o, hold)
    most, u = max(abs(x) for x in d), 0.0
    for i in range(len(o)):
        q = side(o[i], sign) * d[i] / most
        u += v[i] * (q * q if form == "published" else math.copysign(q * q, q))
    if form == "published":
        return 1 - math.sqrt(u + reward * cash**2)
    return 1 - math.copysign(math.sqrt(abs(u)), u) - reward * cash**2


def loss_4(o: Row, d: Row, sign: str, form: str, eps: float) -> float:
    profit = sum(abs(o[i]) * side(o[i], sign) * d[i] for i in range(len(o)))
    below = sum(abs(o[i]) * d[i] for i in range(len(o)))
    if form == "safe":
        below = sum(abs(o[i]) * abs(d[i]) for i in range(len(o))) + eps
    return -profit / below if below != 0 else 0.0


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Outputs, differences, valid stocks, and whether the last output is Hold; every third world has something odd."""
    rng = np.random.default_rng(seed)
    n_days, n, hold = int(rng.integers(1, 6)), int(rng.integers(1, 6)), bool(rng.integers(2))
    o, d = np.tanh(rng.normal(size=(n_days, n + hold))), rng.normal(0, 0.03, (n_days, n))
    valid = rng.random((n_days, n)) < 0.8
    odd, day = seed % 15, int(rng.integers(n_days))
    if odd == 0:
        o[day] = 0  # says nothing
    elif odd == 3:
        o[:, :n] = 0  # says cash, or nothing
    elif odd == 6:
        d[day] = 0  # nothing moves
    elif odd == 9:
        valid[day] = False
    elif odd == 12:
        o[rng.random(o.shape) < 0.4] = 0
    return o, d, valid, hold


@pytest.mark.parametrize("sign", ["smooth", "hard"])
@pytest.mark.parametrize("reward", [0.0, 0.0001, 1.0])
def test_every_form_on_worlds_of_every_kind(sign: str, reward: float) -> None:
    how = {"sign": sign, "gamma": GAMMA}
    paid = {**how, "hold_reward": reward}
    losses = {
        "1": StockLossProfit(**paid),
        "2": StockLossMax(**paid),
        "3 published": StockLossL2(**paid),
        "3 signed": StockLossL2(**paid, form="signed"),
        "4 published": StockLossNorm(**how),
        "4 safe": StockLossNorm(**how, form="safe", eps=1e-6),
    }
    for seed in range(60):
        o, d, valid, hold = world(seed)
        n = valid.shape[1]
        hidden = np.where(valid, d, [np.nan, np.inf, 1000.0][seed % 3])
        said = o.copy()
        said[:, :n][~valid] = [np.nan, 7.0][seed % 2]
        output = torch.tensor(said, requires_grad=True)
        for name, loss in losses.items():
            found = loss(output, torch.tensor(hidden), torch.tensor(valid))
            (slope,) = torch.autograd.grad(found.sum(), output)
            assert torch.isfinite(slope).all(), (seed, name)
            assert not slope[:, :n][torch.tensor(~valid)].any(), (seed, name)
            for day in range(len(o)):
                own, moves = o[day, :n][valid[day]].tolist(), d[day][valid[day]].tolist()
                cash = float(o[day, n]) if hold else 0.0
                expected = by_rule(name, own, cash, moves, sign, reward)
                if expected is None:
                    expected = 0.0
                    assert not slope[day].any(), (seed, name)
                assert found[day].item() == pytest.approx(expected, rel=1e-10, abs=1e-12), (seed, name)


def by_rule(name: str, o: list[float], hold: float, d: list[float], sign: str, reward: float) -> float | None:
    """None: the formula is not defined."""
    form = name[2:]
    if not o or not (any(o) or hold) or (name[0] in "23" and not any(d)):
        return None
    if name[0] == "1":
        return loss_1(o, hold, d, sign, reward)
    if name[0] == "2":
        return loss_2(o, hold, d, sign, reward)
    if name[0] == "3":
        return loss_3(o, hold, d, sign, reward, form)
    return loss_4(o, d, sign, form, 1e-6)
