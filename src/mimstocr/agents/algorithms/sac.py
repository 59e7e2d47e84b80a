"""Soft actor-critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mimstocr.agents.base import AGENTS, Layers, OffPolicy

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@AGENTS.register("sac")
class Sac(OffPolicy):
    """Soft actor-critic: reward and entropy together, two critics (Haarnoja et al., ICML 2018)."""

    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Step size of the optimisers (FinRL: 1e-4)."""
    layers: Layers = (256, 256)
    entropy: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Weight of the entropy beside the reward; auto: learned, from 1 (FinRL: learned, from 0.1)."""

    def make(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """SAC of stable-baselines3."""
        from stable_baselines3 import SAC

        return SAC(**self.common(env, seed), ent_coef=self.entropy)
