"""Twin delayed DDPG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from mimstocr.agents.base import AGENTS, Deterministic

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@AGENTS.register("td3")
class Td3(Deterministic):
    """Twin delayed DDPG: the lower of two critics, a slower policy, smoothed targets (Fujimoto et al., ICML 2018)."""

    policy_delay: PositiveInt = 2
    """Updates of the critics for one of the policy."""
    target_noise: Annotated[float, Field(gt=0)] = 0.2
    """Standard deviation of the noise that smooths the target's actions."""
    target_noise_clip: Annotated[float, Field(ge=0)] = 0.5
    """The most of that noise."""

    def make(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """TD3 of stable-baselines3."""
        from stable_baselines3 import TD3

        return TD3(
            **self.common(env, seed),
            policy_delay=self.policy_delay,
            target_policy_noise=self.target_noise,
            target_noise_clip=self.target_noise_clip,
        )
