"""Balancers whose mathematics is TorchJD's, in our contract: float64, and finite for gradients of any scale.

TorchJD takes seconds to import, so it is imported in the first step that needs it. Its stateful scalarizers (UW, DWA,
FAMO) keep their state inside a module and its RLW is one line, so ours stand on their own; its MGDA stops at a hundred
steps of Frank-Wolfe, so ours is solved exactly.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._gram import GramBalancer, directions
from mimstocr.balancing.base import BALANCERS, Balancer, State


@BALANCERS.register("pcgrad")
class PcGrad(GramBalancer):
    """PCGrad: each gradient loses its part against every gradient it conflicts with (Yu et al. 2020).

    The others are gone through in random order; the step is the sum of what is left.
    """

    random = True

    def solve(self, gram: Tensor) -> Tensor:
        """The weights of the sum of the projected gradients (Algorithm 1)."""
        from torchjd.aggregation import PCGradWeighting

        return PCGradWeighting()(gram)


@BALANCERS.register("imtl_g")
class ImtlG(GramBalancer):
    """IMTL-G: the step has the same projection on every task gradient (Liu et al. 2021).

    The weights of the gradients add up to 1, as published. From three tasks on some can be negative, and that sum
    pass 0, where the step would explode and turn around; their absolute values add up to 1 then.
    """

    def solve(self, gram: Tensor) -> Tensor:
        """The weights that give equal projections on the unit gradients; a zero gradient has no say."""
        from torchjd.aggregation import IMTLGWeighting

        cosines, inverse = directions(gram)
        weight = IMTLGWeighting()(cosines) * inverse
        return weight / weight.abs().sum().clamp_min(torch.finfo(weight.dtype).tiny)


@BALANCERS.register("aligned_mtl")
class AlignedMtl(GramBalancer):
    """Aligned-MTL: the gradients' principal components brought to one length, the least (Senushkin et al. 2023).

    The aligned gradients are added with weight 1 each.
    """

    def solve(self, gram: Tensor) -> Tensor:
        """The weights of the sum of the aligned gradients (Algorithm 1); components that are null are left out."""
        from torchjd.aggregation import AlignedMTLWeighting

        return AlignedMTLWeighting(pref_vector=gram.new_ones(len(gram)))(gram)


@BALANCERS.register("graddrop")
class GradDrop(Balancer):
    """GradDrop: each value of the update keeps one sign, drawn by how much the tasks agree on it (Chen et al. 2020).

    With purity P = (1 + sum_k g_k / sum_k |g_k|) / 2, a value keeps its positive parts with chance P, else its
    negative ones. On the gradients of the shared parameters (the paper: of a layer's outputs).
    """

    reads = "gradients"
    random = True

    leak: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of every gradient that passes whatever is drawn (paper: 0 but for a task that must not be dropped)."""

    def update(self, gradients: Tensor, losses: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """The sum of what is kept."""
        from torchjd.aggregation import GradDrop as Drop

        return Drop(leak=gradients.new_full((len(gradients),), self.leak))(gradients), state
