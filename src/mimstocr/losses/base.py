"""The contract of a loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from mimstocr.components import Component, Registry, component_field

Kind = Literal["value", "level", "event", "scale", "position"]
"""What a task asks for and a loss is given, each with a mask (days, stocks).

"value": outputs (days, stocks) and real targets. "level": logits (days, stocks, levels) and int64 levels, 0 (lowest)
.. levels - 1. "event": outputs (days, stocks) that are the logits of a probability, and float targets, 1 where it
happened and 0 where not. "scale": outputs (days, stocks) and targets that are natural logarithms of a quantity above
0, such as a volatility. To a loss of a "value" such logarithms are real values like any other, so it serves a task
that asks for a "scale" as well, without naming it.
"""


class Loss(Component):
    """What the model is punished for, one value per day.

    `targets` says what it can be given: a "level", one of the other kinds, or both, which the type of the target,
    integer or float, tells apart.
    """

    targets: ClassVar[tuple[Kind, ...]]
    sequential: ClassVar[bool] = False
    """True: the days must follow one another and a column be the same stock on all of them, as the loss follows an
    account through them; such a loss needs training.order: blocks. False: each day stands alone."""

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The loss of each day, (days,).

        output: (days, stocks), (days, stocks, levels) or (days, stocks + 1), as the kind of target says. target:
        (days, stocks), float or int64. valid: bool (days, stocks). What stands where `valid` is false, NaN included,
        changes neither value nor gradient. A day without a valid stock gives 0 and no gradient. Where `sequential`, the
        loss is the mean of the values of the days with a valid stock. Raises ValueError on unequal shapes.
        """

    def diagnostics(self, target: Tensor, valid: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """What is worth recording of each day's targets, name to (days,), such as the k of a cut NDCG."""
        return {}


LOSSES: Registry[type[Loss]] = Registry("loss", "mimstocr.losses")

AnyLoss = Annotated[Loss, *component_field(LOSSES)]
