"""The portfolio environment, by the interface of Gymnasium (extra `rl`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mimstocr.agents.base import without_extra
from mimstocr.agents.world import Account, Action, Observation, World
from mimstocr.errors import ConfigError

try:
    import gymnasium
    from gymnasium import spaces
except ModuleNotFoundError as error:
    raise without_extra(error) from None


class PortfolioEnv(gymnasium.Env[Observation, Action]):
    """A portfolio of N stocks over the days of a world, one step a trading day.

    Observation (N * L * F + N + 1,): the features of the day, the weights held and the share in cash, cut to
    [-clip, clip]; known at the close of the day. Action (N + 1,), or (N,) without Hold, in [-1, 1]; see
    `Account.positions`. Reward: the net return of the decision, log or simple, times `reward_scale`; see
    `Account.follow`. So with a delay of 1 the decision of day t earns from t + 1 to t + 2 (its fill's prices), less the
    costs of trading there, which is what the backtest of a network's positions earns.

    An episode is the whole world, or `episode` days from a start drawn with the seed of `reset`, always in cash at
    first. Its end is a truncation: the market goes on. Only an account that has lost everything is terminated. What is
    asked for a stock that is suspended or delisted on the day of the fill is not filled: its shares stay, at their last
    price, and earn 0 until it trades again; one that is not in the cross-section on the day that decides is asked to be
    sold.
    """

    metadata = {"render_modes": []}

    def __init__(self, world: World, episode: int | None = None) -> None:
        """`episode`: days of an episode; none: all. Raises ConfigError when the world has fewer decisions."""
        if episode is not None and episode > world.decisions:
            raise ConfigError(
                f"agent.environment.episode: expected at most the {world.decisions} decisions from {world.days[0]} to "
                f"{world.days[-1]}, got {episode}; shorten it, or widen the split"
            )
        self.world = world
        self.length = world.decisions if episode is None else episode
        self.account = Account(world)
        self.end = self.length
        """The day after the last one that decides in this episode."""
        clip = world.settings.clip
        n = len(world.symbols)
        self.observation_space = spaces.Box(-clip, clip, (world.features.shape[1] + n + 1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (n + world.hold,), np.float32)
        self._log, self._scale = world.settings.reward == "log", world.settings.reward_scale

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  (Gymnasium's)
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options` are not used."""
        super().reset(seed=seed)
        start = int(self.np_random.integers(self.world.decisions - self.length + 1))
        self.account.start(start)
        self.end = start + self.length
        return self.account.observe(), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Decide for a day. The info has `return`, net, and `turnover`, one-way.

        Raises TrainingError on an action that is not finite.
        """
        account = self.account
        earned = account.follow(account.positions(action))
        reward = self._scale * (math.log1p(earned) if self._log else earned)
        truncated = account.at >= self.end
        info = {"return": earned, "turnover": account.turnover}
        return account.observe(), reward, account.ruined, truncated and not account.ruined, info

    def state(self) -> dict[str, Any]:
        """All that changes, for a checkpoint."""
        return {"account": self.account.state(), "end": self.end, "random": self.np_random.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.account.restore(state["account"])
        self.end = state["end"]
        self.np_random.bit_generator.state = state["random"]
