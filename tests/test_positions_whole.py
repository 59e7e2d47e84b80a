"""Positions through a whole run, against an account kept in plain loops by docs/backtesting.md."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimstocr.config import Config, make_config
from mimstocr.data import DataSettings, load_panel
from mimstocr.data.panel import symbols_of
from mimstocr.live import positions
from mimstocr.runs import RunFolder
from mimstocr.workflow import run, run_backtest

N_DAYS, N = 150, 8
DAYS: list[date] = np.busday_offset("2020-01-01", np.arange(N_DAYS), roll="forward").astype(object).tolist()
TEST = 105
"""Where the test starts."""
ENDED, QUIET, SCRAMBLED = 115, range(118, 122), 142
"""S5 has prices up to the first; S2 does not trade on the second; the third starts another future."""
MONEY = 1_000_000.0
Weights = dict[date, dict[str, float]]


def table(*, scrambled: bool = False) -> pl.DataFrame:
    """Daily moves that turn back by half of the day before, which a linear model finds."""
    rng = np.random.default_rng(4)
    moves, noise = np.zeros((N_DAYS, N)), rng.normal(0, 0.01, (N_DAYS, N))
    for day in range(1, N_DAYS):
        moves[day] = noise[day] - 0.5 * moves[day - 1]
    volume = rng.integers(1_000, 9_000, (N_DAYS, N)).astype(float)
    if scrambled:
        moves[SCRAMBLED:] = rng.normal(0, 0.04, moves[SCRAMBLED:].shape)
        volume[SCRAMBLED:] *= 7
    close = 20 * np.exp(np.cumsum(moves, axis=0))
    close[QUIET, 2], volume[QUIET, 2] = close[QUIET[0] - 1, 2], 0.0
    rows = [
        (DAYS[day], f"S{i}", *(close[day, i] * spread for spread in (1, 1.01, 0.99, 1)), volume[day, i])
        for day in range(N_DAYS)
        for i in range(N)
        if i != 5 or day <= ENDED
    ]
    return pl.DataFrame(rows, schema=["date", "symbol", "open", "high", "low", "close", "volume"], orient="row")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunFolder]:
    """The folder of a finished run; each is made once."""
    out = tmp_path_factory.mktemp("whole")
    found: dict[str, RunFolder] = {}

    def config(delay: int, scrambled: bool, portfolio: bool, first: str) -> Config:
        path = out / f"prices-{scrambled}.parquet"
        table(scrambled=scrambled).write_parquet(path)
        chosen = {"portfolio": {"day": DAYS[TEST - 1], "n": 7}} if portfolio else {}
        tasks = {
            "position": {"kind": "position", "delay": delay, "loss": {"kind": "log_wealth", "cost": 0}},
            "return": {"kind": "return", "delay": delay},
        }
        loop = {"order": "blocks", "days_per_step": 20, "learning_rate": 0.01, "max_epochs": 4, "device": "cpu"}
        alone = {"learn": ["position"], "monitor": "loss.position"} if first == "position" else {}
        return make_config(
            {
                "name": f"{delay}-{scrambled}-{portfolio}-{first}",
                "out": out,
                "data": {"source": f"parquet:{path}", **chosen},
                "splits": {
                    "train": [DAYS[0], DAYS[79]],
                    "valid": [DAYS[80], DAYS[TEST - 1]],
                    "test": [DAYS[TEST], DAYS[-1]],
                },
                "features": {"kind": "alpha360", "window": 4},
                "tasks": {name: tasks[name] for name in sorted(tasks, key=lambda name: name != first)},
                "backbone": {"kind": "dlinear", "kernel_size": 3},
                "balancer": "stl" if first == "position" else "ew",
                "training": {**loop, **alone},
                "evaluation": {"precision_at": [2], "ndcg_at": [3]},
                "backtest": {
                    "strategy": "positions",
                    "market": {"kind": "flat", "commission": 0.001, "short": True},
                    "capital": MONEY,
                },
            }
        )

    def make(delay: int, *, scrambled: bool = False, portfolio: bool = False, first: str = "position") -> RunFolder:
        asked = config(delay, scrambled, portfolio, first)
        if asked.name not in found:
            found[asked.name] = run(asked).folder
        return found[asked.name]

    return make


def said(folder: RunFolder) -> pl.DataFrame:
    return folder.read_frame("predictions.parquet").filter(pl.col("split") == "test")


def weights_of(folder: RunFolder) -> Weights:
    """What the predictions of the test say, by day and symbol."""
    found: Weights = {}
    for day, symbol, weight in said(folder).select("date", "symbol", "position").iter_rows():
        found.setdefault(day, {})[symbol] = weight
    return found


class Account:
    """Money and shares; weights are of the equity after costs, sells come before buys, cash stays at 0 or more."""

    def __init__(self, delay: int, cost: float, borrow: float, loss: float) -> None:
        self.delay, self.cost, self.borrow, self.loss = delay, cost, borrow, loss
        self.cash, self.shares = MONEY, {f"S{i}": 0.0 for i in range(N)}

    def live(self, prices: pl.DataFrame, weights: Weights) -> list[float]:
        """Its worth at each close of the test."""
        close = {(day, s): float(np.float32(c)) for day, s, c in prices.select("date", "symbol", "close").iter_rows()}
        volume = {(day, s): v for day, s, v in prices.select("date", "symbol", "volume").iter_rows()}
        last = {s: close[DAYS[TEST - 1], s] for s in self.shares}
        worth = []
        for at in range(TEST, N_DAYS):
            self.cash -= sum(max(-n, 0.0) * last[s] for s, n in self.shares.items()) * self.borrow / 252
            last = {s: close.get((DAYS[at], s), price) for s, price in last.items()}
            if at == ENDED + 20:  # S5 is settled
                self.cash += self.shares["S5"] * last["S5"] * (1 - self.loss)
                self.shares["S5"] = 0.0
            if at - self.delay >= TEST and DAYS[at - self.delay] in weights:
                open_for = [s for s in self.shares if volume.get((DAYS[at], s), 0) > 0]
                self.trade(weights[DAYS[at - self.delay]], last, open_for)
            worth.append(self.cash + sum(n * last[s] for s, n in self.shares.items()))
        return worth

    def trade(self, target: dict[str, float], price: dict[str, float], open_for: list[str]) -> None:
        equity = self.cash + sum(n * price[s] for s, n in self.shares.items())
        low, high = 0.0, equity
        for _ in range(100):  # the equity after costs
            after = (low + high) / 2
            spent = self.cost * sum(abs(x) for x in self.orders(after, target, price, open_for).values())
            low, high = (after, high) if after + spent < equity else (low, after)
        for s, value in self.orders(high, target, price, open_for).items():
            self.shares[s] += value / price[s]
            self.cash -= value + self.cost * abs(value)

    def orders(
        self, after: float, target: dict[str, float], price: dict[str, float], open_for: list[str]
    ) -> dict[str, float]:
        gaps = {s: target.get(s, 0.0) * after - self.shares[s] * price[s] for s in open_for}
        cash = self.cash + sum(-gap * (1 - self.cost) for gap in gaps.values() if gap < 0)
        needs = sum(gap * (1 + self.cost) for gap in gaps.values() if gap > 0)
        part = 1.0 if needs <= cash else max(cash, 0.0) / needs
        return {s: gap if gap < 0 else part * gap for s, gap in gaps.items()}


def lived(folder: RunFolder, delay: int, cost: float, borrow: float = 0.0, loss: float = 0.0) -> Any:
    return np.array(Account(delay, cost, borrow, loss).live(table(), weights_of(folder))) / MONEY


@pytest.mark.parametrize("delay", [0, 1])
def test_the_backtest_is_the_account_of_the_weights(made: Callable[..., RunFolder], delay: int) -> None:
    """With S2 suspended and S5 delisted in the midst of it, long or short as it comes."""
    folder = made(delay)
    backtest = folder.read_frame("backtest.parquet")
    for column, cost in (("gross", 0.0), ("net", 0.001)):
        worth = lived(folder, delay, cost)
        returns = worth[delay + 1 :] / worth[delay:-1] - 1
        returns[0] = worth[delay + 1] - 1  # the entry is paid before the first day that earns
        np.testing.assert_allclose(backtest[column].to_numpy(), returns, rtol=0, atol=1e-12)
    held = weights_of(folder)
    assert abs(held[DAYS[ENDED]]["S5"]) > 0.01
    assert abs(held[DAYS[QUIET[0] - 1]]["S2"]) > 0.01
    assert "S2" not in held[DAYS[QUIET[0]]]
    assert any(weight < 0 for weight in held[DAYS[TEST]].values())


def test_what_shorts_and_delistings_cost_is_what_the_market_says(made: Callable[..., RunFolder]) -> None:
    folder = made(1)
    for borrow, loss in ((0.5, 0.0), (0.0, 0.7), (2.0, 1.0)):
        asked = [f"market.borrow={borrow}", f"market.delisting_loss={loss}"]
        found = run_backtest(folder.path, overrides=asked)
        np.testing.assert_allclose(found.net.value / MONEY, lived(folder, 1, 0.001, borrow, loss), rtol=1e-12)
        np.testing.assert_allclose(found.gross.value / MONEY, lived(folder, 1, 0.0), rtol=1e-12)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_profit_of_the_metrics_compounds_what_the_weights_earn(made: Callable[..., RunFolder], split: str) -> None:
    folder = made(0)
    days: dict[date, float] = {}
    table = folder.read_frame("predictions.parquet").filter(pl.col("split") == split)
    for day, weight, gain in table.select("date", "position", "label.return").iter_rows():
        days[day] = days.get(day, 0.0) + (0.0 if gain is None else weight * gain)
    figures = folder.read_json("metrics.json")
    total = figures["seeds"]["0"]["tasks"]["position"][split]["total"]
    assert total == pytest.approx(np.prod([1 + profit for profit in days.values()]) - 1, abs=1e-9)
    if split == "test":  # nothing trades on other terms but the two stocks that cannot be traded
        assert total == pytest.approx(figures["backtest"]["gross"]["cumulative_return"], abs=0.01)
        assert total > 0.05


def test_weights_and_hold_are_the_whole_of_the_money(made: Callable[..., RunFolder]) -> None:
    by_day = said(made(0)).group_by("date").agg(pl.col("position").abs().sum(), pl.col("position.hold").first())
    np.testing.assert_allclose((by_day["position"] + by_day["position.hold"]).to_numpy(), 1, atol=1e-6)


def test_another_future_changes_no_prediction_before_it(made: Callable[..., RunFolder]) -> None:
    """Through choosing the portfolio, fitting the features, training and predicting."""
    before, after = (said(made(1, portfolio=True, scrambled=scrambled)) for scrambled in (False, True))
    columns = ["date", "symbol", "score", "position", "position.hold"]
    known = pl.col("date") < DAYS[SCRAMBLED]
    assert before.filter(known).select(columns).equals(after.filter(known).select(columns))
    assert not before.filter(~known)["position"].equals(after.filter(~known)["position"])
    labels = [part.filter(pl.col("date") < DAYS[SCRAMBLED - 2])["label.position"] for part in (before, after)]
    assert labels[0].equals(labels[1])


def test_what_happens_after_the_choice_of_a_portfolio_has_no_say_in_it(tmp_path: Path) -> None:
    """Prices and volumes are other ones, and most stocks vanish on the next day."""
    prices, random = table(), np.random.default_rng(2)
    for day in DAYS[20:110:9]:
        later = pl.col("date") > day
        factor = pl.Series("factor", random.integers(1, 6, len(prices)))
        other = prices.with_columns(
            pl.when(later).then(pl.col(name) * factor).otherwise(pl.col(name)).alias(name)
            for name in ("open", "high", "low", "close", "volume")
        ).filter(~later | pl.col("symbol").is_in(["S0", "S7"]))
        chosen = []
        for name, some in (("as-was", prices), ("other", other)):
            some.write_parquet(tmp_path / f"{name}.parquet")
            source = f"parquet:{tmp_path / name}.parquet"
            chosen.append(symbols_of(load_panel(DataSettings(source=source, portfolio={"day": day, "n": 4}))))
        assert chosen[0] == chosen[1]


def test_weights_that_the_own_backtest_does_not_trade_are_told(made: Callable[..., RunFolder]) -> None:
    """The first task ranks the stocks, so that the strategy takes returns for weights."""
    (note,) = positions(made(1, first="return").path, day=DAYS[TEST + 2]).notes
    assert note.startswith("the run's own backtest trades the score, which is what task return says, not these weights")
    assert positions(made(1).path, day=DAYS[TEST + 2]).notes == []
