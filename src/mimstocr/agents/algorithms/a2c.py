"""Advantage actor-critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from mimstocr.agents.base import AGENTS, OnPolicy, Share

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@AGENTS.register("a2c")
class A2c(OnPolicy):
    """Advantage actor-critic: a step after every few days (Mnih et al., ICML 2016, without its parallel workers)."""

    learning_rate: Annotated[float, Field(gt=0)] = 7e-4
    rollout: PositiveInt = 5
    """Days that are lived before each update."""
    gae_lambda: Share = 1.0
    """Trade-off of bias and variance in the advantages; 1 is the plain return."""

    def make(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """A2C of stable-baselines3."""
        from stable_baselines3 import A2C

        return A2C(**self.common(env, seed), n_steps=self.rollout, gae_lambda=self.gae_lambda)
