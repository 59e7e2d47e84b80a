"""The position task: labels of its three differences, and weights from outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from mimstocr.config import make_config
from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import ConfigError
from mimstocr.losses.stock_loss import StockLossProfit
from mimstocr.tasks.position import Position
from mimstocr.tasks.returns import Return

NAN = math.nan


def panel_of(close: Any, volume: Any = None) -> Panel:
    close = np.asarray(close, dtype=np.float64)
    volume = np.where(np.isnan(close), np.nan, 1000.0) if volume is None else volume
    dates = np.datetime64("2020-01-01") + np.arange(len(close))
    return make_panel({"close": close, "volume": volume}, dates, [f"S{i}" for i in range(close.shape[1])], source="t")


def walk(seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    close = np.exp(np.cumsum(random.normal(0, 0.03, (30, 5)), axis=0)) * [1, 10, 500, 3, 7]
    close[:8, 3] = NAN
    close[12, 4] = NAN
    return close


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_labels_by_hand(delay: int) -> None:
    close = [2.0, 3.0, 6.0, 9.0, 18.0]
    panel = panel_of([[10 * price] for price in close])
    returns = [NAN, 0.5, 1.0, 0.5, 1.0]
    expected: dict[str, list[float]] = {"gain": [], "return": [], "price": []}
    for t in range(5):
        a, b = t + delay, t + delay + 1
        known = b < 5
        expected["gain"].append(close[b] / close[a] - 1 if known else NAN)
        expected["price"].append((close[b] - close[a]) / 2 if known else NAN)  # over the first price
        expected["return"].append(returns[b] - returns[a] if known else NAN)
    for difference, values in expected.items():
        assert_allclose(Position(delay=delay, difference=difference).labels(panel)[:, 0], values, rtol=1e-6)


def test_the_gain_is_the_label_of_the_return_task() -> None:
    panel = panel_of(walk())
    for delay, horizon in ((0, 1), (1, 1), (1, 5)):
        mine = Position(delay=delay, horizon=horizon).labels(panel)
        assert_array_equal(mine, Return(delay=delay, horizon=horizon).labels(panel))


def test_longer_horizons_and_days_without_trade() -> None:
    close = walk()
    volume = np.where(np.isnan(close), NAN, 1000.0)
    volume[5, 0] = 0
    close[5, 0] = close[4, 0]
    panel = panel_of(close, volume)
    traded = np.where(volume > 0, close, NAN)
    first = [close[~np.isnan(close[:, i]), i][0] for i in range(5)]
    for t in range(30):
        for i in range(5):
            price = daily = NAN
            if t + 4 < 30:
                price = (traded[t + 4, i] - traded[t + 1, i]) / first[i]
                daily = traded[t + 4, i] / traded[t + 3, i] - traded[t + 1, i] / traded[t, i]
            assert_allclose(
                Position(delay=1, horizon=3, difference="price").labels(panel)[t, i], price, rtol=1e-4, atol=1e-6
            )
            assert_allclose(
                Position(delay=1, horizon=3, difference="return").labels(panel)[t, i], daily, rtol=1e-3, atol=1e-6
            )


@pytest.mark.parametrize("difference", ["gain", "return", "price"])
def test_the_future_and_the_scale_of_prices_are_of_no_matter(difference: str) -> None:
    task = Position(delay=1, difference=difference)
    close = walk()
    labels = task.labels(panel_of(close))
    later = close.copy()
    later[16:] = 3 * walk(1)[16:]
    after = task.labels(panel_of(later))
    assert_array_equal(after[:14], labels[:14])
    assert (after[14] != labels[14]).all()
    assert_allclose(task.labels(panel_of(close * [8, 8, 0.25, 2, 16])), labels, rtol=1e-6)
    assert_array_equal(task.labels(panel_of(close[:, :2])), labels[:, :2])


def test_expensive_stocks_do_not_outweigh_cheap_ones() -> None:
    """A stock that lists late is scaled by its own first price."""
    panel = panel_of([[10, 5000, NAN], [11, 5500, NAN], [12, 6000, 3], [13, 6500, 3.3]])
    labels = Position(delay=0, difference="price").labels(panel)
    assert_allclose(labels, [[0.1, 0.1, NAN], [0.1, 0.1, NAN], [0.1, 0.1, 0.1], [NAN] * 3], rtol=1e-5)


# ---- from outputs to weights -----------------------------------------------------------------------------------------


def test_outputs_become_weights_of_the_day() -> None:
    valid = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    output = torch.tensor([[0.3, -0.2, 0.9, -0.5], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    said = Position(delay=1).said(output, valid)
    expected = [[0.3, -0.2, 0.0, 0.5], [0.0] * 4, [0.0] * 4]
    torch.testing.assert_close(said, torch.tensor(expected))
    alone = Position(delay=1, hold=False)
    torch.testing.assert_close(alone.said(output[:, :3], valid)[0], torch.tensor([0.6, -0.4, 0.0]))
    assert Position(delay=1).holds
    assert not alone.holds
    weights = said[:, :3]
    assert torch.equal(Position(delay=1).score(weights), weights)
    assert_array_equal(Position(delay=1).natural(weights.numpy()), weights.numpy())
    assert not alone.in_units


def test_defaults_and_what_is_taken_from_the_main_task() -> None:
    task = Position()
    assert task.horizon == 1
    assert task.hold
    assert task.loss == StockLossProfit(hold_reward=0.0)
    assert task.follow(Return(delay=2, horizon=5)).span == (2, 1)
    assert Position(horizon=None).follow(Return(delay=1, horizon=5)).span == (1, 5)
    with pytest.raises(ConfigError, match="task position: no delay"):
        task.follow(task)


def test_losses_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="loss 'mse' learns a value, but task 'position' asks for a position"):
        Position(loss="mse")
    with pytest.raises(ValueError, match="loss 'stock_loss' learns a position, but task 'return' asks for a value"):
        Return(loss="stock_loss")
    for difference in ("return", "price"):
        with pytest.raises(ValueError, match="set difference: gain"):
            Position(loss="sharpe", difference=difference)
    with pytest.raises(ValueError, match="returns of 5 days overlap; set horizon: 1"):
        Position(loss="log_wealth", horizon=5)
    with pytest.raises(ConfigError, match="overlap"):
        Position(loss="sortino", horizon=None).follow(Return(delay=1, horizon=5))
    assert Position(loss="sortino", horizon=None).follow(Return(delay=1)).span == (1, 1)


def test_notes_are_those_of_the_loss() -> None:
    assert Position().notes() == []
    assert "the money ends in cash" in Position(loss="stock_loss").notes()[0]
    assert Position(loss="stock_loss", hold=False).notes() == []
    assert Return().notes() == []


def test_the_simplest_config() -> None:
    config = make_config(
        {
            "tasks": {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return", "delay": 1}},
            "balancer": "stl",
        }
    )
    assert list(config.learned()) == ["position"]
    assert config.priced()[0] == "return"
    assert config.reach == 2
    assert make_config(config.plain()) == config
