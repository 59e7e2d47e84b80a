"""Runs whose positions an agent learns in place of the config's network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch

from mimstocr.agents.base import Agent
from mimstocr.agents.environment import PortfolioEnv
from mimstocr.agents.training import AgentTrainer, load_policy
from mimstocr.agents.world import World, follow, make_world
from mimstocr.backtest.market import Values
from mimstocr.config import Config
from mimstocr.data.panel import Matrix, Panel, day_text, days_of, fingerprint
from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation import daily_metrics, summarise
from mimstocr.features.by_class import restore_by_class
from mimstocr.runs import RunFolder
from mimstocr.training.batches import check_portfolio
from mimstocr.training.checkpoint import load_checkpoint, part
from mimstocr.training.predict import Predicted
from mimstocr.training.prepare import Prepared
from mimstocr.workflow import identity_of


@dataclass(frozen=True)
class AgentLearner:
    """Stands where `mimstocr.workflow.Network` does.

    The agent trains on the train split in the market of the backtest, its best policy is chosen on the validation
    split, and then it holds a portfolio through the validation split and another one from the first day of the test
    on, each in cash at first.
    """

    agent: Agent
    _worlds: dict[int, _Worlds] = field(default_factory=dict)

    def check(self, prepared: Prepared) -> None:
        """Raise ConfigError, before anything is written, when an agent cannot serve this config."""
        config = prepared.config
        if len(prepared.learned) > 1 or prepared.learned[prepared.main].target != "position":
            kinds = ", ".join(f"{name} ({task.kind})" for name, task in prepared.learned.items())
            raise ConfigError(
                f"an agent answers one task, of kind position, got {kinds}; configure one, such as tasks.position="
                "{kind: position, delay: 1}, and learn it alone by training.learn=[position] and balancer=stl"
            )
        if (kind := config.backtest.strategy.kind) != "positions":
            raise ConfigError(
                f"an agent puts out weights, but backtest.strategy is {kind}, which ranks; set it to positions"
            )
        if config.backtest.every != 1:
            raise ConfigError(
                f"an agent decides every day on what it holds, but backtest.every is {config.backtest.every}; set it "
                "to 1"
            )
        if config.training.rolling is not None:
            raise ConfigError("training.rolling trains a network on through the test days, not an agent; leave it out")
        self.agent.check()
        PortfolioEnv(self._of(prepared).train, self.agent.environment.episode)

    def trainings(self, prepared: Prepared, folder: RunFolder) -> Callable[[int], AgentTrainer]:
        """Seed to its training."""
        return partial(self._training, prepared, folder)

    def predict(self, prepared: Prepared, folder: RunFolder, seed: int, days: Sequence[int]) -> Predicted:
        """The weights of the best policy: through the validation split, and from the first day of the test on."""
        trainer, worlds = self._training(prepared, folder, seed), self._of(prepared)
        weights = np.concatenate([trainer.run_best(world).weights for world in (worlds.valid, worlds.test)])
        if len(weights) != len(days):
            raise ValueError(f"expected the {len(weights)} days from the validation split on, got {len(days)}")
        return _said(prepared.config, weights)

    def finish(self, prepared: Prepared, folder: RunFolder) -> None:
        """Add what a reader must know of the agent's worlds to the notes of data.json."""
        account, worlds = folder.read_json("data.json"), self._of(prepared)
        made = {"train split": worlds.train, "validation split": worlds.valid, "test and after": worlds.test}
        account["inspection"]["notes"] += [f"{name}: {note}" for name, world in made.items() for note in world.notes]
        folder.write_json("data.json", account)

    def _training(self, prepared: Prepared, folder: RunFolder, seed: int) -> AgentTrainer:
        config, worlds = prepared.config, self._of(prepared)
        returns = prepared.labels[config.priced()[0]][prepared.splits.valid.days]

        def figures(weights: Values) -> dict[str, float]:
            found = summarise(daily_metrics(weights, returns, precision_at=(), ndcg_at=()))
            return {name: found[name] for name in ("ic", "rank_ic")}

        return AgentTrainer(
            self.agent,
            worlds.train,
            worlds.valid,
            seed=seed,
            folder=folder.checkpoints(seed),
            task=prepared.main,
            figures=figures,
            identity={**identity_of(config), "data": fingerprint(prepared.panel)},
            features=prepared.fitted.names,
            constants={name: torch.from_numpy(value) for name, value in prepared.fitted.constants().items()},
            checkpoint_seconds=config.training.checkpoint_seconds,
        )

    def _of(self, prepared: Prepared) -> _Worlds:
        return self._worlds.setdefault(id(prepared), _Worlds(prepared, self.agent))


def lived_again(config: Config, agent: Agent, panel: Panel, folder: RunFolder, at: int) -> dict[int, Predicted]:
    """What the best policy of each seed of a finished run decides on the day `at` of `panel`.

    Its account is lived anew from the first day of the run's test, in cash at first. Raises DataError when the panel
    lacks that day or does not reach beyond it to `at`, or has other stocks than the agent was trained on.
    """
    first = _test_begins(panel, folder, at)
    return {seed: _lived(config, agent, panel, folder, seed, slice(first, at + 1)) for seed in config.seeds}


def _test_begins(panel: Panel, folder: RunFolder, at: int) -> int:
    """The place of the first day of the run's test."""
    days = days_of(panel)
    began = np.datetime64(folder.read_json("data.json")["splits"]["test"]["first"])
    first = int(np.searchsorted(days, began))
    if first == len(days) or days[first].astype("datetime64[D]") != began.astype("datetime64[D]"):
        raise DataError(
            f"the agent's account began on {day_text(began)}, the first day of its test, which "
            f"{panel.attrs['source']} lacks; give it data that go back to that day"
        )
    if at < first:
        raise DataError(
            f"{day_text(days[at])} lies before the agent's account began, on {day_text(began)}, the first day of its "
            "test; choose a later day"
        )
    return first


def _lived(config: Config, agent: Agent, panel: Panel, folder: RunFolder, seed: int, days: slice) -> Predicted:
    """What one seed decides on the last of `days`, in cash before the first."""
    tensors, header = load_checkpoint(folder.checkpoints(seed) / "best.safetensors", torch.device("cpu"))
    check_portfolio(header["portfolio"], panel)
    constants = {name: tensor.numpy() for name, tensor in part(tensors, "features.").items()}
    fitted = restore_by_class(config.features, tuple(header["features"]), constants, [])
    hold = next(iter(config.learned().values())).holds
    world = make_world(panel, fitted, days, config.traded(), agent.environment, hold=hold, least=1)
    return _said(config, follow(load_policy(agent, tensors, world), world).weights[-1:])


def _said(config: Config, weights: Values) -> Predicted:
    """Weights (days, stocks), NaN outside the cross-section, as the answers of the task."""
    (name, task), *_ = config.learned().items()
    matrix: Matrix = weights.astype(np.float32)
    held_back: Matrix = (1.0 - np.nansum(np.abs(weights), axis=1)).astype(np.float32)
    return Predicted({name: matrix}, {name: matrix}, np.full(1, np.nan), {name: held_back} if task.holds else {})


class _Worlds:
    """The worlds of a run's splits, made when they are needed; each is handed no day after its last."""

    def __init__(self, prepared: Prepared, agent: Agent) -> None:
        self._prepared, self._environment = prepared, agent.environment

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
        hold = prepared.learned[prepared.main].holds
        return make_world(known, prepared.fitted, days, prepared.config.traded(), self._environment, hold=hold)
