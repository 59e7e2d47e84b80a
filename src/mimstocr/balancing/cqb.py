"""Converge-based Quad-Balancing (MiM-StocR 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._smoothing import EPS, LogLosses, equal_lengths, smooth
from mimstocr.balancing.base import BALANCERS, State, admitted


@BALANCERS.register("cqb")
class Cqb(LogLosses):
    """Converge-based Quad-Balancing: losses, gradient memory, gradient norms and weight decay (MiM-StocR 4.3).

    1. losses enter as log L, so that their scale is of no matter;
    2. each task's gradient is smoothed with its own forgetting rate (Eq. 10);
    3. the smoothed gradients count by direction alone, rescaled by the largest norm (Eqs. 11, 12);
    4. weight decay follows the same signs of over-fitting (Eq. 21).

    The sign is V_n, the change of the held-out loss over the change of the training loss, both against their
    mean of an earlier window (Eqs. 13, 14); it is 1 until 2 x window epochs are done. beta_n = beta^sigmoid(V_n)
    (Eq. 15). Losses enter V untransformed. The held-out loss is never differentiated.
    """

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Base of the forgetting rate (paper: 0.5)."""
    decay: Annotated[float, Field(ge=0)] = 1e-3
    """Base of the weight decay (paper: 1e-3)."""
    window: Annotated[int, Field(ge=1)] = 6
    """b: epochs averaged for the earlier loss (paper: 6)."""
    adaptive_beta: bool = True
    """False: the forgetting rate stays `beta` (ablation "w/o beta balancing")."""
    adaptive_decay: bool = True
    """False: the weight decay stays `decay` (ablation "w/o L2 balancing")."""
    indicator: Literal["validation", "meta"] = "validation"
    """Where over-fitting is measured: the validation split, or the last 10% of the training days, which then
    stay out of the gradient (the "meta-validation" of the paper's introduction)."""

    @property
    def holdout(self) -> float:
        """A tenth of the training days for the meta indicator."""
        return 0.1 if self.indicator == "meta" else 0.0

    def init(self, n_tasks: int, sizes: Sequence[int], device: torch.device) -> State:
        """Zero memory, empty loss history and V = 1."""
        return {
            "smoothed": torch.zeros(n_tasks, sum(sizes), device=device),
            "steps": torch.zeros(n_tasks, dtype=torch.int64),
            "train": torch.zeros(0, n_tasks, dtype=torch.float64),
            "indicator": torch.zeros(0, n_tasks, dtype=torch.float64),
            "ratio": torch.ones(n_tasks, dtype=torch.float64),
            "ratio_before": torch.ones(n_tasks, dtype=torch.float64),
        }

    def rates(self, state: State) -> Tensor:
        """beta_n of each task, (K,) float64 (Eq. 15)."""
        ratio = state["ratio"]
        if not self.adaptive_beta:
            return torch.full_like(ratio, self.beta)
        return self.beta ** torch.sigmoid(ratio)

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """Smooth, normalise, add and rescale (Eqs. 10 to 12); a zero gradient contributes nothing.

        The memory starts as the first gradient, as in DB-MTL (Lin et al. 2023), from which the smoothing comes.
        """
        smoothed = smooth(state["smoothed"], gradients, self.rates(state), state["steps"])
        update, _ = equal_lengths(smoothed)
        return update, {**state, "smoothed": smoothed, "steps": state["steps"] + 1}

    def end_epoch(self, train: Tensor, indicator: Tensor, state: State) -> State:
        """Append the losses (K,) and form V for the coming epoch (Eqs. 13, 14)."""
        history = {
            "train": torch.cat([state["train"], train[None]]),
            "indicator": torch.cat([state["indicator"], indicator[None]]),
        }
        ratio = state["ratio"]
        b = self.window
        if len(history["train"]) >= 2 * b:
            change = {key: losses[-1] - losses[-2 * b : -b].mean(dim=0) for key, losses in history.items()}
            still = change["train"].abs() < EPS
            latest = change["indicator"] / torch.where(still, torch.ones_like(ratio), change["train"])
            # a task that no longer moves, or whose held-out loss is not finite, keeps its last V
            ratio = torch.where(still | ~latest.isfinite(), ratio, latest)
        return {**state, **history, "ratio": ratio, "ratio_before": state["ratio"]}

    def admit(self, state: State, fresh: State, known: Sequence[int]) -> State:
        """A task that enters has no losses of earlier epochs: V is 1 until 2 x window epochs of its own are done."""
        admission = super().admit(state, fresh, known)
        for name in ("ratio", "ratio_before"):
            admission[name] = admitted(state[name], fresh[name], known)
        for name in ("train", "indicator"):
            nothing = torch.full((len(state[name]), len(fresh["ratio"])), torch.nan, dtype=torch.float64)
            admission[name] = admitted(state[name], nothing, known, dim=1)
        return admission

    def weight_decay(self, state: State) -> float:
        """decay_n = decay * sigmoid(-mean_k V_{n-1}) (Eq. 21)."""
        if not self.adaptive_decay:
            return self.decay
        return self.decay * float(torch.sigmoid(-state["ratio_before"].mean()))

    def telemetry(self, state: State) -> dict[str, list[float]]:
        """V and beta of each task, and the decay."""
        return {
            "ratio": state["ratio"].tolist(),
            "beta": self.rates(state).tolist(),
            "decay": [self.weight_decay(state)],
        }
