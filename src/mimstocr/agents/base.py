"""The contract of an agent: settings that make an algorithm of stable-baselines3 for an environment.

Nothing here imports that library: it is the extra `rl`, imported when an agent is made.
"""

from __future__ import annotations

import platform
from abc import abstractmethod
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.components import Component, Registry, component_field
from mimstocr.errors import ConfigError

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


Share = Annotated[float, Field(ge=0, le=1)]
Layers = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class Agent(Component):
    """A way to learn what to hold. Defaults are those of stable-baselines3 but where it is said.

    "FinRL" beside a setting is what that library, with which the profit-guided paper made its baselines, sets instead
    (finrl/config.py).
    """

    total_steps: PositiveInt = 50_000
    """Days that are lived in training, over and over the split; a roll-out that is begun is finished, so on-policy
    agents may live a few more. stable-baselines3 has no default, and neither has the paper; 50,000 is 20 times ten
    years."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Step size of the optimisers."""
    gamma: Share = 0.99
    """Discount of the rewards to come, a day."""
    layers: Layers
    """Sizes of the hidden layers, of the policy and of the critics alike."""
    eval_steps: PositiveInt = 5_000
    """Steps from one look at the validation split to the next; the best policy seen is kept."""
    monitor: Literal["sharpe", "profit"] = "sharpe"
    """The figure of the validation account that chooses the best policy: its Sharpe ratio, or what it gained. Profit
    alone prefers the luckiest bet."""
    environment: EnvironmentSettings = EnvironmentSettings()
    """What it sees and what it is paid."""

    @property
    def looks(self) -> int:
        """How often, at most, the validation split is looked at."""
        return -(-self.total_steps // self.eval_steps)

    def computed_with(self) -> dict[str, str]:
        """For environment.json: the device, which is the CPU whatever `training.device` says, and the packages."""
        versions = {name: version(name) for name in ("stable-baselines3", "gymnasium")}
        return {"device": "cpu", "device_name": platform.machine(), **versions}

    def check(self) -> None:
        """Raise ConfigError when it would never learn."""

    @abstractmethod
    def make(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """The untrained algorithm in its environment, on the CPU: it acts a day at a time, for which a GPU is slow."""

    def common(self, env: VecEnv, seed: int) -> dict[str, Any]:
        """Arguments that all algorithms take."""
        return {
            "policy": "MlpPolicy",
            "env": env,
            "learning_rate": self.learning_rate,
            "gamma": self.gamma,
            "policy_kwargs": {"net_arch": list(self.layers)},
            "seed": seed,
            "device": "cpu",
        }


class OnPolicy(Agent):
    """An agent that learns from what it has just lived, and then forgets it."""

    layers: Layers = (64, 64)
    entropy: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the policy's entropy, which keeps it exploring (FinRL: 0.01)."""
    value_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the critic's loss beside the policy's."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.5
    """The largest norm of a gradient; larger ones are scaled down."""

    def common(self, env: VecEnv, seed: int) -> dict[str, Any]:
        """Arguments that all on-policy algorithms take."""
        return super().common(env, seed) | {
            "ent_coef": self.entropy,
            "vf_coef": self.value_weight,
            "max_grad_norm": self.max_grad_norm,
        }


class OffPolicy(Agent):
    """An agent that learns from all that it remembers."""

    buffer_size: PositiveInt = 1_000_000
    """Steps that are remembered. No more than `total_steps` are kept room for, as no more come; one takes 8 bytes a
    number of the observation."""
    learning_starts: Annotated[int, Field(ge=0)] = 100
    """Steps with random actions before learning starts."""
    batch_size: PositiveInt = 256
    """Steps that are remembered at a time (FinRL: SAC 64, TD3 100, DDPG 128)."""
    tau: Annotated[float, Field(gt=0, le=1)] = 0.005
    """By which share the target networks follow at every update."""
    train_every: PositiveInt = 1
    """Steps from one round of updates to the next."""
    updates: PositiveInt = 1
    """Updates a round."""

    def check(self) -> None:
        """Raise ConfigError when all steps come before learning starts."""
        lived = -(-self.total_steps // self.train_every) * self.train_every
        if lived <= self.learning_starts:
            raise ConfigError(
                f"agent.learning_starts: expected fewer than the {lived} steps that are lived, got "
                f"{self.learning_starts}, so nothing would be learned; lower it, or raise agent.total_steps"
            )

    def common(self, env: VecEnv, seed: int) -> dict[str, Any]:
        """Arguments that all off-policy algorithms take."""
        return super().common(env, seed) | {
            "buffer_size": min(self.buffer_size, self.total_steps),
            "learning_starts": self.learning_starts,
            "batch_size": self.batch_size,
            "tau": self.tau,
            "train_freq": self.train_every,
            "gradient_steps": self.updates,
        }


class Deterministic(OffPolicy):
    """An off-policy agent whose policy is a function, without chance; it explores by noise."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    layers: Layers = (400, 300)
    noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise on the actions in training, as the TD3 paper has it. stable-baselines3 has none
    by default, and then explores nothing once learning has started."""

    def common(self, env: VecEnv, seed: int) -> dict[str, Any]:
        """Arguments that both of them take."""
        import numpy as np
        from stable_baselines3.common.noise import NormalActionNoise

        n = env.action_space.shape or ()
        noise = NormalActionNoise(np.zeros(n), np.full(n, self.noise)) if self.noise > 0 else None
        return super().common(env, seed) | {"action_noise": noise}


def without_extra(error: ModuleNotFoundError) -> ConfigError:
    """What to raise where a package of the extra `rl` is not there."""
    return ConfigError(
        "agents need the packages stable-baselines3 and gymnasium, of which "
        f"{(error.name or '').partition('.')[0]} is not installed; pip install 'mimstocr[rl]'"
    )


AGENTS: Registry[type[Agent]] = Registry("agent", "mimstocr.agents.algorithms")

AnyAgent = Annotated[Agent, *component_field(AGENTS)]
