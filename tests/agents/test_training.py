"""Agents learn what is planted, alike for a seed, and go on where they were stopped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3", reason="needs the extra rl (stable-baselines3, gymnasium)")

from mimstocr.agents.base import AGENTS, Agent
from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.agents.training import AgentTrainer
from mimstocr.agents.world import World, follow
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.errors import RunError, TrainingError
from mimstocr.training.checkpoint import load_checkpoint
from mimstocr.training.interrupt import Stop
from mimstocr.workflow import Quiet

SMALL: dict[str, Any] = {"layers": (16, 16), "learning_rate": 3e-3}
OFF: dict[str, Any] = {**SMALL, "batch_size": 32, "gamma": 0.9, "learning_starts": 50}
LEARNS: dict[str, dict[str, Any]] = {
    "a2c": {**SMALL, "total_steps": 600, "eval_steps": 200},
    "ppo": {**SMALL, "total_steps": 512, "rollout": 64, "eval_steps": 128},
    "ddpg": {**OFF, "total_steps": 300, "eval_steps": 100},
    "td3": {**OFF, "total_steps": 300, "eval_steps": 100},
    "sac": {**OFF, "total_steps": 300, "eval_steps": 100},
}
SHORT: dict[str, dict[str, Any]] = {
    "a2c": {**SMALL, "total_steps": 60, "eval_steps": 25},
    "ppo": {**SMALL, "total_steps": 96, "rollout": 32, "batch_size": 16, "epochs": 2, "eval_steps": 40},
    "ddpg": {**OFF, "total_steps": 45, "eval_steps": 20, "batch_size": 8, "learning_starts": 10, "buffer_size": 25},
    "td3": {**OFF, "total_steps": 45, "eval_steps": 20, "batch_size": 8, "learning_starts": 10},
    "sac": {**OFF, "total_steps": 45, "eval_steps": 20, "batch_size": 8, "learning_starts": 10},
}


@cache
def world(first: int, last: int, episode: int | None = None) -> World:
    """Two stocks: the first gains about 1 % a day, the second loses as much. Features are noise."""
    random = np.random.default_rng(0)
    moves = np.array([0.01, -0.01]) + random.normal(0, 0.003, (120, 2))
    close, rows = 10 * np.exp(moves.cumsum(axis=0)), np.ones((120, 2), dtype=bool)
    return World(
        days=np.datetime64("2020-01-01") + np.arange(first, last),
        symbols=["A", "B"],
        features=random.normal(size=(120, 4)).astype(np.float32)[first:last],
        rows=rows[first:last],
        terms=terms_of(Flat(short=True), close=close, tradable=rows, window=slice(first, last)),
        delay=1,
        capital=1.0,
        days_per_year=252,
        settings=EnvironmentSettings(episode=episode),
        cut=0,
    )


TRAIN, VALID, TEST = (0, 60, 20), (60, 90), (90, 120)


def agent_of(kind: str, table: dict[str, dict[str, Any]] = SHORT, **changes: Any) -> Agent:
    return AGENTS.get(kind)(**{**table[kind], **changes})


def trainer(folder: Path, agent: Agent, seed: int = 0, **changes: Any) -> AgentTrainer:
    return AgentTrainer(agent, world(*TRAIN), world(*VALID), seed=seed, folder=folder, **changes)


def told(at: AgentTrainer) -> list[dict[str, Any]]:
    """The history without the times."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in at.at.history]


class StopAfter(Stop):
    """Is down for some looks, then up."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("kind", AGENTS.names())
def test_each_learns_what_is_planted(kind, tmp_path):
    """Long the stock that rises, short the one that falls; random actions earn nothing on the test days."""
    random = np.random.default_rng(0)
    luck = [np.prod(1 + follow(lambda _: random.uniform(-1, 1, 3), world(*TEST)).returns) - 1 for _ in range(30)]
    at = trainer(tmp_path, agent_of(kind, LEARNS))
    assert at.fit(Quiet(), Stop())
    done = at.run_best(world(*TEST))
    assert np.prod(1 + done.returns) - 1 > max(luck)
    mean = np.nanmean(done.weights, axis=0)
    assert mean[0] > 0.15
    assert mean[1] < -0.15


@pytest.mark.parametrize("kind", AGENTS.names())
def test_a_seed_says_everything(kind, tmp_path):
    first, second, other = (trainer(tmp_path / str(i), agent_of(kind), seed) for i, seed in enumerate((1, 1, 2)))
    for each in (first, second, other):
        assert each.fit(Quiet(), Stop())
    assert told(first) == told(second)
    weights = [each.run_best(world(*TEST)).weights for each in (first, second, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("kind", AGENTS.names())
def test_stopped_and_resumed_it_is_the_same(kind, stage, tmp_path):
    """Stopped before the first roll-out, after one, after two; off-policy amid random actions, amid learning."""
    looks = stage if kind in ("a2c", "ppo") else (0, 6, 34)[stage]
    whole = trainer(tmp_path / "whole", agent_of(kind))
    assert whole.fit(Quiet(), Stop())
    part = trainer(tmp_path / "part", agent_of(kind))
    assert not part.fit(Quiet(), StopAfter(looks))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  (what other work in the process does to the library's generators)
    resumed = trainer(tmp_path / "part", agent_of(kind))
    resumed.resume()
    assert resumed.model.num_timesteps == part.model.num_timesteps
    if kind in ("ddpg", "td3", "sac"):
        assert not resumed.fit(Quiet(), StopAfter(7))
        resumed = trainer(tmp_path / "part", agent_of(kind))
        resumed.resume()
    assert resumed.fit(Quiet(), Stop())
    assert told(resumed) == told(whole)
    for name in ("best", "last"):
        (a, _), (b, _) = (load_checkpoint(getattr(each, name), torch.device("cpu")) for each in (whole, resumed))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_is_finished_stays(tmp_path):
    first = trainer(tmp_path, agent_of("a2c"))
    first.fit(Quiet(), Stop())
    again = trainer(tmp_path, agent_of("a2c"))
    again.resume()
    assert again.fit(Quiet(), Stop())
    assert again.at.history == first.at.history


def test_the_history(tmp_path):
    """Judged after every 25 steps and at the end, by the deterministic policy in a fresh account."""
    at = trainer(tmp_path, agent_of("a2c"), task="position", figures=lambda weights: {"ic": float(len(weights))})
    rows: list[Any] = []

    class Seen(Quiet):
        def epoch(self, row):
            rows.append(row)

    at.fit(Seen(), Stop())
    assert [row["steps"] for row in at.at.history] == [25, 50, 60]
    assert rows == at.at.history
    last = rows[-1]
    done = follow(at.decide, world(*VALID))
    assert last["profit"] == pytest.approx(np.prod(1 + done.returns) - 1)
    assert last["sharpe"] == pytest.approx(done.returns.mean() / done.returns.std(ddof=1) * 252**0.5)
    assert last["valid"]["position"] == pytest.approx(-100 * np.log1p(done.returns).mean())
    assert last["turnover"] == pytest.approx(done.turnover.mean())
    assert last["ic"] == 30
    assert all(-5 < row["train"]["position"] < 5 for row in rows)
    best = max(rows, key=lambda row: row["sharpe"])
    assert [row for row in rows if row["best"]][-1] is best


def test_the_monitor_chooses(tmp_path):
    at = trainer(tmp_path, agent_of("a2c", LEARNS, monitor="profit"))
    at.fit(Quiet(), Stop())
    chosen = [row for row in at.at.history if row["best"]][-1]
    assert chosen["profit"] == max(row["profit"] for row in at.at.history)
    assert np.prod(1 + at.run_best(world(*VALID)).returns) - 1 == pytest.approx(chosen["profit"])


@pytest.mark.parametrize("kind", AGENTS.names())
def test_one_that_diverges(kind, tmp_path):
    at = trainer(tmp_path, agent_of(kind, learning_rate=1e30), seed=7)
    with pytest.raises(
        TrainingError, match=rf"agent {kind} came to numbers that are not finite at step \d+ \(seed 7\)"
    ):
        at.fit(Quiet(), Stop())


def test_a_checkpoint_of_another(tmp_path):
    trainer(tmp_path, agent_of("a2c")).fit(Quiet(), Stop())
    for other in (trainer(tmp_path, agent_of("a2c", gamma=0.5)), trainer(tmp_path, agent_of("ppo"))):
        with pytest.raises(RunError, match="belongs to another agent or other data"):
            other.resume()
        with pytest.raises(RunError, match="belongs to another agent or other data"):
            other.run_best(world(*TEST))
    with pytest.raises(RunError, match="no checkpoint"):
        trainer(tmp_path / "none", agent_of("a2c")).run_best(world(*TEST))
