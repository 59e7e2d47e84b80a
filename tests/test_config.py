"""Settings: what is unknown is an error that names the close match."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mimstocr.config import Config, describe, load_config, make_config, shipped_configs, write_yaml
from mimstocr.errors import ConfigError
from mimstocr.studies.study import config_hash


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_are_the_papers() -> None:
    config = Config().plain()
    assert config["tasks"]["momentum"]["s"] == 6
    assert config["tasks"]["momentum"]["l"] == 4
    assert config["balancer"] == {
        "kind": "cqb",
        "beta": 0.5,
        "decay": 1e-3,
        "window": 6,
        "log_loss": True,
        "adaptive_beta": True,
        "adaptive_decay": True,
        "indicator": "validation",
    }
    assert config["training"]["learning_rate"] == 2e-4


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_configs_load_and_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert config.name == name
    write_yaml(tmp_path / "config.yaml", config)
    assert make_config(yaml.safe_load((tmp_path / "config.yaml").read_text())) == config


def test_the_described_tree_is_the_default_config() -> None:
    text = describe(Config())
    assert make_config(yaml.safe_load(text)) == Config()
    assert "# Adam's step size (paper: 2e-4)." in text


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", "balancer: {kind: cqb, beta: 0.3}\nbackbone: gru\n")
    config = load_config(
        path,
        ["backbone.hidden_size=7", "balancer.window=2", "tasks.return.delay=1", "seeds=[1,2]", "data.universe="],
    )
    assert config.name == "mine"
    assert config.backbone.model_dump() == {"kind": "gru", "hidden_size": 7, "num_layers": 2, "dropout": 0.0}
    assert config.balancer.model_dump()["beta"] == 0.3
    assert config.balancer.model_dump()["window"] == 2
    assert config.priced()[1].delay == 1
    assert config.settled_tasks()["momentum"].reach == 2  # lead follows the return task
    assert config.seeds == (1, 2)
    assert load_config(path, ["balancer=ew"]).balancer.kind == "ew"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainning.max_epochs=3"], r"unknown setting 'trainning'; did you mean 'training'"),
        (["training.max_epoch=3"], r"training: unknown setting 'max_epoch'; did you mean 'max_epochs'"),
        (["backbone=lstn"], r"backbone: unknown backbone 'lstn'; did you mean 'lstm'"),
        (["backbone.hiden_size=3"], r"backbone: lstm: unknown setting 'hiden_size'; did you mean 'hidden_size'"),
        (["backbone.hidden_size=0"], r"hidden_size: .*greater than or equal to 1, got 0"),
        (["training.learning_rate=fast"], r"training\.learning_rate: .*number.*got 'fast'"),
        (["balancer=stl", "balancer.task=momentun"], r"no task 'momentun'; did you mean 'momentum'"),
        (["tasks.momentum.loss=mse"], r"loss 'mse' learns a value, but task 'momentum_line' asks for a level"),
        (["tasks={momentum: {kind: momentum_line, lead: 1}}"], r"expected a task of kind 'return'"),
        (
            ["tasks={m: {kind: momentum_line}, return: {kind: return}}"],
            r"as the main task it needs its own lead",
        ),
        (["tasks={date: {kind: return}}"], r"task name 'date'"),
        (["tasks={return: {kind: return}, rank: direction}"], r"task name 'rank'"),  # a column of the ranked list
        (["tasks={return: {kind: return}, reference: {kind: regime}, low: volatility}"], r"task name 'reference'"),
        (["tasks={return: {kind: return}, train: direction}"], r"task name 'train': torch has a use for it"),
        (["tasks.return.loss=bce"], r"loss 'bce' learns an event, but task 'return' asks for a value"),
        (["training.monitor=loss.momentun"], r"training\.monitor: unknown figure .*known: .*loss\.momentum"),
        (["balancer=stl", "training.monitor=loss.momentum"], r"unknown figure 'loss\.momentum'"),
        (["seeds=[1,1]"], r"each seed once"),
        (["seeds=[]"], r"seeds: .*at least 1"),
        (["name=../up"], r"name: .*pattern.*got '../up'"),
        (["data.days_per_year=0"], r"data\.days_per_year: .*greater than 0, got 0"),
        (["training.max_epochs.x=1"], r"training\.max_epochs is 3 and has no settings inside"),
        (
            ["backbone.hidden_size=8", "backbone=gru"],
            r"backbone after backbone\.hidden_size would undo it; put backbone first",
        ),
        (["justtext"], r"expected a setting as key\.sub=value, got 'justtext'"),
        (["splits.train=[2010-01-01, 2011-01-01]"], r"train given without valid, test"),
    ],
)
def test_mistakes_have_one_clear_message(overrides: list[str], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "name: c\ntraining: {max_epochs: 3}\nbackbone: lstm\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path, overrides)


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "training: {max_epochs: 0, patience: none}\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert len(str(error.value).splitlines()) == 2


def test_files_that_are_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config file .*csi30; .*did you mean 'csi300'"):
        load_config("csi30")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(write(tmp_path / "bad.yaml", "a: [1, 2"))
    with pytest.raises(ConfigError, match="expected settings as `key: value`, got a list"):
        load_config(write(tmp_path / "list.yaml", "- 1\n"))
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path)  # a folder that is no run


PORTFOLIO = {
    "tasks": {"position": {"kind": "position", "delay": 1, "loss": "sharpe"}, "return": {"kind": "return", "delay": 1}},
    "balancer": "stl",
}
BLOCKS = {"order": "blocks", "days_per_step": 20}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "set training.order to blocks and training.days_per_step to 2 or more .*, got shuffled and 1"),
        ({"training": {"order": "blocks"}}, "got blocks and 1"),
        ({"training": {"days_per_step": 20}}, "got shuffled and 20"),
        ({"training": BLOCKS | {"test_curve": 4}}, "set training.test_curve to 0, or to 1 for all days, got 4"),
        (
            {"training": BLOCKS, "data": {"assets": {"a": {"source": "parquet:a"}, "b": {"source": "parquet:b"}}}},
            "train on one class",
        ),
    ],
)
def test_a_loss_that_follows_an_account_needs_days_in_a_row(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_config({**PORTFOLIO, **changes})
    assert "task 'position': loss 'sharpe' follows an account from day to day" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_days_in_a_row_are_asked_of_learned_tasks_alone() -> None:
    assert make_config({**PORTFOLIO, "training": BLOCKS | {"test_curve": 1}}).training.order == "blocks"
    make_config({**PORTFOLIO, "balancer": {"kind": "stl", "task": "return"}})
    make_config({**PORTFOLIO, "training": {"learn": ["return"]}})
    make_config({"training": {"order": "blocks"}})  # any loss may have them


def test_an_agent_is_a_setting_like_any_other() -> None:
    """Off by default, and then no part of what a result depends on."""
    assert load_config("demo").agent is None
    config = load_config("demo", ["agent=ppo", "agent.gamma=0.5", "agent.environment.window=3"])
    assert config.agent is not None
    assert (config.agent.kind, config.agent.gamma, config.agent.environment.window) == ("ppo", 0.5, 3)
    assert make_config(config.plain()) == config
    assert config_hash(load_config("demo", ["agent="])) == config_hash(load_config("demo"))
    assert config_hash(load_config("demo", ["agent=ppo"])) != config_hash(config)
    assert config.epochs_at_most == 10
    with pytest.raises(ConfigError, match=r"^agent: unknown agent 'pp0'; did you mean 'ppo'\?[^\n]*$"):
        load_config("demo", ["agent=pp0"])
    with pytest.raises(ConfigError, match="agent: an agent needs its 'kind'"):
        load_config("demo", ["agent.gamma=0.5"])
