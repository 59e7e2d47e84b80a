"""Deep deterministic policy gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mimstocr.agents.base import AGENTS, Deterministic

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@AGENTS.register("ddpg")
class Ddpg(Deterministic):
    """Deep deterministic policy gradient: one critic, and a policy that climbs it (Lillicrap et al., ICLR 2016)."""

    def make(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """DDPG of stable-baselines3."""
        from stable_baselines3 import DDPG

        return DDPG(**self.common(env, seed))
