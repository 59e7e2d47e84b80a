"""The environment against the checkers of both libraries, and its rewards by hand."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra rl (stable-baselines3, gymnasium)")
pytest.importorskip("stable_baselines3", reason="needs the extra rl (stable-baselines3, gymnasium)")

from gymnasium.utils import env_checker
from stable_baselines3.common import env_checker as other_checker

from mimstocr.agents.environment import PortfolioEnv
from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.agents.world import RUIN, World
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.errors import ConfigError, TrainingError


def world(close, commission=0.0, features=3, hold=True, **settings) -> World:
    close = np.array(close, dtype=float)
    rows = np.ones(close.shape, dtype=bool)
    return World(
        days=np.datetime64("2020-01-01") + np.arange(len(close)),
        symbols=[f"S{i}" for i in range(close.shape[1])],
        features=np.random.default_rng(0).uniform(-2, 2, (len(close), features)).astype(np.float32),
        rows=rows,
        terms=terms_of(Flat(short=True, commission=commission), close=close, tradable=rows),
        delay=1,
        capital=1.0,
        days_per_year=252,
        settings=EnvironmentSettings(**settings),
        cut=0,
        hold=hold,
    )


def walk(days=30, stocks=3):
    return 10 * np.exp(np.random.default_rng(0).normal(0, 0.03, (days, stocks)).cumsum(axis=0))


@pytest.mark.parametrize("settings", [{}, {"hold": False, "reward": "simple", "clip": 2.0}])
@pytest.mark.parametrize("episode", [None, 5])
def test_both_checkers(settings, episode):
    env = PortfolioEnv(world(walk(), 0.001, **settings), episode)
    env_checker.check_env(env, skip_render_check=True)  # it draws nothing
    other_checker.check_env(env)


@pytest.mark.parametrize(
    ("reward", "scale", "expected"), [("log", 1.0, np.log(1.25)), ("simple", 1.0, 0.25), ("simple", 100.0, 25.0)]
)
def test_rewards_by_hand(reward, scale, expected):
    """A goes up by a half from day 1 to day 2; a half of the money is in it."""
    env = PortfolioEnv(world([[10, 10], [10, 10], [15, 10], [15, 10]], reward=reward, reward_scale=scale))
    env.reset()
    _, paid, terminated, truncated, info = env.step(np.array([0.5, 0.0, 0.5], dtype=np.float32))
    assert paid == pytest.approx(expected)
    assert info == {"return": pytest.approx(0.25), "turnover": pytest.approx(0.25)}
    assert not terminated
    assert not truncated
    _, paid, terminated, truncated, _ = env.step(np.zeros(3, dtype=np.float32))
    assert paid == 0
    assert (terminated, truncated) == (False, True)  # the days end, the market goes on


def test_everything_lost_is_terminated():
    env = PortfolioEnv(world([[10], [10], [30], [30]], reward="log", reward_scale=1.0))
    env.reset()
    _, paid, terminated, truncated, _ = env.step(np.array([-1.0, 0.0], dtype=np.float32))
    assert paid == pytest.approx(np.log1p(RUIN))
    assert (terminated, truncated) == (True, False)


def test_episodes_start_where_the_seed_says():
    env = PortfolioEnv(world(walk(days=30)), episode=5)
    starts = []
    env.reset(seed=3)
    for _ in range(300):
        env.reset()
        starts.append(env.account.at)
        assert env.end == env.account.at + 5
    assert set(starts) == set(range(24))  # the last one decides on days 23 to 27, of 28 decisions
    env.reset(seed=3)
    again = []
    for _ in range(300):
        env.reset()
        again.append(env.account.at)
    assert again == starts
    env.reset(seed=4)
    taken = [env.step(env.action_space.sample())[3] for _ in range(5)]
    assert taken == [False] * 4 + [True]


def test_an_episode_longer_than_the_world():
    with pytest.raises(ConfigError, match="at most the 28 decisions from 2020-01-01 to 2020-01-30, got 29"):
        PortfolioEnv(world(walk(days=30)), episode=29)


def test_an_action_that_is_no_number():
    env = PortfolioEnv(world(walk()))
    env.reset()
    with pytest.raises(TrainingError, match="not finite"):
        env.step(np.full(4, np.nan, dtype=np.float32))


def test_a_state_goes_on():
    env, other = (PortfolioEnv(world(walk(), 0.001), episode=9) for _ in range(2))
    actions = np.random.default_rng(1).uniform(-1, 1, (40, 4)).astype(np.float32)
    env.reset(seed=1)
    for action in actions[:5]:
        env.step(action)
    other.restore(env.state())

    def live(each):
        rows = []
        for action in actions[5:]:
            seen, paid, _, truncated, _ = each.step(action)
            rows.append([*seen, paid])
            if truncated:
                rows.append([*each.reset()[0], 0.0])
        return np.array(rows)

    np.testing.assert_array_equal(live(env), live(other))


@pytest.mark.parametrize(
    ("module", "package"), [("environment", "gymnasium"), ("training", "gymnasium"), ("training", "stable_baselines3")]
)
def test_without_the_extra(monkeypatch, module, package):
    for name in [name for name in sys.modules if name.startswith(f"{package}.") or name == package]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("environment", "training", "checkpoint"):
        monkeypatch.delitem(sys.modules, f"mimstocr.agents.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"of which {package} is not installed; pip install 'mimstocr\[rl\]'"):
        importlib.import_module(f"mimstocr.agents.{module}")
