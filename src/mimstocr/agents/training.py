"""The training of one agent: the library's own loop, looked after between its roll-outs.

Between two roll-outs the policy is judged on the validation days, checkpoints are written and a stop is obeyed. A
stopped training goes on with the same numbers as if it had not been stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimstocr.agents.base import Agent, without_extra
from mimstocr.agents.world import Action, Followed, Observation, Policy, World, follow
from mimstocr.backtest.market import Values
from mimstocr.backtest.portfolio import portfolio_metrics
from mimstocr.config import differences
from mimstocr.errors import RunError, TrainingError
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import LOOK_SECONDS, Moment, Watcher

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv
except ModuleNotFoundError as error:
    raise without_extra(error) from None

from mimstocr.agents.checkpoint import policy_tensors, restore, restore_policy, state_of
from mimstocr.agents.environment import PortfolioEnv

NEVER = 10**9
"""Roll-outs or episodes from one line of the library's own log to the next."""
Figures = Callable[[Values], Mapping[str, float]]
"""Validation figures of weights (days, symbols), for the history; NaN outside the cross-section."""


@dataclass
class Position:
    """Where training stands."""

    best: float = math.nan
    judged: int = 0
    """Steps after which the policy was judged last."""
    rewards: float = 0.0
    """Sum of the rewards since then."""
    seconds: float = 0.0
    """Time spent since then, before the last stop."""
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class AgentTrainer:
    """One agent under training: `fit` brings it to the end or to a stop, from the beginning or a checkpoint.

    world, valid: the days of training and of validation; no other is looked at. task: under which name the history has
    the agent's reward. identity: what a checkpoint must share with this training to go on from it, by default the
    agent's settings. features, constants: names and constants of the fitted features, kept with the best policy.
    checkpoint_seconds: the longest time between checkpoints.
    """

    def __init__(
        self,
        agent: Agent,
        world: World,
        valid: World,
        *,
        seed: int,
        folder: Path,
        task: str = "return",
        figures: Figures = lambda _: {},
        identity: Mapping[str, Any] | None = None,
        features: Sequence[str] = (),
        constants: Mapping[str, Tensor] | None = None,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        self.agent, self.world, self.valid = agent, world, valid
        self.seed, self.folder, self.task, self.figures = seed, folder, task, figures
        self.identity = dict(identity or agent.model_dump(mode="json"))
        self.features, self.constants = list(features), dict(constants or {})
        self.checkpoint_seconds = checkpoint_seconds
        self.env = PortfolioEnv(world, world.settings.episode)
        self.model = agent.make(DummyVecEnv([lambda: self.env]), seed)
        self.at = Position()

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint of the best policy."""
        return self.folder / "best.safetensors"

    def fit(self, watcher: Watcher, stop: Stop) -> bool:
        """Train until the end; false when `stop` was raised first, with everything saved.

        Raises TrainingError when the agent comes to numbers that are not finite.
        """
        if self.at.finished:
            return True
        keeper = _Keeper(self, watcher, stop)
        done = self.model.num_timesteps
        if done == 0:
            self.model.set_random_seed(self.seed)  # whatever else was made since this was
        try:
            self.model.learn(
                self.agent.total_steps - done, callback=keeper, log_interval=NEVER, reset_num_timesteps=done == 0
            )
        except _Stopped:
            return False
        except (ValueError, TrainingError) as error:
            # torch's distributions refuse a mean or scale that is not finite, the environment such an action
            if isinstance(error, ValueError) and not str(error).startswith("Expected parameter"):
                raise
            self._refuse(str(error).partition("\n")[0].rstrip(":"))
        keeper.judge()
        self.at.finished = True
        self._save(whole=False)
        return True

    def judge(self, started: float) -> dict[str, Any]:
        """Look at the validation days: a line of the history; the policy is kept if it is the best so far."""
        if not self._sound():
            self._refuse("the policy's parameters")
        at, steps = self.at, self.model.num_timesteps
        seen = follow(self.decide, self.valid)
        figures = portfolio_metrics(seen.returns, self.valid.days_per_year)
        told = {"sharpe": figures["sharpe"], "profit": figures["cumulative_return"]}
        value = told[self.agent.monitor]
        better = not at.history or (not math.isnan(value) and (math.isnan(at.best) or value > at.best))
        at.best = value if better else at.best
        scale = self.world.settings.reward_scale
        paid = np.log1p(seen.returns) if self.world.settings.reward == "log" else seen.returns
        row = {
            "seed": self.seed,
            "epoch": len(at.history) + 1,
            "steps": steps,
            "train": {self.task: -at.rewards / max(steps - at.judged, 1)},
            "valid": {self.task: -scale * float(paid.mean())},
            **self.figures(seen.weights),
            **told,
            "turnover": float(seen.turnover.mean()),
            "best": better,
            "seconds": time.perf_counter() - started,
        }
        at.history.append(row)
        at.judged, at.rewards, at.seconds = steps, 0.0, 0.0
        if better:
            self._save_best()
        return row

    def decide(self, seen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the policy does, without chance."""
        return without_chance(self.model)(seen)

    def run_best(self, world: World) -> Followed:
        """What the best policy does in a world, without chance. Raises RunError when nothing has been trained."""
        tensors, header = load_checkpoint(self.best, torch.device("cpu"))
        self._check_identity(header, self.best)
        restore_policy(self.model, tensors)
        return follow(self.decide, world)

    def save(self) -> None:
        """Write everything the next step depends on to `last`."""
        if not self._sound():
            self._refuse("the policy's parameters")
        self._save(whole=True)

    def resume(self) -> None:
        """Go back to where `last` was written. Raises RunError when it belongs to another agent or other data."""
        tensors, header = load_checkpoint(self.last, torch.device("cpu"))
        self._check_identity(header, self.last)
        told = header["at"]
        self.at = Position(**{**told, "best": math.nan if told["best"] is None else told["best"]})
        if not self.at.finished:
            restore(self.model, tensors, header["model"])
            self.env.restore(header["environment"])

    def _save_best(self) -> None:
        """Write the policy as it is to `best`, with what `load_policy` and a world of other days need beside it."""
        constants = {f"features.{name}": tensor for name, tensor in self.constants.items()}
        header = {"identity": self.identity, "steps": self.model.num_timesteps, "features": self.features}
        header["portfolio"] = self.world.symbols
        save_checkpoint(self.best, {**policy_tensors(self.model), **constants}, header)

    def _save(self, whole: bool) -> None:
        tensors, model = state_of(self.model) if whole else (policy_tensors(self.model), {})
        at = {**asdict(self.at), "best": None if math.isnan(self.at.best) else self.at.best}
        header = {"identity": self.identity, "at": at, "model": model, "environment": self.env.state()}
        save_checkpoint(self.last, tensors, header)

    def _sound(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.model.policy.parameters())

    def _refuse(self, what: str) -> None:
        raise TrainingError(
            f"agent {self.agent.kind} came to numbers that are not finite at step {self.model.num_timesteps} (seed "
            f"{self.seed}): {what}. Lower agent.learning_rate or agent.environment.reward_scale in a run of another "
            "name; what was saved before is whole"
        ) from None

    def _check_identity(self, header: Mapping[str, Any], path: Path) -> None:
        if account := differences(header["identity"], self.identity):
            raise RunError(
                f"{path} belongs to another agent or other data ({account}); go on with its own settings and data, or "
                "give the new run another name"
            )


def load_policy(agent: Agent, tensors: Mapping[str, Tensor], world: World) -> Policy:
    """The policy of a checkpoint, to be followed in a world of the stocks that it was trained on."""
    model = agent.changed(total_steps=1).make(DummyVecEnv([lambda: PortfolioEnv(world)]), 0)  # no room for memories
    restore_policy(model, tensors)
    return without_chance(model)


def without_chance(model: BaseAlgorithm) -> Policy:
    """What an algorithm's policy does: the middle of what it might."""

    def decide(seen: Observation) -> Action:
        action: Action = model.predict(seen, deterministic=True)[0]
        return action

    return decide


class _Stopped(Exception):  # noqa: N818  (no error: it leaves the library's loop where nothing is half done)
    """A stop was asked for, and everything is saved."""


class _Keeper(BaseCallback):
    """Looks after a training between its roll-outs."""

    def __init__(self, trainer: AgentTrainer, watcher: Watcher, stop: Stop) -> None:
        super().__init__()
        self.trainer, self.watcher, self.stop = trainer, watcher, stop
        self.started = time.perf_counter() - trainer.at.seconds
        self.saved = self.looked = time.monotonic()

    def judge(self) -> None:
        """Judge the policy, if it has lived since it was judged last."""
        if self.trainer.model.num_timesteps > self.trainer.at.judged:
            row = self.trainer.judge(self.started)
            self.started = time.perf_counter()
            self.watcher.epoch(row)

    def _on_rollout_start(self) -> None:
        trainer, now = self.trainer, time.monotonic()
        steps, every = trainer.model.num_timesteps, trainer.agent.eval_steps
        if steps // every > trainer.at.judged // every:
            self.judge()
        if self.stop or now - self.saved > trainer.checkpoint_seconds:
            trainer.at.seconds = time.perf_counter() - self.started
            trainer.save()
            self.saved = now
            if self.stop:
                raise _Stopped
        if now - self.looked > LOOK_SECONDS:
            self.looked = now
            since = steps - trainer.at.judged
            mean = {trainer.task: -trainer.at.rewards / max(since, 1)}
            number = len(trainer.at.history) + 1
            self.watcher.step(Moment(trainer.seed, number, since, every, mean, {}))

    def _on_step(self) -> bool:
        self.trainer.at.rewards += float(self.locals["rewards"][0])
        return True
