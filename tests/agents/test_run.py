"""A run of an agent, from config to report."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("stable_baselines3", reason="needs the extra rl (stable-baselines3, gymnasium)")

from mimstocr.agents.base import AGENTS
from mimstocr.agents.run import AgentLearner, run_agent
from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.config import make_config
from mimstocr.errors import ConfigError, RunError
from mimstocr.predictions import matrix_of
from mimstocr.training.prepare import prepare
from mimstocr.workflow import Quiet, recommend, run

AGENT = AGENTS.get("a2c")(total_steps=40, eval_steps=20, layers=(8,))
SETTINGS: dict[str, Any] = {
    "tasks": {"return": {"kind": "return", "delay": 1}},
    "balancer": "ew",
    "backtest": {"strategy": "positions", "market": {"kind": "flat", "short": True}},
}


class StopAt(Quiet):
    """Asks for a stop, as Ctrl-C does, at the first evaluation of a seed."""

    def __init__(self, seed):
        self.seed = seed

    def epoch(self, row):
        if row["seed"] == self.seed and row["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def done(prices, tmp_path_factory):
    """A finished run of two seeds."""
    config = make_config(
        {
            **SETTINGS,
            "name": "agent",
            "out": str(tmp_path_factory.mktemp("runs")),
            "seeds": [0, 1],
            "data": {"source": f"parquet:{prices}"},
            "features": {"kind": "alpha360", "window": 8},
            "training": {"device": "cpu"},
            "evaluation": {"precision_at": [2], "ndcg_at": [3]},
        }
    )
    return config, run_agent(config, AGENT)


def test_the_folder_is_that_of_any_run(done):
    _, result = done
    assert result.finished
    for name in ("metrics.json", "report.html", "backtest.parquet", "recommendations.csv", "history.jsonl"):
        assert (result.folder.path / name).is_file()
    assert [row["seed"] for row in result.folder.read_history()] == [0, 0, 1, 1]
    assert set(result.metrics["seeds"]) == {"0", "1"}
    assert result.folder.read_json("agent.json")["agent"] == AGENT.model_dump(mode="json")


def test_the_predictions_are_the_weights(done):
    """Of each seed's best policy, in an account that starts on the first day of the split; in the cross-sections."""
    config, result = done
    prepared = prepare(config)
    table = result.folder.read_frame("predictions.parquet")
    learner = AgentLearner(AGENT, EnvironmentSettings())
    for seed in config.seeds:
        trainer = learner.trainings(prepared, result.folder)(seed)
        for name, world in (("valid", trainer.valid), ("test", learner._of(prepared).test)):
            mine = table.filter((table["seed"] == seed) & (table["split"] == name))
            _, _, scores = matrix_of(mine, "score")
            weights = trainer.run_best(world).weights.astype(np.float32)
            np.testing.assert_array_equal(scores, weights)
            np.testing.assert_array_equal(np.isnan(scores), ~prepared.rows[getattr(prepared.splits, name).days])
    assert (table["score"] == table["return"]).all()
    assert table["label.return"].null_count() < len(table)


def test_no_world_is_handed_a_later_day(done, monkeypatch):
    """What trains ends with the train split, what is validated with the validation split."""
    config, _ = done
    prepared = prepare(config)
    handed = []

    def spy(panel, fitted, days, trading, settings):
        handed.append((panel.sizes["date"], days))

    monkeypatch.setattr("mimstocr.agents.run.make_world", spy)
    worlds = AgentLearner(AGENT, EnvironmentSettings())._of(prepared)
    for name in ("train", "valid", "test"):
        getattr(worlds, name)
    splits = prepared.splits
    assert handed == [
        (splits.train.days.stop, splits.train.days),
        (splits.valid.days.stop, splits.valid.days),
        (len(prepared.days), slice(splits.test.days.start, len(prepared.days))),
    ]


def test_a_run_of_one_seed_backtests_to_its_own_account(small):
    config = small(**SETTINGS, seeds=[3])
    result = run_agent(config, AGENT)
    prepared = prepare(config)
    learner = AgentLearner(AGENT, EnvironmentSettings())
    trainer = learner.trainings(prepared, result.folder)(3)
    earned = trainer.run_best(learner._of(prepared).test)
    net = result.folder.read_frame("backtest.parquet")
    # the last day's fill costs something, which no decision of the agent bears
    costs = net["costs"][-1] / config.backtest.capital
    total = float((1 + net["net"]).product()) + costs
    assert total == pytest.approx(np.prod(1 + earned.returns), rel=1e-6)


def test_a_position_task_says_what_is_held_back(small):
    tasks = {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return", "delay": 1}}
    training = {"learn": ["position"], "device": "cpu"}
    result = run_agent(small(**{**SETTINGS, "tasks": tasks, "training": training}), AGENT)
    table = result.folder.read_frame("predictions.parquet").drop_nulls("position")
    sizes = table.group_by("date").agg(pl.col("position").abs().sum().alias("total"))
    both = sizes.join(table.unique("date").select("date", "position.hold"), on="date")
    np.testing.assert_allclose(both["total"] + both["position.hold"], 1.0, atol=1e-5)


def test_stopped_and_resumed(small, done):
    """The second seed is stopped; what is then finished is what was not stopped."""
    _, whole = done
    config = small(**SETTINGS, seeds=[0, 1], evaluation={"precision_at": [2], "ndcg_at": [3]})
    stopped = run_agent(config, AGENT, watcher=StopAt(1))
    assert not stopped.finished
    with pytest.raises(RunError, match=r"made by another agent \(gamma: then 0.99, now 0.5\)"):
        run_agent(config, AGENT.changed(gamma=0.5), resume=True)
    with pytest.raises(RunError, match=r"made by another agent \(window: then 1, now 2"):
        run_agent(config, AGENT, EnvironmentSettings(window=2), resume=True)
    with pytest.raises(RunError, match="was made by an agent"):
        run(config, resume=True)
    resumed = run_agent(config, AGENT, resume=True)
    assert resumed.finished
    a, b = (each.folder.read_frame("predictions.parquet") for each in (whole, resumed))
    assert a.equals(b)
    with pytest.raises(RunError, match="was made by an agent"):
        recommend(resumed.folder.path)


def test_a_networks_folder_is_left_alone(small):
    config = small(**SETTINGS, training={"max_epochs": 1, "device": "cpu"})
    run(config)
    with pytest.raises(RunError, match=r"was made by another agent \(a network"):
        run_agent(config, AGENT, resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backtest": {"strategy": {"kind": "top_k", "k": 3}}}, "weights, but backtest.strategy is top_k, which ranks"),
        ({"tasks": {"return": {"kind": "return", "delay": 1}, "up": {"kind": "direction"}}}, "one task.*return, up"),
        ({"tasks": {"return": {"kind": "return", "delay": 2}}}, "a delay of 0 or 1 days, got 2"),
    ],
)
def test_what_an_agent_cannot_serve(small, changes, said):
    config = small(**{**SETTINGS, **changes})
    with pytest.raises(ConfigError, match=said):
        run_agent(config, AGENT)
    assert not config.folder.exists()


def test_an_episode_too_long_is_refused_before_anything_is_written(small):
    config = small(**SETTINGS)
    with pytest.raises(ConfigError, match=r"environment\.episode"):
        run_agent(config, AGENT, EnvironmentSettings(episode=1000))
    assert not config.folder.exists()
