"""Settings of agents become arguments of the library's algorithms."""

from __future__ import annotations

import pytest

pytest.importorskip("stable_baselines3", reason="needs the extra rl (stable-baselines3, gymnasium)")

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from mimstocr.agents.base import AGENTS
from mimstocr.components import Settings
from mimstocr.errors import ConfigError


class Nothing(gymnasium.Env):
    """Three numbers in, two out."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, dtype=np.float32), {}


def make(kind, **settings):
    return AGENTS.get(kind)(**settings).make(DummyVecEnv([Nothing]), 0)


def test_the_five_of_the_paper():
    assert AGENTS.names() == ["a2c", "ddpg", "ppo", "sac", "td3"]


@pytest.mark.parametrize("kind", AGENTS.names())
def test_settings_round_trip(kind):
    agent = AGENTS.get(kind)()
    assert isinstance(agent, Settings)
    assert AGENTS.parse(agent.model_dump(mode="json")) == agent
    assert AGENTS.summary(kind)


NAMES = {
    "learning_rate": "learning_rate",
    "gamma": "gamma",
    "entropy": "ent_coef",
    "value_weight": "vf_coef",
    "max_grad_norm": "max_grad_norm",
    "rollout": "n_steps",
    "gae_lambda": "gae_lambda",
    "batch_size": "batch_size",
    "epochs": "n_epochs",
    "learning_starts": "learning_starts",
    "tau": "tau",
    "updates": "gradient_steps",
    "policy_delay": "policy_delay",
    "target_noise": "target_policy_noise",
    "target_noise_clip": "target_noise_clip",
}
"""Our name of a setting to the library's attribute."""


@pytest.mark.parametrize("kind", AGENTS.names())
def test_defaults_are_the_librarys(kind):
    """But for the buffer, which is no larger than the training, and the noise of the deterministic ones."""
    ours = make(kind)
    theirs = getattr(stable_baselines3, kind.upper())("MlpPolicy", DummyVecEnv([Nothing]), seed=0, device="cpu")
    for name in set(NAMES.values()):
        assert getattr(ours, name, None) == getattr(theirs, name, None), name
    assert [p.shape for p in ours.policy.parameters()] == [p.shape for p in theirs.policy.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True))
    assert ours.device.type == "cpu"
    if kind in ("ddpg", "td3", "sac"):
        assert ours.train_freq == theirs.train_freq
        assert ours.buffer_size == 50_000
        assert (ours.action_noise is None) == (kind == "sac")


OTHER = {"batch_size": 16, "rollout": 32, "policy_delay": 3, "epochs": 4, "learning_starts": 7, "updates": 3}
"""Values that no default has; of all other settings 0.125."""


@pytest.mark.parametrize("kind", AGENTS.names())
def test_every_setting_arrives(kind):
    known = AGENTS.get(kind).model_fields
    settings = {name: OTHER.get(name, 0.125) for name in NAMES if name in known}
    made = make(kind, **settings, layers=(5, 4), total_steps=90)
    for name, value in settings.items():
        assert getattr(made, NAMES[name]) == value, name
    assert {5, 4} <= {p.shape[0] for p in made.policy.parameters()}
    if "buffer_size" in known:
        assert made.buffer_size == 90
        assert make(kind, buffer_size=30, total_steps=90).buffer_size == 30
        assert make(kind, train_every=4, total_steps=90).train_freq.frequency == 4
    if "noise" in known:
        np.testing.assert_array_equal(make(kind, noise=0.3, total_steps=90).action_noise._sigma, [0.3, 0.3])
        assert make(kind, noise=0, total_steps=90).action_noise is None


def test_batches_that_do_not_fit():
    with pytest.raises(ValueError, match="rollout 100 is no multiple of batch_size 64"):
        AGENTS.get("ppo")(rollout=100)
    with pytest.raises(ConfigError, match="unknown agent 'pp0'; did you mean 'ppo'"):
        AGENTS.get("pp0")
