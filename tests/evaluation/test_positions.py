"""What positions earned, by hand and against a slow loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mimstocr.errors import DataError
from mimstocr.evaluation import position_metrics

NAN = np.nan


def test_by_hand() -> None:
    weights = np.array([[0.5, -0.25, NAN], [0.0, -1.0, 0.0], [0.2, NAN, 0.3], [0.4, 0.6, NAN]])
    returns = np.array([[0.1, 0.2, 0.5], [0.3, 0.0, 0.1], [NAN, 0.1, -0.1], [NAN, NAN, 0.1]])
    found = position_metrics(weights, returns)
    profits = [0.5 * 0.1 - 0.25 * 0.2, 0.0, -0.3 * 0.1]  # nothing is known of the last day
    assert found == pytest.approx(
        {
            "profit": np.mean(profits),
            "profit_std": np.std(profits, ddof=1),
            "total": (1 + profits[0]) * (1 + profits[2]) - 1,
            "hit_rate": 1 / 3,  # right; wrong; wrong; where the return or the weight is 0 there is no side
            "size": (0.5 + 0.25 + 0.0 + 1.0 + 0.0 + 0.2 + 0.3) / 7,
            "net": (0.25 - 1.0 + 0.5) / 3,
            "cash": (0.25 + 0.0 + 0.5) / 3,
            "days": 3,
            "left_out": 1,
        }
    )


def test_against_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    weights, returns = random.normal(0, 0.03, (40, 12)), random.normal(0, 0.02, (40, 12))
    weights[random.random(weights.shape) < 0.1] = NAN
    returns[random.random(returns.shape) < 0.1] = NAN
    capital, profits, right, sided = 1.0, [], 0, 0
    for day in range(40):
        profit = 0.0
        for w, r in zip(weights[day], returns[day], strict=True):
            if not math.isnan(w * r):
                profit += w * r
                sided += 1
                right += w * r > 0
        profits.append(profit)
        capital += capital * profit
    found = position_metrics(weights, returns)
    assert found["total"] == pytest.approx(capital - 1)
    assert found["profit"] == pytest.approx(np.mean(profits))
    assert found["hit_rate"] == pytest.approx(right / sided)
    assert position_metrics(weights, returns, horizon=5)["profit"] == found["profit"]
    assert math.isnan(position_metrics(weights, returns, horizon=5)["total"])


def test_all_in_cash_and_all_lost() -> None:
    returns = np.array([[0.5, 0.1], [-0.1, 2.0]])
    cash = position_metrics(np.zeros((2, 2)), returns)
    assert (cash["profit"], cash["total"], cash["cash"], cash["net"], cash["size"]) == (0, 0, 1, 0, 0)
    assert math.isnan(cash["hit_rate"])
    assert position_metrics(np.array([[1.0, 0.0], [0.0, -1.0]]), returns)["total"] == -1
    rounded = position_metrics(np.full((1, 3), np.float32(1 / 3) + 1e-7), np.zeros((1, 3)))
    assert rounded["cash"] == 0


def test_nothing_known() -> None:
    found = position_metrics(np.full((3, 2), 0.5), np.full((3, 2), NAN))
    assert found["days"] == 0
    assert all(math.isnan(found[key]) for key in ("profit", "profit_std", "total", "hit_rate", "size", "net", "cash"))


def test_bad_input() -> None:
    with pytest.raises(DataError, match="of one shape"):
        position_metrics(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"expected weights and returns \(days, stocks\)"):
        position_metrics(np.zeros(3), np.zeros(3))
    with pytest.raises(DataError, match="infinite"):
        position_metrics(np.full((1, 2), np.inf), np.zeros((1, 2)))
