"""A run whose positions come from an agent in place of the config's network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

import numpy as np

from mimstocr.agents.base import Agent
from mimstocr.agents.environment import PortfolioEnv
from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.agents.training import AgentTrainer
from mimstocr.agents.world import World, make_world
from mimstocr.backtest.market import Values
from mimstocr.config import Config, differences
from mimstocr.data.panel import Matrix, fingerprint
from mimstocr.errors import ConfigError, RunError
from mimstocr.evaluation import daily_metrics, summarise
from mimstocr.runs import RunFolder
from mimstocr.training.loop import Watcher
from mimstocr.training.predict import Predicted
from mimstocr.training.prepare import Prepared
from mimstocr.workflow import AGENT_FILE, RunResult, run

PACKAGES = ("stable-baselines3", "gymnasium")


def run_agent(
    config: Config,
    agent: Agent,
    environment: EnvironmentSettings | None = None,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> RunResult:
    """Train an agent a seed, let it hold its portfolio, evaluate, backtest and report, into `config.folder`.

    Of the config everything counts but what is about the network: data, splits, features, the market and delay of the
    backtest, and one task, under whose name the weights stand in predictions.parquet. The agent trains on the train
    split in that market, its best policy is chosen on the validation split, and then it holds a portfolio through the
    validation split and another one from the first day of the test on, each in cash at first.

    Stops and goes on as `mimstocr.workflow.run` does. Raises what that raises; ConfigError without the extra `rl`, when
    more than one task is learned, when the backtest's strategy is not `positions`, and as `make_world` does.
    """
    learner = AgentLearner(agent, environment or EnvironmentSettings())
    return run(config, resume=resume, watcher=watcher, learner=learner)


@dataclass(frozen=True)
class AgentLearner:
    """Stands where `mimstocr.workflow.Network` does."""

    agent: Agent
    environment: EnvironmentSettings
    _worlds: dict[int, _Worlds] = field(default_factory=dict)

    def check(self, prepared: Prepared) -> None:
        """Raise ConfigError, before anything is written, when an agent cannot serve this config."""
        config = prepared.config
        if len(prepared.learned) > 1 or prepared.learned[prepared.main].target not in ("position", "value"):
            raise ConfigError(
                f"an agent answers one task, of positions or values, got {', '.join(prepared.learned)}; learn one, "
                "such as {return: {kind: return, delay: 1}}"
            )
        if (kind := config.backtest.strategy.kind) != "positions":
            raise ConfigError(
                f"an agent puts out weights, but backtest.strategy is {kind}, which ranks; set it to positions"
            )
        PortfolioEnv(self._of(prepared).train, self.environment.episode)

    def trainings(self, prepared: Prepared, folder: RunFolder) -> Callable[[int], AgentTrainer]:
        """Seed to its training. Raises RunError when the folder belongs to another agent, or to a network."""
        self._settle(folder, self._of(prepared))
        return partial(self._training, prepared, folder)

    def predict(self, prepared: Prepared, folder: RunFolder, seed: int, days: Sequence[int]) -> Predicted:
        """The weights of the best policy: through the validation split, and from the first day of the test on."""
        trainer, worlds = self._training(prepared, folder, seed), self._of(prepared)
        weights = np.concatenate([trainer.run_best(world).weights for world in (worlds.valid, worlds.test)])
        matrix: Matrix = weights.astype(np.float32)
        if len(matrix) != len(days):
            raise ValueError(f"expected the {len(matrix)} days from the validation split on, got {len(days)}")
        held_back: Matrix = (1.0 - np.nansum(np.abs(weights), axis=1)).astype(np.float32)
        holds = {prepared.main: held_back} if prepared.learned[prepared.main].holds else {}
        return Predicted({prepared.main: matrix}, {prepared.main: matrix}, np.full(1, np.nan), holds)

    def finish(self, prepared: Prepared, folder: RunFolder) -> None:
        """An agent leaves nothing else behind."""

    def _training(self, prepared: Prepared, folder: RunFolder, seed: int) -> AgentTrainer:
        worlds = self._of(prepared)
        returns = prepared.labels[prepared.config.priced()[0]][prepared.splits.valid.days]

        def figures(weights: Values) -> dict[str, float]:
            found = summarise(daily_metrics(weights, returns, precision_at=(), ndcg_at=()))
            return {name: found[name] for name in ("ic", "rank_ic")}

        plain = prepared.config.plain()
        identity = {name: plain[name] for name in ("features", "splits", "tasks", "backtest")}
        return AgentTrainer(
            self.agent,
            worlds.train,
            worlds.valid,
            seed=seed,
            folder=folder.checkpoints(seed),
            task=prepared.main,
            figures=figures,
            identity={
                **identity,
                "environment": self.environment.model_dump(mode="json"),
                "data": fingerprint(prepared.panel),
            },
        )

    def _of(self, prepared: Prepared) -> _Worlds:
        return self._worlds.setdefault(id(prepared), _Worlds(prepared, self.environment))

    def _settle(self, folder: RunFolder, worlds: _Worlds) -> None:
        """agent.json: who learns here."""
        mine: dict[str, Any] = {
            "agent": self.agent.model_dump(mode="json"),
            "environment": self.environment.model_dump(mode="json"),
        }
        if (folder.path / AGENT_FILE).is_file():
            saved = folder.read_json(AGENT_FILE)
            account = "; ".join(told for part in mine if (told := differences(saved[part], mine[part])))
        elif (folder.path / "history.jsonl").is_file():
            account = "a network"
        else:
            account = ""
        if account:
            raise RunError(
                f"{folder.path} was made by another agent ({account}); resume it with its own settings, or choose "
                "another name for the new run"
            )
        notes = [*worlds.train.notes, *worlds.valid.notes]
        content = {**mine, "versions": {name: version(name) for name in PACKAGES}, "notes": notes}
        folder.write_text(AGENT_FILE, json.dumps(content, indent=1) + "\n")


class _Worlds:
    """The worlds of a run's splits, made when they are needed; each is handed no day after its last."""

    def __init__(self, prepared: Prepared, environment: EnvironmentSettings) -> None:
        self._prepared, self._environment = prepared, environment

    @cached_property
    def train(self) -> World:
        """The train split."""
        return self._made(self._prepared.splits.train.days)

    @cached_property
    def valid(self) -> World:
        """The validation split."""
        return self._made(self._prepared.splits.valid.days)

    @cached_property
    def test(self) -> World:
        """From the first day of the test on; made only when training is over."""
        return self._made(slice(self._prepared.splits.test.days.start, len(self._prepared.days)))

    def _made(self, days: slice) -> World:
        prepared = self._prepared
        known = prepared.panel.isel(date=slice(0, days.stop))
        return make_world(known, prepared.fitted, days, prepared.config.traded(), self._environment)
