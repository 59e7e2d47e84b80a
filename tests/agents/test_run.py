"""A run of an agent, from config to report."""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("stable_baselines3", reason="needs the extra rl (stable-baselines3, gymnasium)")

import mimstocr
from mimstocr.agents.run import AgentLearner
from mimstocr.cli.main import invoke
from mimstocr.config import load_config, make_config
from mimstocr.errors import ConfigError, RunError
from mimstocr.predictions import matrix_of
from mimstocr.training.prepare import prepare
from mimstocr.workflow import Quiet, identity_of, run

AGENT: dict[str, Any] = {"kind": "a2c", "total_steps": 40, "eval_steps": 20, "layers": [8]}
POSITION: dict[str, Any] = {"kind": "position", "delay": 1}
RETURN: dict[str, Any] = {"kind": "return", "delay": 1}
SETTINGS: dict[str, Any] = {
    "agent": AGENT,
    "tasks": {"position": POSITION, "return": RETURN},
    "balancer": "stl",
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
            "evaluation": {"precision_at": [2], "ndcg_at": [3]},
        }
    )
    return config, run(config)


def test_the_folder_is_that_of_any_run(done):
    config, result = done
    assert result.finished
    for name in ("metrics.json", "report.html", "backtest.parquet", "recommendations.csv", "history.jsonl"):
        assert (result.folder.path / name).is_file()
    assert [row["seed"] for row in result.folder.read_history()] == [0, 0, 1, 1]
    assert set(result.metrics["seeds"]) == {"0", "1"}
    assert result.folder.config() == config
    told = result.folder.read_json("environment.json")
    assert told["device"] == "cpu"
    assert {"stable-baselines3", "gymnasium", "torch", "started"} <= told.keys()
    page = (result.folder.path / "report.html").read_text()
    assert "The agent A2C learned what to hold (position), 2 seeds" in page
    assert "window 1, reward log" in page
    assert "Validation Sharpe ratio" in page
    for word in ("<dt>Backbone</dt>", "<dt>Balancer</dt>", "training.max_epochs."):
        assert word not in page


def test_the_predictions_are_the_weights(done):
    """Of each seed's best policy, in an account that starts on the first day of the split; in the cross-sections."""
    config, result = done
    prepared = prepare(config)
    table = result.folder.read_frame("predictions.parquet")
    learner = AgentLearner(config.agent)
    for seed in config.seeds:
        trainer = learner.trainings(prepared, result.folder)(seed)
        for name, world in (("valid", trainer.valid), ("test", learner._of(prepared).test)):
            mine = table.filter((table["seed"] == seed) & (table["split"] == name))
            _, _, scores = matrix_of(mine, "score")
            weights = trainer.run_best(world).weights.astype(np.float32)
            np.testing.assert_array_equal(scores, weights)
            np.testing.assert_array_equal(np.isnan(scores), ~prepared.rows[getattr(prepared.splits, name).days])
    assert (table["score"] == table["position"]).all()
    assert table["label.return"].null_count() < len(table)


def test_no_world_is_handed_a_later_day(done, monkeypatch):
    """What trains ends with the train split, what is validated with the validation split."""
    config, _ = done
    prepared = prepare(config)
    handed = []

    def spy(panel, fitted, days, trading, settings, *, hold):
        assert hold
        handed.append((panel.sizes["date"], days))

    monkeypatch.setattr("mimstocr.agents.run.make_world", spy)
    worlds = AgentLearner(config.agent)._of(prepared)
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
    result = run(config)
    prepared = prepare(config)
    learner = AgentLearner(config.agent)
    trainer = learner.trainings(prepared, result.folder)(3)
    earned = trainer.run_best(learner._of(prepared).test)
    net = result.folder.read_frame("backtest.parquet")
    # the last day's fill costs something, which no decision of the agent bears
    costs = net["costs"][-1] / config.backtest.capital
    total = float((1 + net["net"]).product()) + costs
    assert total == pytest.approx(np.prod(1 + earned.returns), rel=1e-6)


@pytest.mark.parametrize("hold", [True, False])
def test_hold_is_the_tasks(small, hold):
    """With Hold there is an action for cash, and what is held back is told; without, all money is in stocks."""
    result = run(small(**{**SETTINGS, "tasks": {"position": {**POSITION, "hold": hold}, "return": RETURN}}))
    table = result.folder.read_frame("predictions.parquet").drop_nulls("position")
    sizes = table.group_by("date").agg(pl.col("position").abs().sum().alias("total"))
    assert ("position.hold" in table.columns) == hold
    if hold:
        both = sizes.join(table.unique("date").select("date", "position.hold"), on="date")
        np.testing.assert_allclose(both["total"] + both["position.hold"], 1.0, atol=1e-5)
        assert (both["position.hold"] > 0).all()
    else:
        np.testing.assert_allclose(sizes["total"], 1.0, atol=1e-5)


def test_stopped_and_resumed(small, done):
    """The second seed is stopped; what is then finished is what was not stopped."""
    _, whole = done
    settings = {**SETTINGS, "seeds": [0, 1], "evaluation": {"precision_at": [2], "ndcg_at": [3]}}
    config = small(**settings)
    assert not run(config, watcher=StopAt(1)).finished
    before = (config.folder / "config.yaml").read_bytes()
    for changes, told in (
        ({"agent": {**AGENT, "gamma": 0.5}}, r"\(agent.gamma: then 0.99, now 0.5\)"),
        ({"agent": {**AGENT, "environment": {"window": 2}}}, r"\(agent.environment.window: then 1, now 2\)"),
        ({"agent": None}, "agent: then 'a2c', now None"),
        ({"backtest": {**SETTINGS["backtest"], "capital": 5.0}}, "backtest.capital: then 1000000.0, now 5.0"),
    ):
        with pytest.raises(RunError, match=f"was made with another config .*{told}"):
            run(small(**{**settings, **changes}), resume=True)
    assert (config.folder / "config.yaml").read_bytes() == before
    resumed = run(config, resume=True)
    assert resumed.finished
    a, b = (each.folder.read_frame("predictions.parquet") for each in (whole, resumed))
    assert a.equals(b)


def test_a_networks_folder_is_left_alone(small):
    network = {**SETTINGS, "agent": None, "training": {"max_epochs": 1, "device": "cpu"}}
    run(small(**network))
    with pytest.raises(RunError, match="agent: then None, now 'a2c'"):
        run(small(**{**network, "agent": AGENT}), resume=True)


def test_a_run_without_an_agent_is_what_it_was(small):
    """Its identity has no word of agents, and nothing of the backtest; that of an agent has what it lives in."""
    plain = identity_of(small(**{**SETTINGS, "agent": None}))
    assert not [key for key in plain if key.startswith(("agent", "backtest"))]
    mine = identity_of(small(**SETTINGS))
    assert mine.keys() > plain.keys()
    assert mine["agent.environment.window"] == 1
    assert {key.split(".")[1] for key in mine if key.startswith("backtest.")} == {"market", "delay", "capital"}


def test_the_notes_tell_of_what_was_cut(small):
    agent = {**AGENT, "environment": {"clip": 0.5}}
    notes = run(small(**{**SETTINGS, "agent": agent})).folder.read_json("data.json")["inspection"]["notes"]
    cut = [note for note in notes if note.endswith("were cut to it for the agent")]
    assert [note.partition(":")[0] for note in cut] == ["train split", "validation split", "test and after"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backtest": {"strategy": {"kind": "top_k", "k": 3}}}, "weights, but backtest.strategy is top_k, which ranks"),
        ({"backtest": {**SETTINGS["backtest"], "every": 5}}, "decides every day .* backtest.every is 5"),
        ({"tasks": {"return": RETURN}}, r"one task, of kind position, got return \(return\)"),
        (
            {"tasks": {"position": POSITION, "return": RETURN}, "balancer": "ew"},
            r"got position \(position\), return \(return\)",
        ),
        ({"tasks": {"position": {**POSITION, "delay": 2}, "return": {**RETURN, "delay": 2}}}, "0 or 1 days, got 2"),
        ({"agent": {**AGENT, "environment": {"episode": 1000}}}, r"agent\.environment\.episode"),
        ({"training": {"rolling": {"every": "month"}}}, "a network on through the test days, not an agent"),
    ],
)
def test_what_an_agent_cannot_serve(small, changes, said):
    config = small(**{**SETTINGS, **changes})
    with pytest.raises(ConfigError, match=said):
        run(config)
    assert not config.folder.exists()


def test_without_the_extra(small, monkeypatch):
    """The config loads; the run is refused, and nothing is written."""
    monkeypatch.delitem(sys.modules, "stable_baselines3")
    for name in [name for name in sys.modules if name.startswith("stable_baselines3.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("run", "training", "checkpoint"):
        monkeypatch.delitem(sys.modules, f"mimstocr.agents.{name}")
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    config = small(**SETTINGS)
    with pytest.raises(ConfigError, match=r"of which stable_baselines3 is not installed; pip install 'mimstocr\[rl\]'"):
        run(config)
    assert not config.folder.exists()


def test_the_commands(done, capsys):
    """`recommend` ranks by the weights of the same account; an agent is known to `list`."""
    config, result = done
    path = result.folder.path
    ranked = mimstocr.recommend(path)
    assert ranked["score"].to_list() == sorted(ranked["score"].to_list(), reverse=True)
    held = mimstocr.positions(path).table.filter(pl.col("symbol").is_not_null()).select("symbol", "weight")
    both = ranked.join(held, on="symbol")
    np.testing.assert_array_equal(both["score"], both["weight"])
    assert load_config(path).agent == config.agent
    for command in (["report", str(path)], ["evaluate", str(path)], ["backtest", str(path), "market.commission=0"]):
        assert invoke(command) == 0
    assert "profit a day" in capsys.readouterr().out
    assert invoke(["list", "agents"]) == 0
    assert "Proximal policy optimisation" in capsys.readouterr().out
