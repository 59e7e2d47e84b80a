"""How wrong a model is, one value per day.

Each loss is a pure function of tensors (the mathematics) and a component around it (its settings).
"""

from mimstocr.losses.base import LOSSES, AnyLoss, Kind, Loss

__all__ = ["LOSSES", "AnyLoss", "Kind", "Loss"]
