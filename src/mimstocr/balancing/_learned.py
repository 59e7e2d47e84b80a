"""K numbers learned beside the model, by Adam (Kingma & Ba 2015), with their memory in a balancer's state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mimstocr.balancing.base import Balancer, State, admitted

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def start(values: Tensor) -> State:
    """The numbers (K,) before the first step."""
    return {
        "learned": values,
        "mean": torch.zeros_like(values),
        "square": torch.zeros_like(values),
        "steps": torch.zeros((), dtype=torch.int64),
    }


def learn(state: State, gradient: Tensor, rate: float, decay: float = 0.0) -> State:
    """One step of Adam down `gradient` (K,), with learning rate `rate` and coupled L2 `decay`."""
    steps = int(state["steps"]) + 1
    gradient = gradient + decay * state["learned"]
    mean = BETA1 * state["mean"] + (1 - BETA1) * gradient
    square = BETA2 * state["square"] + (1 - BETA2) * gradient.square()
    step = mean / (1 - BETA1**steps) / ((square / (1 - BETA2**steps)).sqrt() + EPS)
    return {
        **state,
        "learned": state["learned"] - rate * step,
        "mean": mean,
        "square": square,
        "steps": torch.tensor(steps),
    }


class Learning(Balancer):
    """A balancer with one such number a task."""

    def admit(self, state: State, fresh: State, known: Sequence[int]) -> State:
        """The numbers of the tasks so far stay; Adam's memory starts anew, as each number then has others beside it."""
        return {**fresh, "learned": admitted(state["learned"], fresh["learned"], known)}
