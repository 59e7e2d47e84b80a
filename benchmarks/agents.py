"""How many days a second an agent lives, and what of that the environment costs.

    python benchmarks/agents.py
    python benchmarks/agents.py --stocks 300 --window 20 --agents a2c ppo

Seconds are those of the processor, of one thread, so that other work on the machine does not count. The environment
takes random actions drawn beforehand; an agent's steps are those of its training, updates included.
Before anything is timed, the account is compared with the backtest engine's over the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from mimstocr.agents import AGENTS, EnvironmentSettings
from mimstocr.agents.environment import PortfolioEnv
from mimstocr.agents.training import AgentTrainer
from mimstocr.agents.world import Account, World, make_world
from mimstocr.backtest import BacktestSettings, simulate
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategy import following
from mimstocr.data.panel import make_panel, usable
from mimstocr.features.alpha360 import Alpha360
from mimstocr.training.interrupt import Stop
from mimstocr.training.machine import settle
from mimstocr.workflow import Quiet


def worlds(days: int, stocks: int, window: int) -> tuple[World, World]:
    """Random walks; one day in fifty is a suspension. The last fifth validates."""
    random = np.random.default_rng(0)
    suspended = random.random((days, stocks)) < 0.02
    moves = np.where(suspended, 0.0, random.normal(scale=0.02, size=suspended.shape))
    close = 10 * np.exp(moves.cumsum(axis=0))
    fields = {name: close * (1 + random.normal(scale=0.005, size=close.shape)) for name in ("open", "vwap")}
    fields |= {"high": np.maximum(close, fields["open"]), "low": np.minimum(close, fields["open"]), "close": close}
    panel = make_panel(
        {**fields, "volume": np.where(suspended, 0.0, random.uniform(1e5, 1e6, close.shape))},
        np.datetime64("2010-01-01") + np.arange(days),
        [f"S{i:04}" for i in range(stocks)],
        source="synthetic",
    )
    cut = days * 4 // 5
    fitted = Alpha360(window=60).fit(panel, usable(panel) & (np.arange(days) < cut)[:, None])
    trading = BacktestSettings(market=Flat(short=True), delay=1, capital=1.0)
    settings = EnvironmentSettings(window=window)
    first, last = (make_world(panel, fitted, span, trading, settings) for span in (slice(0, cut), slice(cut, days)))
    return first, last


def lived(world: World, steps: int) -> float:
    """Steps a second of the environment alone."""
    env = PortfolioEnv(world)
    actions = np.random.default_rng(1).uniform(-1, 1, (1000, len(world.symbols) + 1)).astype(np.float32)
    env.reset(seed=0)
    started = time.process_time()
    for number in range(steps):
        _, _, terminated, truncated, _ = env.step(actions[number % 1000])
        if terminated or truncated:
            env.reset()
    return steps / (time.process_time() - started)


def difference(world: World) -> float:
    """The largest relative difference of an account of random actions from the engine's over the same weights."""
    random, account = np.random.default_rng(2), Account(world)
    weights, values = [], []
    for _ in world.days:
        weights.append(account.positions(random.uniform(-1, 1, len(world.symbols) + 1)))
        account.follow(weights[-1])
        values.append(account.value)
    engine = simulate(world.terms, following(np.array(weights)), delay=world.delay, capital=world.capital)
    found = np.array(values[: len(values) - world.delay])
    return float(np.abs(found / engine.value[world.delay :] - 1.0).max())


def trained(kind: str, train: World, valid: World, steps: int) -> float:
    """Steps a second of a training, updates and evaluations included."""
    agent = AGENTS.get(kind)(total_steps=steps, eval_steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        at = AgentTrainer(agent, train, valid, seed=0, folder=Path(folder))
        started = time.process_time()
        at.fit(Quiet(), Stop())
        return at.model.num_timesteps / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=2520)
    parser.add_argument("--stocks", type=int, default=50)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--agents", nargs="*", default=AGENTS.names())
    args = parser.parse_args()
    settle(1)
    started = time.process_time()
    train, valid = worlds(args.days, args.stocks, args.window)
    made = time.process_time() - started
    size = PortfolioEnv(train).observation_space.shape
    print(
        f"{args.days} days x {args.stocks} stocks, observations of {size}; panel, features and worlds in {made:.1f} s"
    )
    print(f"account beside the engine's: largest relative difference {difference(train):.1e}")
    speeds = [lived(train, args.steps) for _ in range(args.repeats)]
    print(f"environment   {statistics.median(speeds):9,.0f} steps/s, median of {args.repeats} x {args.steps:,}")
    for kind in args.agents:
        # two roll-outs of PPO; the others learn at every few steps
        steps = 4096 if kind == "ppo" else 1000
        print(f"{kind:<13} {trained(kind, train, valid, steps):9,.0f} steps/s in training, {steps:,} steps")


if __name__ == "__main__":
    main()
