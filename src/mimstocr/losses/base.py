"""The contract of a loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from mimstocr.components import Component, Registry, component_field


class Loss(Component):
    """What the model is punished for, one value per day.

    `targets` says what it can be given: for a "value", outputs (days, stocks) and real targets; for a "level",
    logits (days, stocks, levels) and integer levels 0 (lowest) .. levels - 1. A loss of both kinds tells them
    apart by the type of the target, float or integer.
    """

    targets: ClassVar[tuple[Literal["value", "level"], ...]]

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss of each day, (days,).

        output: (days, stocks) or (days, stocks, levels). target: (days, stocks), float or int64. valid: bool
        (days, stocks). What stands where `valid` is false, NaN included, changes neither value nor gradient.
        A day without a valid stock gives 0 and no gradient. Raises ValueError on unequal shapes.
        """

    def diagnostics(self, target: Tensor, valid: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """What is worth recording of each day's targets, name to (days,), such as the k of a cut NDCG."""
        return {}


LOSSES: Registry[type[Loss]] = Registry("loss", "mimstocr.losses")

AnyLoss = Annotated[Loss, *component_field(LOSSES)]
