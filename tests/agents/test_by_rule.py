"""The environment against a slow account of its rules: plain numbers, one stock and one order at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra rl (stable-baselines3, gymnasium)")
pytest.importorskip("stable_baselines3", reason="needs the extra rl (stable-baselines3, gymnasium)")

import mimstocr
from mimstocr.agents.environment import PortfolioEnv
from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.agents.world import RUIN, make_world
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.config import Config
from mimstocr.data.panel import Panel, make_panel
from mimstocr.errors import ConfigError, RunError, TrainingError
from mimstocr.features.alpha360 import Alpha360

SETTLED_AFTER = 20
"""Days from the last price of a stock whose prices have ended to its settlement (docs/backtesting.md)."""


@dataclass
class Slow:
    """An account in a flat market, by docs/backtesting.md; prices are lists of lists, None where there is none."""

    close: list[list[float | None]]
    trades: list[list[bool]]
    decides: list[list[bool]]
    """Whether a stock is in the cross-section of a day."""
    delay: int
    hold: bool
    short: bool
    commission: float
    borrow: float = 0.0
    """A day, as financing."""
    financing: float = 0.0
    loss: float = 0.0
    money: float = 1.0
    shares: list[float] = field(default_factory=list)

    def known(self, day: int, stock: int) -> float:
        """The last close, 0 before the first."""
        for past in range(day, -1, -1):
            price = self.close[past][stock]
            if price is not None:
                return price
        return 0.0

    def settled_on(self, stock: int) -> int | None:
        last = max(day for day in range(len(self.close)) if self.close[day][stock] is not None)
        return last + SETTLED_AFTER if len(self.close) - 1 - last >= SETTLED_AFTER else None

    def worth(self, day: int) -> float:
        return self.money + sum(own * self.known(day, i) for i, own in enumerate(self.shares))

    def night(self, day: int) -> None:
        """Interest and fees, then what was delisted."""
        short = sum(-own * self.known(day - 1, i) for i, own in enumerate(self.shares) if own < 0)
        self.money -= short * self.borrow + max(-self.money, 0.0) * self.financing
        for i, own in enumerate(self.shares):
            if self.settled_on(i) == day:
                self.money += own * self.known(day, i) * (1 - self.loss)
                self.shares[i] = 0.0

    def weights(self, day: int, action: list[float]) -> list[float] | None:
        n = len(self.shares)
        if not any(self.decides[day]):
            return None
        wanted = [action[i] if self.decides[day][i] else 0.0 for i in range(n)]
        total = sum(abs(a) for a in wanted) + (abs(action[n]) if self.hold else 0.0)
        if total == 0:
            return [0.0] * n
        return [0.0 if a < 0 and not self.short else a / total for a in wanted]

    def orders(self, day: int, after: float, weights: list[float]) -> tuple[list[float], float]:
        """Money of each order if the account were worth `after`, and what they all cost; buys cut to the cash."""
        asked = [0.0] * len(weights)
        for i, weight in enumerate(weights):
            gone = self.settled_on(i)
            if self.trades[day][i] and (gone is None or day < gone):
                asked[i] = weight * after - self.shares[i] * self.known(day, i)
        sold, bought = -sum(min(a, 0.0) for a in asked), sum(max(a, 0.0) for a in asked)
        cash = self.money + sold * (1 - self.commission)
        part = 1.0 if bought == 0 else min(1.0, max(cash, 0.0) / (bought * (1 + self.commission)))
        done = [a if a < 0 else a * part for a in asked]
        return done, self.commission * sum(abs(a) for a in done)

    def fill(self, day: int, weights: list[float]) -> float:
        """Trade, and give the one-way turnover."""
        before = self.worth(day)
        low, high = 0.0, before
        for _ in range(60):
            after = (low + high) / 2
            if after + self.orders(day, after, weights)[1] < before:
                low = after
            else:
                high = after
        done, cost = self.orders(day, low, weights)
        self.money -= sum(done) + cost
        for i, value in enumerate(done):
            if value:
                self.shares[i] += value / self.known(day, i)
        return sum(abs(value) for value in done) / before / 2

    def live(self, actions: list[list[float]]) -> list[dict]:
        """A row for each decision: what is seen before it, its return, turnover and whether all is lost."""
        days, n = len(self.close), len(self.close[0])
        self.shares = [0.0] * n
        rows: list[dict] = []
        fills: list[tuple[float, float]] = []
        for day in range(days):
            if day > 0:
                self.night(day)
            equity = self.worth(day)
            if fills:
                earned = equity / fills[-1][0] - 1
                lost = equity <= 0 or fills[-1][1] <= 0
                rows[len(fills) - 1] |= {"return": RUIN if lost else max(earned, RUIN), "lost": lost}
                if lost:
                    return rows[: len(fills)]
            if self.delay == 0:
                decided = self.see(day, actions, rows)
            elif day > 0:
                decided = rows[day - 1]["weights"]
            if self.delay == 0 or day > 0:
                turnover = 0.0 if decided is None else self.fill(day, decided)
                rows[day - self.delay]["turnover"] = turnover
                fills.append((equity, self.worth(day)))
            if self.delay == 1:
                self.see(day, actions, rows)
        return rows[: len(fills) - 1]

    def see(self, day: int, actions: list[list[float]], rows: list[dict]) -> list[float] | None:
        value = self.worth(day)
        held = [own * self.known(day, i) / value for i, own in enumerate(self.shares)]
        rows.append({"seen": [*held, self.money / value], "weights": self.weights(day, actions[day])})
        return rows[-1]["weights"]


def panel_of(seed: int, days: int = 45, stocks: int = 4, move: float = 0.05):
    """Random prices; suspended with and without a price, out of the universe, delisted, a day without anybody."""
    random = np.random.default_rng(seed)
    close = 10 * np.exp(random.normal(0, move, (days, stocks)).cumsum(axis=0))
    volume = random.integers(1, 9, (days, stocks)) * 1000.0
    volume[random.random(close.shape) < 0.08] = 0.0
    close[random.random(close.shape) < 0.08] = np.nan
    if seed % 3:
        close[int(random.integers(8, 22)) :, 0] = np.nan
    if seed % 2:
        close[int(random.integers(1, 40))] = np.nan
    member = random.random((days, 1)) * np.ones(stocks) < 0.95
    member &= random.random(close.shape) < 0.95
    volume[np.isnan(close)] = np.nan
    dates = np.datetime64("2020-01-01") + np.arange(days)
    names = [f"S{i}" for i in range(stocks)]
    return make_panel({"close": close, "volume": volume}, dates, names, source="made", member=member)


MARKETS = {
    "short": {"short": True, "commission": 0.002},
    "free": {"short": True, "commission": 0.0},
    "dear": {"short": True, "commission": 0.03, "borrow": 0.5, "financing": 0.4, "delisting_loss": 0.7},
    "long": {"short": False, "commission": 0.001},
}


def slow_of(panel, trading: BacktestSettings, hold: bool) -> Slow:
    close = [[None if math.isnan(x) else float(x) for x in row] for row in panel["close"].values]
    trades, member = panel["tradable"].values.tolist(), panel["member"].values.tolist()
    both = [[a and b for a, b in zip(*rows, strict=True)] for rows in zip(trades, member, strict=True)]
    market = trading.market
    return Slow(
        **{"close": close, "trades": trades, "decides": both, "delay": trading.delay, "hold": hold},
        **{"short": market.short, "commission": market.commission, "loss": market.delisting_loss},
        **{"borrow": market.borrow / 252, "financing": market.financing / 252, "money": trading.capital},
    )


def compare(panel, market: Flat, delay: int, hold: bool, reward: str, seed: int) -> tuple[int, bool]:
    """Both accounts with the same random actions: what is seen, paid and told on every step."""
    trading = BacktestSettings(market=market, delay=delay, capital=1000.0)
    fitted = Alpha360(window=3).fit(panel, np.ones(panel["close"].shape, dtype=bool))
    days, n = panel["close"].shape
    settings = EnvironmentSettings(reward=reward, reward_scale=7.0)
    world = make_world(panel, fitted, slice(0, days), trading, settings, hold=hold)
    random = np.random.default_rng(seed)
    actions = random.uniform(-1, 1, (days, n + hold)).astype(np.float32)
    actions[random.random(days) < 0.05] = 0.0
    rows = slow_of(panel, trading, hold).live([[float(a) for a in row] for row in actions])
    env = PortfolioEnv(world)
    seen, _ = env.reset(seed=0)
    for at, row in enumerate(rows):
        np.testing.assert_allclose(seen[-n - 1 :], np.clip(row["seen"], -10, 10), rtol=1e-5, atol=1e-6, err_msg=at)
        seen, paid, terminated, truncated, info = env.step(actions[at])
        expected = math.log(1 + row["return"]) if reward == "log" else row["return"]
        assert paid == pytest.approx(7.0 * expected, rel=1e-5, abs=2e-6), at
        assert info["return"] == pytest.approx(row["return"], rel=1e-5, abs=2e-6), at
        assert info["turnover"] == pytest.approx(row["turnover"], rel=1e-5, abs=2e-6), at
        assert terminated == row["lost"], at
        assert truncated == (at == days - 2 - delay and not row["lost"]), at
    return len(rows), rows[-1]["lost"]


@pytest.mark.parametrize("name", MARKETS)
@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("hold", [True, False])
def test_every_step_against_the_slow_account(name: str, delay: int, hold: bool) -> None:
    for seed in range(3):
        steps, lost = compare(panel_of(seed), Flat(**MARKETS[name]), delay, hold, ("log", "simple")[seed % 2], seed)
        assert lost or steps == 45 - 1 - delay


@pytest.mark.parametrize("delay", [0, 1])
def test_ruin_against_the_slow_account(delay: int) -> None:
    """Prices that may treble in a day ruin who is short; both end on the same step, with the same rewards."""
    ends = [
        compare(panel_of(seed, move=0.8), Flat(short=True, commission=0.01), delay, False, "log", seed)
        for seed in range(6)
    ]
    assert any(lost for _, lost in ends)
    assert len({steps for steps, lost in ends if lost}) > 1


def later_changed(panel: Panel, day: int, seed: int) -> Panel:
    """Other prices after a day, other suspensions, another universe; a stock with prices after it still has some."""
    other = panel_of(seed + 100)
    rows = np.arange(panel.sizes["date"])[:, None] <= day
    close, volume, member = (
        np.where(rows, panel[name].values, other[name].values) for name in ("close", "volume", "member")
    )
    ended = np.isnan(panel["close"].values[day + 1 :]).all(axis=0)
    close[day + 1 :, ended], volume[day + 1 :, ended] = np.nan, np.nan
    close[-1, ~ended], volume[-1, ~ended] = 7.0, 1000.0
    names = list(panel["symbol"].values)
    return make_panel({"close": close, "volume": volume}, panel["date"].values, names, source="made", member=member)


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("day", [5, 14, 30])
def test_nothing_is_seen_or_paid_before_its_day(day: int, delay: int) -> None:
    """Observations up to a day, and the rewards of the days that are over by it, know nothing of what comes after."""
    for seed in range(4):
        panel = panel_of(seed)
        panel = later_changed(panel, panel.sizes["date"] - 2, seed)  # who is delisted is known from the prices alone
        lives: list[tuple[list[Any], list[float]]] = []
        for each in (panel, later_changed(panel, day, seed)):
            fitted = Alpha360(window=3).fit(panel, np.arange(45)[:, None] < np.full(4, 5))
            trading = BacktestSettings(market=Flat(**MARKETS["dear"]), delay=delay)
            env = PortfolioEnv(make_world(each, fitted, slice(2, 45), trading, EnvironmentSettings(window=2)))
            random = np.random.default_rng(seed)
            observed, rewards = [env.reset(seed=0)[0]], []
            for _ in range(2, day):
                seen, paid, *_ = env.step(random.uniform(-1, 1, 5).astype(np.float32))
                observed.append(seen)
                rewards.append(paid)
            lives.append((observed, rewards))
        (one, earned), (two, theirs) = lives
        np.testing.assert_array_equal(one, two)
        over = len(earned) - delay  # the decision of day t is paid by the close of day t + 1 + delay
        assert earned[:over] == theirs[:over]


Make = Callable[..., Config]
AGENT: dict[str, Any] = {"kind": "a2c", "total_steps": 20, "eval_steps": 20, "layers": [8]}
RUN: dict[str, Any] = {
    "tasks": {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return", "delay": 1}},
    "balancer": "stl",
    "backtest": {"strategy": "positions", "market": {"kind": "flat", "short": True}},
}


def test_the_days_and_rows_are_those_of_a_network(small: Make) -> None:
    """On the same config: the same days, stocks, splits, labels and columns, the same days of the backtest."""
    training = {"max_epochs": 1, "days_per_step": 32, "device": "cpu"}
    network = mimstocr.run(small(**RUN, name="network", training=training)).folder
    agent = mimstocr.run(small(**RUN, name="agent", training=training, agent=AGENT)).folder
    one, two = (folder.read_frame("predictions.parquet") for folder in (network, agent))
    assert one.columns == two.columns
    same = ["seed", "date", "symbol", "split", *(name for name in one.columns if name.startswith("label."))]
    assert one.select(same).equals(two.select(same))
    one, two = (folder.read_frame("backtest.parquet") for folder in (network, agent))
    assert one.select("date", "universe").equals(two.select("date", "universe"))
    one, two = (folder.read_json("data.json") for folder in (network, agent))
    assert (one["splits"], one["features"]) == (two["splits"], two["features"])


def test_an_agent_lives_in_a_market_without_short_sales(small: Make) -> None:
    """What it would sell short stays in cash, so that the backtest has nothing to refuse."""
    market = {"kind": "flat", "short": False}
    folder = mimstocr.run(small(**{**RUN, "backtest": {**RUN["backtest"], "market": market}}, agent=AGENT)).folder
    table = folder.read_frame("predictions.parquet").drop_nulls("position")
    assert table["position"].min() == 0.0
    assert table["position"].max() > 0.0


@pytest.mark.parametrize("changes", [{"learning_starts": 20}, {"learning_starts": 21, "train_every": 7}])
def test_an_agent_that_would_never_learn_is_refused(small: Make, changes: dict[str, Any]) -> None:
    config = small(**RUN, agent={**AGENT, "kind": "sac", **changes})
    with pytest.raises(
        ConfigError, match=r"agent\.learning_starts: expected fewer than the 2[01] steps that are lived"
    ):
        mimstocr.run(config)
    assert not config.folder.exists()


def test_a_diverged_run_says_so_again_and_gives_way(small: Make) -> None:
    """It is not finished by --resume, nor taken over by other settings; removed, its name is free."""
    wild = small(**RUN, agent={**AGENT, "learning_rate": 1e30})
    for resume in (False, True):
        with pytest.raises(TrainingError, match=r"not finite at step 5 .* in a run of another name"):
            mimstocr.run(wild, resume=resume)
        assert not list(wild.folder.rglob("*.partial"))
        assert not (wild.folder / "predictions.parquet").exists()
    tame = small(**RUN, agent=AGENT)
    with pytest.raises(RunError, match=r"agent\.learning_rate: then 1e\+30, now 0\.0007"):
        mimstocr.run(tame, resume=True)
    for path in sorted(wild.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert mimstocr.run(tame).finished
