"""Dynamic weight average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing.base import BALANCERS, Balancer, State, admitted


@BALANCERS.register("dwa")
class DynamicWeightAverage(Balancer):
    """DWA: more weight for tasks whose loss falls slowly from epoch to epoch (Liu, Johns & Davison 2019).

    w_k = K softmax_k(r_k / temperature), r_k = L_k(e - 1) / L_k(e - 2), mean training losses of the epochs before;
    w = 1 in the first two epochs.
    """

    temperature: Annotated[float, Field(gt=0)] = 2.0
    """The higher, the more even the weights (paper: 2)."""

    @property
    def negative_losses(self) -> str | None:
        """Refused: the ratio of two losses says nothing then."""
        return "it compares ratios of losses; a balancer that does not look at losses, such as pcgrad, takes them"

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:  # noqa: ARG002
        """No epoch yet, every weight 1."""
        return {
            "train": torch.zeros(0, n_tasks, dtype=torch.float64),
            "weight": torch.ones(n_tasks, dtype=torch.float64),
        }

    def weights(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """The weights of the epoch."""
        return state["weight"].to(losses), state

    def end_epoch(self, train: Tensor, indicator: Tensor, state: State) -> State:  # noqa: ARG002
        """The weights of the coming epoch; a ratio that is not finite counts as 1, a loss that stands still."""
        history = torch.cat([state["train"], train[None]])[-2:]
        return self._weighed(history, state["weight"])

    def admit(self, state: State, fresh: State, known: Sequence[int]) -> State:
        """A task that enters counts as one whose loss stands still until it has two epochs of its own."""
        nothing = torch.full((len(state["train"]), len(fresh["weight"])), torch.nan, dtype=torch.float64)
        return self._weighed(admitted(state["train"], nothing, known, dim=1), fresh["weight"])

    def _weighed(self, history: Tensor, before: Tensor) -> State:
        """The state after the epochs in `history`; `before`: the weights as long as there are fewer than two."""
        if len(history) < 2:
            return {"train": history, "weight": before}
        ratio = history[1] / history[0]
        ratio = torch.where(ratio.isfinite(), ratio, 1.0)
        return {"train": history, "weight": len(ratio) * torch.softmax(ratio / self.temperature, dim=0)}

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """The weights of the coming epoch."""
        return {"weight": state["weight"].tolist()}
