"""What the ranking losses share: they serve levels and real values alike, beside a pointwise loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from mimstocr.losses.approx_ndcg import Form, level_scores
from mimstocr.losses.base import Kind, Loss
from mimstocr.losses.cross_entropy import cross_entropy
from mimstocr.losses.mse import mse


class Ranking(Loss):
    """pointwise * (cross-entropy or squared error) + (1 - pointwise) * ranking, for levels or for values.

    For levels that is Equation 9 of MiM-StocR with another ranking term; the scores that are ranked are the
    expected relevances. For values it is the form of RSR's loss; the outputs themselves are ranked.
    """

    targets: ClassVar[tuple[Kind, ...]] = ("value", "level")

    pointwise: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the pointwise part, cross-entropy of levels or squared error of values; the ranking has the rest."""
    relevance: Form = "square"
    """A level's worth: "square" of it, as in `approx_ndcg`, or "linear"."""

    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The weighted sum of both parts of each day, (days,); a float target is a value, an integer a level."""
        if target.is_floating_point():
            alone = mse(output, target, valid)
            f, w = output, self.worth(target.to(output.dtype), valid)
        else:
            alone = cross_entropy(output, target, valid)
            f, w = level_scores(output, target, valid, self.relevance)
        return self.pointwise * alone + (1 - self.pointwise) * self.ranking(f, w, valid)

    @abstractmethod
    def ranking(self, f: Tensor, w: Tensor, valid: Tensor) -> Tensor:
        """The ranking part of each day, (days,), from scores, what they should rank, and the mask (days, stocks)."""

    def worth(self, values: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        """What the scores should rank where the target is a real value, (days, stocks): the value itself."""
        return values
