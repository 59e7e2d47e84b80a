"""Uncertainty weighting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._learned import Learning, learn, start
from mimstocr.balancing.base import BALANCERS, State


@BALANCERS.register("uw")
class UncertaintyWeighting(Learning):
    """UW: losses weighted by learned task uncertainties (Kendall, Gal & Cipolla 2018).

    Minimises sum_k L_k / (2 s_k^2) + log s_k, with the log-variances t_k = log s_k^2 learned from 0 by Adam. The
    paper's form for classification, L / s^2 + log s, is the same function of t - log 2 but for a constant: it comes
    to the same weights, 1 / (2 L) where L stands still, and differs only in where it starts.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the log-variances (the paper learns them with the model's own rate)."""

    @property
    def negative_losses(self) -> str | None:
        """Refused: the variance that fits a negative loss is 0, and its weight infinite."""
        return "no variance fits a negative loss; a balancer that does not look at losses, such as pcgrad, takes them"

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:  # noqa: ARG002
        """Every variance 1."""
        return start(torch.zeros(n_tasks, dtype=torch.float64, device=device))

    def weights(self, losses: Tensor, state: State) -> tuple[Tensor, State]:
        """1 / (2 s_k^2); the variances then learn from these losses. A task without a label teaches nothing."""
        weights = (-state["learned"]).exp() / 2
        gradient = torch.where(losses == 0, 0.0, 0.5 - weights * losses.double())
        return weights.to(losses), learn(state, gradient, self.learning_rate)

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """The weights as they stand."""
        return {"weight": ((-state["learned"]).exp() / 2).tolist()}
