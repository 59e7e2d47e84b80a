"""Proximal policy optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from mimstocr.agents.base import AGENTS, OnPolicy, Share

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@AGENTS.register("ppo")
class Ppo(OnPolicy):
    """Proximal policy optimisation: several epochs over each roll-out, with clipped steps (Schulman et al., 2017)."""

    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Step size of the optimiser (FinRL: 2.5e-4)."""
    rollout: Annotated[int, Field(ge=2)] = 2048
    """Days that are lived before each update, some eight years."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Days in one step of the optimiser; a divisor of `rollout`."""
    epochs: PositiveInt = 10
    """Times that a roll-out is learned from."""
    gae_lambda: Share = 0.95
    """Trade-off of bias and variance in the advantages; 1 is the plain return."""
    clip_range: Annotated[float, Field(gt=0)] = 0.2
    """By how much the odds of an action may change in one update."""

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.rollout % self.batch_size:
            raise ValueError(
                f"rollout {self.rollout} is no multiple of batch_size {self.batch_size}, so the last batch of each "
                "epoch would be short; choose a divisor"
            )
        return self

    def make(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """PPO of stable-baselines3."""
        from stable_baselines3 import PPO

        return PPO(
            **self.common(env, seed),
            n_steps=self.rollout,
            batch_size=self.batch_size,
            n_epochs=self.epochs,
            gae_lambda=self.gae_lambda,
            clip_range=self.clip_range,
        )
