"""All that an algorithm of stable-baselines3 is at a moment, as tensors and a header.

Its own `save` makes pickles, which run code when they are read, and leaves out the random numbers and the place in the
environment; with this a training goes on with the same numbers as if it had not been stopped. It is taken between two
roll-outs, when the buffer of an on-policy algorithm is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from mimstocr.training.checkpoint import part

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
"""TD3 updates its policy by the count of the updates."""
REMEMBERED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""The arrays of a replay buffer."""


def policy_tensors(model: BaseAlgorithm) -> dict[str, Tensor]:
    """What the policy is, critics included."""
    return {f"policy.{name}": tensor for name, tensor in model.policy.state_dict().items()}


def restore_policy(model: BaseAlgorithm, tensors: Mapping[str, Tensor]) -> None:
    """The policy of a checkpoint."""
    model.policy.load_state_dict(part(tensors, "policy."))


def state_of(model: BaseAlgorithm) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and a header: everything the next step depends on but the environment."""
    tensors = policy_tensors(model)
    for place, optimizer in enumerate(_optimizers(model)):
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{place}.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors |= {f"variable.{name}": getattr(model, name) for name in _variables(model)}
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  (the generator that the library draws from)
    tensors["random.torch"] = torch.get_rng_state()
    tensors["random.numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    tensors["seen"] = torch.from_numpy(np.asarray(model._last_obs))
    tensors["starts"] = torch.from_numpy(np.asarray(model._last_episode_starts))
    header: dict[str, Any] = {name: getattr(model, name) for name in COUNTERS}
    header |= {"numpy": [kind, *rest], "actions": model.action_space.np_random.bit_generator.state}
    if (buffer := _buffer(model)) is not None:
        tensors |= {
            f"remembered.{name}": torch.from_numpy(getattr(buffer, name)[: buffer.size()]) for name in REMEMBERED
        }
        header["place"] = buffer.pos
    return tensors, header


def restore(model: BaseAlgorithm, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Bring a fresh algorithm of the same settings to where a checkpoint was taken."""
    restore_policy(model, tensors)
    for place, optimizer in enumerate(_optimizers(model)):
        whole = optimizer.state_dict()
        whole["state"] = {}
        for name, tensor in part(tensors, f"optimizer.{place}.").items():
            number, _, key = name.partition(".")
            whole["state"].setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict(whole)
    for name, tensor in part(tensors, "variable.").items():
        getattr(model, name).data = tensor
    for name in COUNTERS:
        setattr(model, name, header[name])
    kind, *rest = header["numpy"]
    np.random.set_state((kind, tensors["random.numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(tensors["random.torch"])
    model.action_space.np_random.bit_generator.state = header["actions"]
    model._last_obs = tensors["seen"].numpy()
    model._last_episode_starts = tensors["starts"].numpy()
    if (buffer := _buffer(model)) is not None:
        for name, tensor in part(tensors, "remembered.").items():
            getattr(buffer, name)[: len(tensor)] = tensor.numpy()
        buffer.pos = header["place"]
        buffer.full = len(tensors["remembered.rewards"]) == buffer.buffer_size


def _optimizers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    """The optimisers, in the library's order."""
    found = []
    for name in model._get_torch_save_params()[0]:
        inner: Any = model
        for step in name.split("."):
            inner = getattr(inner, step)
        if isinstance(inner, torch.optim.Optimizer):
            found.append(inner)
    return found


def _variables(model: BaseAlgorithm) -> list[str]:
    """Names of tensors that are learned besides, such as SAC's weight of the entropy."""
    return [name for name in model._get_torch_save_params()[1] if getattr(model, name) is not None]


def _buffer(model: BaseAlgorithm) -> ReplayBuffer | None:
    return model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
